"""YAML → frozen, checked dataclasses. Nothing here starts, opens or sends anything."""

from fairshare_locust.profile.load import load_profile, parse_profile, resolved_yaml
from fairshare_locust.profile.model import Profile, Tenant
from fairshare_locust.profile.transform import only_tenants, scaled, with_duration, with_endpoint, with_slots

__all__ = [
    "Profile",
    "Tenant",
    "load_profile",
    "only_tenants",
    "parse_profile",
    "resolved_yaml",
    "scaled",
    "with_duration",
    "with_endpoint",
    "with_slots",
]
