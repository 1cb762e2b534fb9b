"""Openings of a home that are refused, and what a status says of the home."""

from __future__ import annotations

from typing import Final

from conformance.harness.assertions import names
from conformance.harness.bench import Bench
from conformance.harness.deviation import Deviation

TRUE_WORDS: Final = ("1", "t", "T", "TRUE", "true", "True")  # of Go's strconv.ParseBool
FALSE_WORDS: Final = ("0", "f", "F", "FALSE", "false", "False")


def refused(bench: Bench, *words: str, naming: str = "") -> str:
    """Opening with these options is refused, with a word, and leaves nothing behind; what the driver said."""
    bench.begin()
    bench.note(f"open a home with the options {list(words)}  (to be refused)")
    said = bench.refuses(options=words)
    names(said.lower(), naming.lower())
    return said


def backing_filesystem(status: dict[str, str]) -> str:
    """What a status says of the filesystem; raises Deviation if it says nothing."""
    for key, value in status.items():
        if key.lower().replace(" ", "") == "backingfilesystem":
            return value.strip('"<> ')
    raise Deviation(f"the status names no backing filesystem: {status}")
