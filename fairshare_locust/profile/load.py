"""Loading a profile, and printing it with every default."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import yaml

from fairshare_locust.errors import ProfileError
from fairshare_locust.profile.model import Profile
from fairshare_locust.profile.reader import Reader

__all__ = ["load_profile", "parse_profile", "resolved_yaml", "yaml_text"]

_TAGS = ("process", "source", "distribution", "by")  # they come first, as they say what the others mean


def load_profile(path: Path | str) -> Profile:
    """The profile of a YAML file. Raises ProfileError with every problem in it."""
    path = Path(path)
    text = yaml_text(path, "a profile", "name a profile with --fairshare-profile")
    return parse_profile(text, source=str(path), folder=path.parent)


def yaml_text(path: Path, what: str, fix: str) -> str:
    """The text of a file that is `what`. Raises ProfileError, with `fix` where there is none to be read."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ProfileError([f"{path}: can't be read: {error.strerror}; {fix}"]) from error
    except UnicodeDecodeError as error:
        raise ProfileError([f"{path}: not UTF-8 text (byte {error.start}); {what} is a YAML file"]) from error


def parse_profile(text: str, *, source: str, folder: Path) -> Profile:
    """The profile of YAML text; `source` names it in errors, relative paths start at `folder`.

    Raises ProfileError with every problem in it.
    """
    reader = Reader(source, folder)
    profile = reader.read(text, Profile)
    if reader.problems:
        raise ProfileError(reader.problems)
    assert isinstance(profile, Profile)
    return profile


def resolved_yaml(profile: Profile) -> str:
    """The profile as YAML with every default; loads to an equal profile. It holds no secret, as a profile can't."""
    return yaml.safe_dump(_plain(profile), sort_keys=False, allow_unicode=True, default_flow_style=None, width=120)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
        tags = [name for name in names if name in _TAGS]
        return {name: _plain(getattr(value, name)) for name in tags + [name for name in names if name not in tags]}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return dict(value)
    return str(value) if isinstance(value, Path) else value
