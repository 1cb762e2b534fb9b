"""A command that lists the paths of an image, as a driver: its tree is one of empty files.

Its layers are those of an unpacker. What needs more than names and types is declined.
"""

from __future__ import annotations

from typing import Final

from conformance.drivers.connection import Key, Kind, declined_in, parse_arguments
from conformance.drivers.source import DriverSource
from conformance.drivers.unpacker.adapter import source_of
from conformance.drivers.unpacker.tool import NAMES, lister_of

KEYS: Final = (
    Key("from", "the image that the command reads: layout or docker-archive"),
    Key("result", "the list on standard output: 'names' as tar -t prints them, or 'json' for lines of JSON"),
    Key("root", "'no' runs the command as an ordinary user"),
)
_LACKS: Final = dict.fromkeys(
    ("attributes", "early-times", "fine-times", "lower-links", "user-xattrs"),
    "a list of paths has names and types only",
)
_OF_NAMES: Final = {"file-types": "a list of names says only which of them are directories"}


def source(arguments: str) -> DriverSource:
    """``COMMAND[?KEY=VALUE]``; raises BadConnection, and OSError when a command is missing."""
    connection = parse_arguments("lister", arguments)
    tool = lister_of(connection)
    lacks = _LACKS | (_OF_NAMES if tool.result == NAMES else {})
    return source_of(f"lister:{arguments}", tool, lacks, declined_in(connection), "docs/listers.md")


KIND: Final = Kind(
    "lister",
    (("PRESET", "crane"), ("COMMAND", "my-tool ls {layout}:{tag}?result=json")),
    source,
    KEYS,
)
