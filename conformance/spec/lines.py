"""Files and channels of JSON lines: which lines there are, as types, and the JSON schema that follows from them.

A line is an object with a tag, under a key such as ``record`` or ``event``; its other keys are the fields of one
dataclass. Writing, reading and the published schema are derived from the same table, so they cannot differ.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Generic, Literal, TypeVar, Union, get_args, get_origin

from conformance.spec.values import Key, as_plain, from_plain, keys_of, name_of, said_of

T = TypeVar("T")
_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_SCALARS: Final[Mapping[Any, str]] = {str: "string", bool: "boolean", int: "integer", float: "number"}


@dataclass(frozen=True, slots=True)
class Form:
    """One kind of line: its tag, the type that has its fields, and the types of keys ``before`` those.

    ``only`` are the keys that are written; empty for all but those of ``without``.
    """

    tag: str
    kind: type
    before: Mapping[str, Any] = field(default_factory=dict)
    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()

    def has(self, name: str) -> bool:
        """Whether a key is written."""
        return name in self.only if self.only else name not in self.without


@dataclass(frozen=True, slots=True)
class Lines(Generic[T]):
    """The lines of one file or channel; ``key`` has the tag."""

    key: str
    forms: tuple[Form, ...]

    def plain(self, value: T, **before: Any) -> dict[str, Any]:
        """The object of a line; raises KeyError for a value of no form."""
        form = next((one for one in self.forms if one.kind is type(value)), None)
        if form is None:
            raise KeyError(type(value).__name__)
        fields = {name: one for name, one in as_plain(value).items() if form.has(name)}
        return {self.key: form.tag, **before, **fields}

    def value(self, said: Mapping[str, Any]) -> T | None:
        """The value of a line without the keys ``before``, None if no form has its tag; raises BadValue."""
        tag = said.get(self.key)
        form = next((one for one in self.forms if one.tag == tag), None)
        if form is None:
            return None
        value: T = from_plain(form.kind, {key: one for key, one in said.items() if key != self.key})
        return value

    def schema(self, name: str, title: str, description: str, *, strict: bool = True) -> dict[str, Any]:
        """The schema of a line; unless it is ``strict``, a line may have further keys."""
        others: dict[str, Any] = {}
        forms = {one.tag: _of_form(self.key, one, others, strict=strict) for one in self.forms}
        return {
            "$schema": _DIALECT,
            "$id": name,
            "title": title,
            "description": description,
            "oneOf": [{"$ref": f"#/$defs/{tag}"} for tag in forms],
            "$defs": {**forms, **others},
        }


def schema_of(kind: type, name: str, title: str, description: str) -> dict[str, Any]:
    """The schema of a file that is one value."""
    others: dict[str, Any] = {}
    found = _of_object(kind, others)
    return {"$schema": _DIALECT, "$id": name, "title": title, **found, "description": description, "$defs": others}


def _of_form(key: str, form: Form, others: dict[str, Any], *, strict: bool) -> dict[str, Any]:
    first = {key: {"const": form.tag}, **{name: _of(hint, others) for name, hint in form.before.items()}}
    found = _of_object(form.kind, others, form.has)
    found["properties"] = {**first, **found["properties"]}
    found["required"] = [*first, *found["required"]]
    return found if strict else {name: one for name, one in found.items() if name != "additionalProperties"}


def _of_object(kind: type, others: dict[str, Any], has: Callable[[str], bool] = lambda _: True) -> dict[str, Any]:
    known = {name_of(name, keys): (hint, keys) for name, (hint, keys) in keys_of(kind).items() if has(name)}
    return {
        "type": "object",
        "description": " ".join((kind.__doc__ or "").split("\n\n")[0].split()),
        "properties": {key: _of(hint, others) for key, (hint, _) in known.items()},
        "required": [key for key, (_, keys) in known.items() if not any(one.later or one.omitted for one in keys)],
        "additionalProperties": False,
    }


def _of(hint: Any, others: dict[str, Any]) -> dict[str, Any]:
    """The schema of a type, with what its keys say."""
    keys = said_of(hint)
    bare = hint.__origin__ if get_origin(hint) is Annotated else hint
    found = {**_of_bare(bare, keys, others)}
    for one in keys:
        said = {"description": one.says, "pattern": one.pattern, "enum": list(one.among), "minItems": one.least}
        found |= {name: what for name, what in said.items() if what}
        if one.minimum is not None:
            found["minimum"] = one.minimum
        if one.among:
            found.pop("type", None)
    return found


def _of_bare(bare: Any, keys: Sequence[Key], others: dict[str, Any]) -> dict[str, Any]:
    if bare in _SCALARS:
        return {"type": _SCALARS[bare]}
    if isinstance(bare, type) and issubclass(bare, enum.Enum):
        return {"enum": [one.value for one in bare]}
    if isinstance(bare, type) and is_dataclass(bare):
        name = bare.__name__.lower()
        if name not in others:
            others[name] = _of_object(bare, others)
        return {"$ref": f"#/$defs/{name}"}
    origin, arguments = get_origin(bare), get_args(bare)
    if origin is Literal:
        return {"const": arguments[0]} if len(arguments) == 1 else {"enum": list(arguments)}
    if origin is tuple:
        length = {} if Ellipsis in arguments else {"minItems": len(arguments), "maxItems": len(arguments)}
        return {"type": "array", "items": _of(arguments[0], others), **length}
    if origin is Mapping:
        return _of_mapping(arguments, any(one.every for one in keys), others)
    if origin in (Union, UnionType):
        return _of_union(arguments, any(one.omitted for one in keys), others)
    raise TypeError(f"{bare} has no schema")


def _of_mapping(arguments: Iterable[Any], every: bool, others: dict[str, Any]) -> dict[str, Any]:
    of_key, of_value = arguments
    value = _of(of_value, others)
    if of_key is str:
        return {"type": "object", "additionalProperties": value}
    names = [one.value for one in of_key]
    if every:
        properties = dict.fromkeys(names, value)
        return {"type": "object", "properties": properties, "required": names, "additionalProperties": False}
    return {"type": "object", "propertyNames": {"enum": names}, "additionalProperties": value}


def _of_union(arguments: Iterable[Any], omitted: bool, others: dict[str, Any]) -> dict[str, Any]:
    """One type or null, or that type alone where null is never written."""
    (kind,) = (one for one in arguments if one is not NoneType)
    found = _of(kind, others)
    return found if omitted else {**found, "type": [found["type"], "null"]}
