"""How a profile's dataclasses say what a value may be; the reader checks it, `resolved` prints it.

A field's type says its kind, `allow` its limits:

    rate_per_s: float = allow(above=0)

Supported types: str, int, float, bool, `int | str`, Path (an existing file), Literal of strings, `X | None`,
`tuple[X, ...]`, `dict[str, X]` of a plain X, of another such `dict`, or of Any (plain data that is checked where it is
used), another dataclass, and a union of dataclasses told apart by their one-valued Literal field.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, field
from typing import Any, Protocol, runtime_checkable

__all__ = ["Checked", "Filled", "Limits", "allow", "near"]


class Limits:
    """What a value may be, beyond its type."""

    def __init__(
        self,
        *,
        above: float | None = None,
        at_least: float | None = None,
        at_most: float | None = None,
        pattern: str | None = None,
        pattern_means: str | None = None,
        or_one: bool = False,
        shorthand: str | None = None,
    ) -> None:
        self.above = above
        self.at_least = at_least
        self.at_most = at_most
        self.pattern = pattern
        self.pattern_means = pattern_means
        self.or_one = or_one
        self.shorthand = shorthand

    def describe(self, kind: str) -> str:
        """`a number greater than 0`: the limits in words after the kind of value."""
        parts = []
        if self.above is not None:
            parts.append(f"greater than {self.above:.15g}")
        if self.at_least is not None:
            parts.append(f"at least {self.at_least:.15g}")
        if self.at_most is not None:
            parts.append(f"at most {self.at_most:.15g}")
        return f"{kind}, {' and '.join(parts)}" if parts else kind

    def admits(self, value: float) -> bool:
        """Whether a number lies inside the limits."""
        return (
            (self.above is None or value > self.above)
            and (self.at_least is None or value >= self.at_least)
            and (self.at_most is None or value <= self.at_most)
        )


def allow(default: Any = MISSING, *, factory: Any = MISSING, **limits: Any) -> Any:
    """A dataclass field with limits (the keywords of `Limits`).

    `or_one` lets a tuple be written as its only element; `shorthand` names the tag of the union's member
    that a bare number stands for.
    """
    metadata = {"limits": Limits(**limits)}
    if factory is not MISSING:
        return field(default_factory=factory, metadata=metadata)
    if default is not MISSING:
        return field(default=default, metadata=metadata)
    return field(metadata=metadata)


@runtime_checkable
class Checked(Protocol):
    """A dataclass with rules that need more than one of its values."""

    def check(self) -> Iterator[tuple[str, str]]:
        """Yield (key, problem) for each rule that is broken; key is relative, empty for the whole."""
        ...


@runtime_checkable
class Filled(Protocol):
    """A dataclass, the class itself, that has defaults which depend on what is given."""

    def fill(self, values: dict[str, Any]) -> dict[str, Any]:
        """All that was read, and what follows from it. Raises nothing: `check` tells what is wrong."""
        ...


def near(word: str, names: Iterable[str]) -> str:
    """`; did you mean 'rate_per_s'?` where one of the names is a near miss, else nothing."""
    close = difflib.get_close_matches(word, list(names), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""
