"""Prefix caches of servers that run already are emptied between cells; those that we start begin empty."""

from __future__ import annotations

import http.client
import os
from collections.abc import Iterator
from urllib.parse import urlsplit

from fairshare_locust.profile import Profile

__all__ = ["reset_prefix_caches"]

_WITHIN_S = 30.0
_PATH = "/reset_prefix_cache"  # vLLM has it in its development mode


def reset_prefix_caches(profile: Profile) -> list[str]:
    """Ask each server of the profile to forget its prefixes; what there is to tell of those that did not."""
    return [note for url, key in _servers(profile).items() if (note := _reset(url, key))]


def _servers(profile: Profile) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for tenant in profile.tenants:
        for url in tenant.endpoint or _host():
            found.setdefault(url, tenant.api_key_env)
    return found


def _host() -> Iterator[str]:
    if host := os.environ.get("LOCUST_HOST"):
        yield host


def _reset(url: str, key_variable: str | None) -> str:
    parts = urlsplit(url)
    secret = os.environ.get(key_variable, "") if key_variable else ""
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    server = kind(parts.hostname or "", parts.port, timeout=_WITHIN_S)
    try:
        server.request("POST", _PATH, headers={"Authorization": f"Bearer {secret}"} if secret else {})
        status = server.getresponse().status
        why = "" if status == 200 else f"POST {_PATH} is answered with {status}"
    except (OSError, http.client.HTTPException) as error:
        why = f"POST {_PATH}: {error}"
    finally:
        server.close()
    if not why:
        return ""
    return (
        f"{parts.netloc}: its prefix cache can't be emptied ({why}); what one run left in it, the next one finds "
        "(vLLM: set VLLM_SERVER_DEV_MODE=1, or turn prefix caching off)"
    )
