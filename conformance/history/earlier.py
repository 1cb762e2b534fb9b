"""Case files of earlier versions: format 1 (0.3.0) named the verb of a call, and had its words beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

# The value of a verb, and which words of a call of format 1 are its fields.
_CALLS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "create": ("Create", ("layer", "parent", "options", "read_write")),
    "remove": ("Remove", ("layer",)),
    "get": ("Get", ("layer", "label")),
    "put": ("Put", ("layer",)),
    "exists": ("Exists", ("layer",)),
    "status": ("Status", ()),
    "metadata": ("Metadata", ("layer",)),
    "diff": ("Diff", ("layer", "parent", "archive")),
    "apply": ("ApplyDiff", ("layer", "parent", "archive")),
    "diff-size": ("DiffSize", ("layer", "parent")),
    "changes": ("Changes", ("layer", "parent")),
    "reopen": ("Reopen", ()),
    "close": ("Close", ()),
}
_TURNS: Final = {
    "get": "HoldLayer",
    "put": "ReleaseLayer",
    "create": "CreateChild",
    "write": "WriteLayer",
    "remove": "RemoveLayer",
    "reopen": "ReopenStore",
    "copy": "CopyLayer",
}
_NEEDED: Final = ("layer", "parent", "archive")  # fields without a default in some call


def steps_of_format_1(steps: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The steps of a case of format 1 in the form of format 2; raises KeyError for a call that never was."""
    return [_called(step) if step["is"] == "Called" else step for step in steps]


def drawn_of_format_1(drawn: Iterable[Any]) -> list[Any]:
    """What a case of format 1 drew, in the form of format 2: a turn of a machine was a pair of a name and words."""
    return [_turn(one) for one in drawn]


def _turn(one: Any) -> Any:
    match one:
        case [str(name), dict(words)] if name in _TURNS:
            return {"is": _TURNS[name], **words}
    return one


def _called(step: Mapping[str, Any]) -> Mapping[str, Any]:
    name, fields = _CALLS[step["verb"]]
    call = {"is": name, **{one: step.get(one, "") for one in fields if one in step or one in _NEEDED}}
    rest = {key: step[key] for key in ("refused", "answer") if key in step}
    return {"is": "Called", "store": step["store"], "call": call, **rest}
