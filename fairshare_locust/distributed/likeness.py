"""Likeness: whether two processes would send the same requests: the same package, the same data, the same prompts."""

from __future__ import annotations

import dataclasses
import hashlib
import platform
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fairshare_locust import __version__
from fairshare_locust.profile import Profile

__all__ = ["differences", "file_digest", "package_versions", "profile_files"]

# What draws the arrivals and makes the prompts; another one may draw or make others.
_PACKAGES = ("locust", "numpy", "tokenizers")
_MOST_DIFFERENCES = 10


@cache
def package_versions() -> dict[str, str]:
    """This process's packages, as far as requests and records depend on them."""
    return {
        "fairshare_locust": f"{__version__} (code {_code_digest()})",
        **{name: version(name) for name in _PACKAGES},
        "python": ".".join(platform.python_version_tuple()[:2]),
    }


def _code_digest() -> str:
    """Of our own modules: two checkouts of one version may differ."""
    folder = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(str(path.relative_to(folder)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:8]


def profile_files(profile: Profile) -> list[tuple[str, Path]]:
    """The files that a profile names, each with the key that names it first."""
    found: dict[Path, str] = {}
    for key, path in _paths(profile, ""):
        found.setdefault(path, key)
    tokenizer = Path(profile.model.tokenizer).expanduser()
    if tokenizer.is_dir():
        tokenizer = tokenizer / "tokenizer.json"
    if tokenizer.is_file():
        found.setdefault(tokenizer, "model.tokenizer")
    return [(key, path) for path, key in found.items()]


def _paths(value: Any, key: str) -> Iterator[tuple[str, Path]]:
    if isinstance(value, Path):
        yield key, value
    elif isinstance(value, tuple):
        for place, item in enumerate(value):
            yield from _paths(item, f"{key}[{place}]")
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _paths(getattr(value, field.name), f"{key}.{field.name}" if key else field.name)


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal. Raises OSError."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def differences(ours: Any, theirs: Any) -> list[str]:
    """Where two plain values (of dictionaries, lists, texts, numbers) differ: `key: theirs there, ours here`."""
    found = list(_differences(ours, theirs, ""))
    more = len(found) - _MOST_DIFFERENCES
    return [*found[:_MOST_DIFFERENCES], f"and {more} more"] if more > 0 else found


def _differences(ours: Any, theirs: Any, key: str) -> Iterator[str]:
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        for name in dict.fromkeys([*ours, *theirs]):
            below = f"{key}.{name}" if key else str(name)
            yield from _differences(ours.get(name, _MISSING), theirs.get(name, _MISSING), below)
    elif _is_list(ours) and _is_list(theirs) and len(ours) == len(theirs):
        for place, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            yield from _differences(one, other, f"{key}[{place}]")
    elif ours != theirs:
        yield f"{key}: {_shown(theirs)} there, {_shown(ours)} here"


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


_MISSING = object()


def _shown(value: Any) -> str:
    if value is _MISSING:
        return "nothing"
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
