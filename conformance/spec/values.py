"""Values as JSON and TOML hold them, and back: one strict converter for all files, tasks and events.

Each value is a frozen dataclass, and its type is the whole description: :func:`as_plain` gives objects, lists,
texts and numbers, :func:`from_plain` reads them back. Reading is strict: no unknown key, no missing one, no number
for a text. What is wrong becomes one sentence that names the key and says what is expected. A :class:`Key` in the
annotation of a field says what its type cannot say.

The converter is cattrs. It is imported when the first value is read or written, because the verbs that only print
(``list``, ``explain``, completion) must not pay for it.
"""

from __future__ import annotations

import datetime
import enum
import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeVar, get_args, get_origin, get_type_hints

from conformance.spec.errors import HarnessError

if TYPE_CHECKING:
    from cattrs import Converter

T = TypeVar("T")
_SHOWN: Final = 60  # characters of a wrong value in a message
_EXPECTED: Final[Mapping[type, str]] = {
    str: "a text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    datetime.date: "a date without quotes, such as 2027-03-31",
}


class BadValue(HarnessError):
    """What was read is not of the form that it has to have; the text names the key and what is expected."""


@dataclass(frozen=True, slots=True)
class Key:
    """What a field's type does not say; only ``name`` and ``omitted`` change how it is read and written.

    ``name`` is its key where that is not the field's name; with ``omitted`` the key is left out where the value is
    None. The rest is for the schema: ``says`` describes the field; ``pattern``, ``among``, ``minimum`` and
    ``least`` (of items) restrict it; with ``every`` a mapping has all members of an enum as keys; with ``later``
    the key is absent in files of earlier versions.
    """

    says: str = ""
    name: str = ""
    pattern: str = ""
    among: tuple[str, ...] = ()
    minimum: int | None = None
    least: int = 0
    every: bool = False
    omitted: bool = False
    later: bool = False


Count = Annotated[int, Key(minimum=0)]
Seconds = Annotated[float, Key(minimum=0)]
RequirementId = Annotated[str, Key(pattern="^OVL(-[A-Z0-9]+){2,}$")]


@functools.cache
def keys_of(kind: type) -> dict[str, tuple[Any, tuple[Key, ...]]]:
    """For each field of a dataclass its type, with annotations, and what its keys say of it."""
    hints = get_type_hints(kind, include_extras=True)
    return {one.name: (hints[one.name], said_of(hints[one.name])) for one in fields(kind)}


def said_of(hint: Any) -> tuple[Key, ...]:
    """The keys in an annotation, innermost first."""
    found = hint.__metadata__ if get_origin(hint) is Annotated else ()
    return tuple(one for one in found if isinstance(one, Key))


def name_of(field: str, keys: tuple[Key, ...]) -> str:
    """The key of a field in a file."""
    return next((one.name for one in keys if one.name), field)


def as_plain(value: object) -> Any:
    """A value as JSON holds it: an enum by its value, a tuple as a list, a dataclass as an object."""
    return _converter().unstructure(value)


def from_plain(kind: type[T], said: object) -> T:
    """A value of a type from :func:`as_plain`, or from TOML; raises BadValue."""
    from cattrs.errors import BaseValidationError

    try:
        return _converter().structure(said, kind)
    except (BaseValidationError, _Unlike) as error:
        raise BadValue("; ".join(dict.fromkeys(_complaints(error, "")))) from error


class _Unlike(Exception):
    """A value is not what its type expects."""

    def __init__(self, expected: str, found: object) -> None:
        shown = repr(found)
        super().__init__(f"expected {expected}, found {shown if len(shown) <= _SHOWN else shown[:_SHOWN] + '...'}")


