"""YAML text → checked dataclasses, with every problem found on the way."""

from __future__ import annotations

import dataclasses
import math
import re
import types
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml

from fairshare_locust.profile.schema import Checked, Filled, Limits, near

__all__ = ["Reader"]

_FAILED: Any = object()  # a value that could not be read; the problem is noted already
_NO_LIMITS = Limits()


class _Unread:
    """Stands for a value that could not be read, in rules that look at several: none can be applied to it."""

    def _refuse(self, *_: object) -> Any:
        raise TypeError("this value could not be read")

    __bool__ = __eq__ = __lt__ = __le__ = __gt__ = __ge__ = __iter__ = _refuse
    __format__ = __repr__ = __getattr__ = _refuse
    __hash__ = None  # type: ignore[assignment]


_UNREAD: Any = _Unread()
_MERGE = "tag:yaml.org,2002:merge"


class Reader:
    """Reads one file into dataclasses, collecting problems as `file:line: key path: found; allowed`."""

    def __init__(self, source: str, folder: Path) -> None:
        self.source = source
        self.folder = folder
        self.problems: list[str] = []
        self._lines: dict[str, int] = {}
        self._partial: dict[str, Any] = {}  # what could be read of a value that failed, by its path
        self._loader = yaml.SafeLoader("")

    def read(self, text: str, into: type[Any]) -> Any:
        """An `into`, or None if there were problems."""
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.YAMLError as error:
            self.problems.append(self._yaml_problem(error))
            return None
        except RecursionError:
            self.problems.append(f"{self.source}: nested too deeply to be a profile")
            return None
        if node is None:
            self.problems.append(f"{self.source}: the file is empty; allowed: {_words(_keys(into))}")
            return None
        value = self._dataclass(node, into, "")
        return None if value is _FAILED or self.problems else value

    def _yaml_problem(self, error: yaml.YAMLError) -> str:
        mark = getattr(error, "problem_mark", None)
        what = " ".join(str(getattr(error, "problem", None) or error).split())
        where = f"{self.source}:{mark.line + 1}" if mark else self.source
        return f"{where}: not YAML: {what}"

    def _problem(self, node: yaml.Node, path: str, message: str) -> Any:
        line = f":{node.start_mark.line + 1}" if node.start_mark else ""
        self.problems.append(f"{self.source}{line}: {path + ': ' if path else ''}{message}")
        return _FAILED

    # --- mappings

    def _entries(self, node: yaml.Node, path: str, or_null: str = "") -> dict[str, tuple[yaml.Node, yaml.Node]] | None:
        """Key → (key node, value node); duplicate keys are problems. Merge keys (<<) are resolved."""
        if not isinstance(node, yaml.MappingNode):
            found = _found(node, self._scalar(node))
            self._problem(node, path, f"found {found}; must be a mapping of keys to values{or_null}")
            return None
        seen: dict[str, int] = {}
        for key_node, value_node in node.value:
            key = _key(key_node)
            if key_node.tag == _MERGE:
                self._check_merge(node, value_node, _join(path, key))
            elif key in seen:
                self._problem(key_node, _join(path, key), f"found twice; the first is on line {seen[key]}")
            else:
                seen[key] = key_node.start_mark.line + 1
        return _merged(node)

    def _check_merge(self, node: yaml.Node, merged: yaml.Node, path: str) -> None:
        for base in merged.value if isinstance(merged, yaml.SequenceNode) else [merged]:
            if not isinstance(base, yaml.MappingNode):
                found = _found(base, self._scalar(base))
                self._problem(base, path, f"found {found}; must be a mapping or a list of mappings")
            elif base is node:
                self._problem(base, path, "found the mapping itself; must be another one")

    def _dataclass(self, node: yaml.Node, into: type[Any], path: str, or_null: str = "") -> Any:
        entries = self._entries(node, path, or_null)
        if entries is None:
            return _FAILED
        hints = typing.get_type_hints(into)
        fields = {field.name: field for field in dataclasses.fields(into)}
        for key, (key_node, _) in entries.items():
            if key not in fields:
                self._problem(key_node, _join(path, key), f"unknown key; allowed: {_words(fields)}{near(key, fields)}")
        values: dict[str, Any] = {}
        for name, field in fields.items():
            at = _join(path, name)
            if name in entries:
                value_node = entries[name][1]
                self._lines[at] = value_node.start_mark.line + 1
                values[name] = self._value(value_node, hints[name], field.metadata.get("limits", _NO_LIMITS), at)
            elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
                values[name] = self._problem(
                    node,
                    at,
                    f"missing; must be {self._allowed(hints[name], field.metadata.get('limits', _NO_LIMITS))}",
                )
        if isinstance(into, Filled):
            values = into.fill({name: value for name, value in values.items() if value is not _FAILED}) | values
        if any(value is _FAILED for value in values.values()):
            self._partial[path] = partial = self._make_partial(into, values, path)
            self._check(partial, node, path)
            return _FAILED
        made = into(**values)
        self._check(made, node, path)
        return made

    def _make_partial(self, into: type[Any], values: dict[str, Any], path: str) -> Any:
        """An `into` with the values that could be read, so that its rules can be checked as far as they go."""
        partial = object.__new__(into)
        field: Any
        for field in dataclasses.fields(into):
            value = values.get(field.name, field.default)
            if value is _FAILED:
                value = self._partial.get(_join(path, field.name), _FAILED)
            if value is dataclasses.MISSING and field.default_factory is not dataclasses.MISSING:
                value = field.default_factory()
            unread = value is _FAILED or value is dataclasses.MISSING
            object.__setattr__(partial, field.name, _UNREAD if unread else value)
        return partial

    def _check(self, made: Any, node: yaml.Node, path: str) -> None:
        if not isinstance(made, Checked):
            return
        try:
            for key, message in made.check():
                at = _join(path, key) if key else path
                line = self._lines.get(at, node.start_mark.line + 1)
                self.problems.append(f"{self.source}:{line}: {at + ': ' if at else ''}{message}")
        except (AttributeError, TypeError):
            if not self.problems:
                raise
            # Something that the next rule looks at could not be read, and has been told.

    # --- values

    def _value(self, node: yaml.Node, hint: Any, limits: Limits, path: str) -> Any:
        options = _options(hint)
        or_null = ""
        if types.NoneType in options:
            if self._scalar(node) is None and isinstance(node, yaml.ScalarNode):
                return None
            or_null = " or null"
            options = [option for option in options if option is not types.NoneType]
        classes: list[Any] = [option for option in options if dataclasses.is_dataclass(option)]
        if len(classes) > 1:
            return self._union(node, classes, limits, path, or_null)
        if classes:
            return self._dataclass(node, classes[0], path, or_null)
        if options == [int, str]:  # a number that is not quoted is one
            options = [int if isinstance(self._scalar(node), int) else str]
        [kind] = options
        if get_origin(kind) is tuple:
            return self._tuple(node, get_args(kind)[0], limits, path)
        if get_origin(kind) is dict:
            return self._mapping(node, get_args(kind)[1], path)
        return self._plain(node, kind, limits, path, or_null)

    def _plain(self, node: yaml.Node, kind: Any, limits: Limits, path: str, or_null: str = "") -> Any:
        value = self._scalar(node)
        wrong = f"found {_found(node, value)}; must be {self._allowed(kind, limits)}{or_null}"
        if get_origin(kind) is Literal:
            choices = get_args(kind)
            hint = near(value, choices) if isinstance(value, str) else ""
            return value if value in choices else self._problem(node, path, wrong + hint)
        if kind is bool:
            return value if isinstance(value, bool) else self._problem(node, path, wrong)
        if kind in (int, float):
            return self._number(node, value, kind, limits, path, wrong)
        if not isinstance(value, str) or (limits.pattern and not re.fullmatch(limits.pattern, value)):
            return self._problem(node, path, wrong)
        if kind is Path:
            return self._file(node, value, path)
        return value

    def _number(self, node: yaml.Node, value: Any, kind: type, limits: Limits, path: str, wrong: str) -> Any:
        if isinstance(value, str) and _is_number(value):
            wrong += f" (YAML reads {value!r} as text: write {float(value):.15g} without quotes or exponent)"
        if isinstance(value, bool) or not isinstance(value, int | float) or not _is_number(value):
            return self._problem(node, path, wrong)
        if kind is int and value != int(value):
            return self._problem(node, path, wrong)
        return kind(value) if limits.admits(value) else self._problem(node, path, wrong)

    def _file(self, node: yaml.Node, value: str, path: str) -> Any:
        try:
            file = (self.folder / Path(value).expanduser()).resolve()
        except (ValueError, RuntimeError) as error:  # a NUL; the home of a user who has none
            return self._problem(node, path, f"found {value!r}; it can't be read: {error}")
        try:
            with open(file, "rb"):
                return file
        except OSError as error:
            return self._problem(node, path, f"found {value!r}; {file} can't be read: {error.strerror}")

    def _tuple(self, node: yaml.Node, item: Any, limits: Limits, path: str) -> Any:
        if not isinstance(node, yaml.SequenceNode):
            if limits.or_one:
                value = self._value(node, item, limits, path)
                return value if value is _FAILED else (value,)
            return self._problem(node, path, f"found {_found(node, self._scalar(node))}; must be a list")
        self._lines |= {f"{path}[{i}]": child.start_mark.line + 1 for i, child in enumerate(node.value)}
        items = [self._value(child, item, limits, f"{path}[{i}]") for i, child in enumerate(node.value)]
        if any(value is _FAILED for value in items):
            self._partial[path] = tuple(
                self._partial.get(f"{path}[{i}]", _UNREAD) if value is _FAILED else value
                for i, value in enumerate(items)
            )
            return _FAILED
        return tuple(items)

    def _mapping(self, node: yaml.Node, kind: Any, path: str) -> Any:
        entries = self._entries(node, path)
        if entries is None:
            return _FAILED
        self._lines |= {_join(path, key): value.start_mark.line + 1 for key, (_, value) in entries.items()}
        if kind is Any:
            return self._anything(node, path)
        values = {key: self._of_mapping(value, kind, _join(path, key)) for key, (_, value) in entries.items()}
        return _FAILED if any(value is _FAILED for value in values.values()) else values

    def _of_mapping(self, node: yaml.Node, kind: Any, path: str) -> Any:
        if get_origin(kind) is dict:
            return self._mapping(node, get_args(kind)[1], path)
        return self._plain(node, kind, _NO_LIMITS, path)

    def _anything(self, node: yaml.Node, path: str) -> Any:
        """Plain data, unchecked: it is a part of something that is read later."""
        try:
            return self._loader.construct_object(node, deep=True)
        except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError) as error:
            what = " ".join(str(getattr(error, "problem", None) or error).split())
            return self._problem(node, path, f"not YAML: {what}")

    def _union(self, node: yaml.Node, classes: list[Any], limits: Limits, path: str, or_null: str = "") -> Any:
        tag_key = _tag_key(classes)
        by_tag = {_tag(option, tag_key): option for option in classes}
        value = self._scalar(node)
        if limits.shorthand and isinstance(value, int | float) and not isinstance(value, bool):
            option = by_tag[limits.shorthand]
            kind = typing.get_type_hints(option)["value"]
            number = self._value(node, kind, option.__dataclass_fields__["value"].metadata["limits"], path)
            return _FAILED if number is _FAILED else option(value=number)
        if not isinstance(node, yaml.MappingNode):
            allowed = self._allowed_union(classes, limits) + or_null
            return self._problem(node, path, f"found {_found(node, value)}; must be {allowed}")
        entries = _merged(node)
        if tag_key in entries:
            tag_node = entries[tag_key][1]
            tag = self._scalar(tag_node)
            if isinstance(tag, str) and tag in by_tag:
                return self._dataclass(node, by_tag[tag], path)
            hint = near(tag, by_tag) if isinstance(tag, str) else ""
            wrong = f"found {_found(tag_node, tag)}; must be one of {_words(by_tag)}{hint}"
            return self._problem(tag_node, _join(path, tag_key), wrong)
        hint = next(filter(None, (near(key, [tag_key]) for key in entries)), "")
        return self._problem(node, _join(path, tag_key), f"missing; must be one of {_words(by_tag)}{hint}")

    def _scalar(self, node: yaml.Node) -> Any:
        if not isinstance(node, yaml.ScalarNode):
            return None
        try:
            return self._loader.construct_object(node)
        except (yaml.YAMLError, ValueError, LookupError, AttributeError):  # what a scalar raises that belies its tag
            return node.value

    # --- words

    def _allowed(self, hint: Any, limits: Limits) -> str:
        options = _options(hint)
        names = []
        classes: list[Any] = [option for option in options if dataclasses.is_dataclass(option)]
        if len(classes) > 1:
            names.append(self._allowed_union(classes, limits))
        elif classes:
            names.append("a mapping of keys to values")
        for option in options:
            if option is types.NoneType or option in classes:
                continue
            if get_origin(option) is Literal:
                choices = get_args(option)
                names.append(f"one of {_words(choices)}" if len(choices) > 1 else choices[0])
            elif get_origin(option) is tuple:
                names.append("a list")
            elif get_origin(option) is dict:
                names.append("a mapping of keys to values")
            elif option is int or option is float:
                names.append(limits.describe("a whole number" if option is int else "a number"))
            else:
                words = {bool: "true or false", Path: "the path of a file"}
                names.append(limits.pattern_means or words.get(option, "text"))
        if types.NoneType in options:
            names.append("null")
        return " or ".join(names)

    def _allowed_union(self, classes: list[Any], limits: Limits) -> str:
        tag_key = _tag_key(classes)
        number = "a number or " if limits.shorthand else ""
        return f"{number}a mapping with {tag_key}: one of {_words(_tag(option, tag_key) for option in classes)}"


