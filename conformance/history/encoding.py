"""Values of operations, steps and draws as JSON, and back. Our own format: it changes with VERSION only.

Numbers, texts, lists and mappings are as they are. Bytes are ``{"bytes": TEXT}``, each byte a character with the
escapes of a Python string for what is not printable; ``{"base64": TEXT}`` where that would be much longer.
Dataclasses are ``{"is": NAME, ...}`` with their fields that differ from the default.
"""

from __future__ import annotations

import base64
import codecs
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Final, get_args

from conformance.history import calls, findings, steps, turns
from conformance.operations import ops, tarforms
from conformance.operations.comparing import Difference
from conformance.operations.trees import Node, Snapshot

VERSION: Final = 1
_LONG: Final = 200


class CannotDecode(ValueError):
    """This is not what the encoding wrote; the text says what is wrong."""


_KNOWN: Final = {
    kind.__name__: kind
    for kind in (
        *get_args(ops.Operation),
        *get_args(calls.Call),
        *get_args(turns.Turn),
        *get_args(steps.Step),
        *get_args(findings.Finding),
        Difference,
        Node,
        tarforms.Tarred,
        tarforms.Form,
    )
}


def encode(value: Any, more: Iterable[type] = ()) -> Any:
    """As JSON; ``more`` are dataclasses besides operations and steps. Raises TypeError for what has no form."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (bytes, bytearray)):
        return _bytes(bytes(value))
    if isinstance(value, Mapping):
        return {str(key): encode(one, more) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [encode(one, more) for one in value]
    if isinstance(value, Snapshot):
        nodes = [[encode(path), encode(node)] for path, node in sorted(value.nodes.items())]
        groups = [encode(sorted(group)) for group in sorted(map(sorted, value.link_groups))]
        return {"is": "Snapshot", "nodes": nodes, "link_groups": groups}
    if is_dataclass(value) and (type(value).__name__ in _KNOWN or type(value) in more):
        said: dict[str, Any] = {"is": type(value).__name__}
        for slot in fields(value):
            one = getattr(value, slot.name)
            if slot.default is MISSING or one != slot.default:
                said[slot.name] = encode(one, more)
        return said
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def decode(value: Any, more: Iterable[type] = ()) -> Any:
    """Back from :func:`encode`, lists as lists; raises CannotDecode."""
    if isinstance(value, list):
        return [decode(one, more) for one in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"bytes"}:
        return codecs.escape_decode(value["bytes"].encode("ascii"))[0]
    if value.keys() == {"base64"}:
        return base64.b64decode(value["base64"])
    if "is" not in value:
        return {key: decode(one, more) for key, one in value.items()}
    if value["is"] == "Snapshot":
        nodes = {decode(path): decode(node) for path, node in value["nodes"]}
        return Snapshot(nodes, frozenset(frozenset(decode(group)) for group in value["link_groups"]))
    kinds = _KNOWN | {kind.__name__: kind for kind in more}
    if value["is"] not in kinds:
        raise CannotDecode(f"there is no {value['is']!r} in this version of the suite")
    words = {key: _tuples(decode(one, more)) for key, one in value.items() if key != "is"}
    try:
        return kinds[value["is"]](**words)
    except TypeError as error:
        raise CannotDecode(f"{value['is']} is another in this version of the suite: {error}") from error


def _tuples(value: Any) -> Any:
    """Fields of frozen values are tuples."""
    return tuple(_tuples(one) for one in value) if isinstance(value, list) else value


def _bytes(value: bytes) -> dict[str, str]:
    text = codecs.escape_encode(value)[0].decode("ascii")
    if len(value) > _LONG and len(text) > 2 * len(value):
        return {"base64": base64.b64encode(value).decode()}
    return {"bytes": text}