@functools.cache
def _converter() -> Converter:
    from cattrs import Converter
    from cattrs.cols import list_structure_factory
    from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, mapping_structure_factory, override

    converter = Converter(forbid_extra_keys=True, unstruct_collection_overrides={tuple: list})

    def overrides(kind: type) -> dict[str, Any]:
        return {
            name: override(
                rename=name_of(name, keys) if name_of(name, keys) != name else None,
                omit_if_default=any(one.omitted for one in keys),
            )
            for name, (_, keys) in keys_of(kind).items()
        }

    def read_object(kind: type) -> Any:
        inner: Any = make_dict_structure_fn(kind, converter, _cattrs_forbid_extra_keys=True, **overrides(kind))
        return _only(Mapping, "an object", inner)

    def written_object(kind: type) -> Any:
        return make_dict_unstructure_fn(kind, converter, **overrides(kind))

    for kind, expected in _EXPECTED.items():
        converter.register_structure_hook(kind, functools.partial(_scalar, kind, expected))
    converter.register_structure_hook(enum.Enum, _read_enum)
    converter.register_structure_hook_factory(_has_origin(Literal), _read_literal)
    converter.register_structure_hook_factory(
        _has_origin(tuple),
        lambda kind: _only(
            (list, tuple), "a list", _of_length(kind, list_structure_factory(kind, converter)), tuple
        ),
    )
    converter.register_structure_hook_factory(
        _has_origin(Mapping),
        lambda kind: _only(Mapping, "an object", mapping_structure_factory(kind, converter, dict)),
    )
    converter.register_structure_hook_factory(is_dataclass, read_object)
    converter.register_unstructure_hook_factory(is_dataclass, written_object)
    return converter


def _only(kinds: Any, expected: str, inner: Any, then: Callable[[Any], Any] = lambda found: found) -> Any:
    """A hook that refuses what is not of some kinds; a text, for one, is no list of texts."""

    def read(said: Any, kind: Any) -> Any:
        if not isinstance(said, kinds):
            raise _Unlike(expected, said)
        return then(inner(said, kind))

    return read


def _of_length(kind: Any, inner: Any) -> Any:
    """A hook that refuses a list of another length than that of a tuple such as ``tuple[int, int]``."""
    items = get_args(kind)
    if Ellipsis in items:
        return inner
    if len(set(items)) != 1:
        raise TypeError(f"{kind} has items of several types; use a dataclass")

    def read(said: Any, kind: Any) -> Any:
        if len(said) != len(items):
            raise _Unlike(f"a list of {len(items)}", said)
        return inner(said, kind)

    return read


def _scalar(kind: type, expected: str, said: Any, _: Any) -> Any:
    whole = type(said) is int and kind is float  # JSON has one kind of number
    if type(said) is not kind and not whole:
        raise _Unlike(expected, said)
    return said


def _has_origin(origin: Any) -> Callable[[Any], bool]:
    return lambda kind: get_origin(kind) is origin


def _read_enum(said: Any, kind: type[enum.Enum]) -> enum.Enum:
    known = {one.value: one for one in kind}
    if not isinstance(said, str) or said not in known:
        raise _Unlike(f"one of {', '.join(known)}", said)
    return known[said]


def _read_literal(kind: Any) -> Any:
    known = get_args(kind)

    def read(said: Any, _: Any) -> Any:
        if not any(type(said) is type(one) and said == one for one in known):
            raise _Unlike(f"one of {', '.join(map(str, known))}", said)
        return said

    return read


def _complaints(error: BaseException, place: str) -> Iterator[str]:
    """What is wrong, the keys that do not belong there first."""
    from cattrs.errors import ClassValidationError, ForbiddenExtraKeysError, IterableValidationError

    match error:
        case ClassValidationError():
            with_notes, others = error.group_exceptions()
            for one in others:
                yield from _complaints(one, place)
            names = keys_of(error.cl)
            for one, note in with_notes:
                key = name_of(note.name, names[note.name][1])
                if isinstance(one, KeyError):
                    yield _at(place, f"{key} is missing")
                else:
                    yield from _complaints(one, f"{place}.{key}" if place else key)
        case IterableValidationError():
            with_indices, others = error.group_exceptions()
            for one in others:
                yield from _complaints(one, place)
            for one, index in with_indices:
                where = f"[{index.index}]" if isinstance(index.index, int) else f".{index.index}"
                yield from _complaints(one, f"{place}{where}" if place else str(index.index))
        case ForbiddenExtraKeysError():
            there = ", ".join(name_of(name, keys) for name, (_, keys) in keys_of(error.cl).items())
            for key in sorted(map(str, error.extra_fields)):
                yield _at(place, f"there is no key {key}; the keys are {there}")
        case _:
            yield _at(place, str(error))


def _at(place: str, what: str) -> str:
    return f"{place}: {what}" if place else what