def _key(node: yaml.Node) -> str:
    return str(getattr(node, "value", ""))


def _merged(node: yaml.MappingNode, inside: tuple[yaml.Node, ...] = ()) -> dict[str, tuple[yaml.Node, yaml.Node]]:
    """Key → (key node, value node) with merge keys resolved: a mapping's own keys go first, then the bases' in order.

    PyYAML would write the merged keys into the node, which then has them twice where an alias brings it again.
    """
    entries = {_key(key): (key, value) for key, value in node.value if key.tag != _MERGE}
    for key, value in node.value:
        if key.tag == _MERGE:
            for base in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                if isinstance(base, yaml.MappingNode) and base is not node and base not in inside:
                    entries = {**_merged(base, (*inside, node)), **entries}
    return entries


def _options(hint: Any) -> list[Any]:
    return list(get_args(hint)) if get_origin(hint) in (typing.Union, types.UnionType) else [hint]


def _tag_key(classes: list[Any]) -> str:
    """The field that tells the members of a union apart: a Literal of one value in each."""
    hints = typing.get_type_hints(classes[0])
    return next(name for name, hint in hints.items() if get_origin(hint) is Literal and len(get_args(hint)) == 1)


def _tag(option: Any, tag_key: str) -> str:
    return str(get_args(typing.get_type_hints(option)[tag_key])[0])


def _keys(into: type[Any]) -> list[str]:
    return [field.name for field in dataclasses.fields(into)]


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _words(names: Iterable[Any]) -> str:
    return ", ".join(map(str, names))


def _is_number(value: str | float) -> bool:
    try:
        return math.isfinite(float(value))
    except (ValueError, OverflowError):
        return False


def _found(node: yaml.Node, value: Any) -> str:
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, str | int | float) else f"{str(value)!r}"
