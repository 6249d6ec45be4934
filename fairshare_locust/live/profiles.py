"""What the web form may ask for: a listed profile, scale, seed and endpoint, and Locust's own few fields."""

from __future__ import annotations

import math
import re
from argparse import Namespace
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from locust.util.timespan import parse_timespan

from fairshare_locust.client.endpoint import Endpoint
from fairshare_locust.errors import FairshareError
from fairshare_locust.options import Options

__all__ = ["FORM_FIELDS", "Settings", "checked_form", "profile_choices"]

FORM_FIELDS = ("fairshare_profile", "fairshare_scale", "fairshare_seed", "host")
"""Our fields of the form; the endpoint is Locust's field `host`."""

_LOCUST_FIELDS = ("user_count", "spawn_rate", "run_time", "profile", "user_classes", "shape_class")
_MOST_USERS = 100_000
_LONGEST_RUN_S = 30 * 24 * 3600
_LONGEST_TEXT = 2000


@dataclass(frozen=True)
class Settings:
    """What the form asks for, checked. None: the field was not posted, or left empty; the profile's own value holds."""

    profile: Path | None = None
    scale: float | None = None
    seed: int | None = None
    endpoint: str | None = None


def profile_choices(folder: Path, started_with: Path | None = None) -> dict[str, Path]:
    """The profiles that the form offers, by the text that stands for each: `folder`'s YAML files, by name.

    The texts are paths as the command line takes them, since a posted value takes the place of the option's.

    Args:
        folder: where profiles stand; none are offered when it can't be read.
        started_with: the profile the command line names, offered first wherever it stands.
    """
    try:
        found = sorted(path for path in folder.glob("*.yaml") if path.is_file() and not path.name.startswith("."))
    except OSError:
        found = []
    if started_with is not None:
        same = started_with.resolve()
        found = [started_with, *(path for path in found if path.resolve() != same)]
    return {str(path): path for path in found}


def checked_form(
    values: Mapping[str, object], choices: Mapping[str, Path], other_fields: Collection[str] = ()
) -> Settings:
    """What was posted to start a run, checked before anything of it takes effect.

    Args:
        values: the fields by name, as they came.
        choices: the profiles on offer, from `profile_choices`.
        other_fields: fields that others put into the form; their values are theirs to check.

    Raises:
        FairshareError: naming the field, the value and what is allowed, for the page to show.
    """
    allowed = {*FORM_FIELDS, *_LOCUST_FIELDS, *other_fields}
    unknown = sorted(_shown(str(name)) for name in values if name not in allowed)
    if unknown:
        raise FairshareError(f"field {unknown[0]}: the form has no such field; start the run from the form")
    texts = {name: _text(name, values[name]) for name in (*FORM_FIELDS, *_LOCUST_FIELDS) if name in values}

    profile = texts.get("fairshare_profile")
    if profile and profile not in choices:
        raise FairshareError(f"profile: found {_shown(profile)}; must be one of {', '.join(choices) or 'none'}")
    _check_load(texts)
    # The same check as the command line's: the posted text takes the place of the option's value.
    options = Options.of(
        Namespace(
            fairshare_profile=profile,
            fairshare_out="",
            fairshare_scale=texts.get("fairshare_scale") or "1",
            fairshare_seed=texts.get("fairshare_seed", ""),
            fairshare_no_report=False,
            fairshare_strict=False,
        )
    )
    return Settings(
        profile=choices[profile] if profile else None,
        scale=options.scale if texts.get("fairshare_scale") else None,
        seed=options.seed,
        endpoint=_endpoint(texts.get("host", "")),
    )


def _shown(value: str) -> str:
    """A value quoted for a message, cut when it is long."""
    return repr(value if len(value) <= 60 else f"{value[:59]}…")


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise FairshareError(f"{name}: found a {type(value).__name__}; must be text")
    if len(value) > _LONGEST_TEXT:
        raise FairshareError(f"{name}: found {len(value)} characters; at most {_LONGEST_TEXT} are allowed")
    return value


def _endpoint(url: str) -> str | None:
    if not url:
        return None
    if "<" in url or ">" in url:  # Locust would take them out, and another URL be used than the one checked
        raise FairshareError(f"host: found {_shown(url)}; an endpoint has no < or >")
    return Endpoint.parse(url).url


def _check_load(texts: Mapping[str, str]) -> None:
    """Locust's own fields: bounded, as a huge number would keep the process busy for good."""
    users = texts.get("user_count")
    if users is not None and not (re.fullmatch(r"[0-9]{1,9}", users) and 1 <= int(users) <= _MOST_USERS):
        raise FairshareError(f"users: found {_shown(users)}; must be a whole number from 1 to {_MOST_USERS}")
    rate = texts.get("spawn_rate")
    if rate is not None and not 0 < _number(rate) <= _MOST_USERS:
        raise FairshareError(f"ramp up: found {_shown(rate)}; must be more than 0 and at most {_MOST_USERS} users/s")
    run_time = texts.get("run_time")
    if run_time:
        try:
            length_s = parse_timespan(run_time) if len(run_time) <= 30 else 0
        except ValueError:
            length_s = 0
        if not 0 < length_s <= _LONGEST_RUN_S:
            raise FairshareError(
                f"run time: found {_shown(run_time)}; must be a time such as 90, 90s, 5m or 1h30m, of at most 30 days"
            )


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
