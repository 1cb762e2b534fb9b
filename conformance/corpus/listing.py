"""A list of the paths of an image, of a tool that unpacks nothing: names, and types where the list says them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from conformance.corpus.values import TYPES, Entry, text_or_base64
from conformance.operations.readers import NotRead, cleaned

UNKNOWN: Final = ""  # the type of a path of which the list says none


def listed(data: bytes) -> tuple[Entry, ...]:
    """The entries of JSON lines with path and type, or of names as tar -t prints them; raises NotRead."""
    lines = [line for line in data.split(b"\n") if line]
    if lines and lines[0].startswith(b"{"):
        return _whole(_object(line) for line in lines)
    return _whole((cleaned(line), "directory" if line.endswith(b"/") else UNKNOWN) for line in lines)


def _whole(found: Iterable[tuple[bytes, str]]) -> tuple[Entry, ...]:
    """An entry for each path, and for the directories above it."""
    types: dict[bytes, str] = {}
    for path, kind in found:
        if path:
            types[path] = kind or types.get(path, UNKNOWN)
    for path in list(types):
        while path := path.rpartition(b"/")[0]:
            types[path] = types.get(path) or "directory"
    return tuple(Entry(*text_or_base64(path), kind) for path, kind in sorted(types.items()))


def _object(line: bytes) -> tuple[bytes, str]:
    try:
        said: Mapping[str, Any] = json.loads(line)
        encoded = said.get("path_base64")
        path = said["path"].encode() if encoded is None else base64.b64decode(encoded, validate=True)
        kind = said.get("type", UNKNOWN)
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise NotRead(f"a line is no object with a path: {line[:80]!r}") from error
    if kind not in (UNKNOWN, *TYPES):
        raise NotRead(f"the type {kind!r} is none of {', '.join(TYPES)}")
    return cleaned(path), kind
