"""Compare what an unpacker made with what is expected: all differences from the nearest permitted tree."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Final

from conformance.corpus.values import FORMAT, KEEPS, Checked, Difference, Entry, Expected
from conformance.operations.trees import CAPABILITY
from conformance.spec.values import BadValue, from_plain

IGNORABLE: Final = (*KEEPS, "directory-times", "attributes")
_DEVICES: Final = ("character", "block")
_ATTRIBUTES: Final = ("type", "mode", "uid", "gid", "mtime", "size", "sha256", "target", "device", "xattrs")


def read_expected(path: Path) -> Expected:
    """The value of an expected file; raises OSError and BadValue."""
    try:
        return from_plain(Expected, json.loads(path.read_bytes()))
    except (ValueError, BadValue) as error:
        raise BadValue(f"{path} is no expected file of format {FORMAT}: {error}") from error


def check(expected: Expected, actual: Sequence[Entry], ignored: Collection[str] = ()) -> Checked:
    """Whether a tree is permitted; ``ignored`` names members of IGNORABLE that are not compared."""
    if not expected.trees:
        said = Difference("", "refusal", "the image is refused", "the unpacker made a tree")
        return _checked(expected, "", ignored, (said,))
    found = [(tuple(_differences(tree.entries, actual, ignored)), tree) for tree in expected.trees]
    differences, nearest = min(found, key=lambda one: len(one[0]))
    return _checked(expected, nearest.choice, ignored, differences)


def check_refused(expected: Expected) -> Checked:
    """Whether it is permitted that the unpacker refused the image."""
    if expected.refusal != "forbidden":
        return _checked(expected, "refused", (), ())
    return _checked(expected, "", (), (Difference("", "refusal", "a tree", "the image is refused"),))


def _checked(
    expected: Expected, choice: str, ignored: Collection[str], differences: tuple[Difference, ...]
) -> Checked:
    of = expected.corpus, expected.name, expected.question, expected.open
    left_out = tuple(one for one in IGNORABLE if one in ignored)
    return Checked(FORMAT, *of, not differences, choice, left_out, differences)


def _differences(
    expected: Sequence[Entry], actual: Sequence[Entry], ignored: Collection[str]
) -> Iterator[Difference]:
    wanted, there = {one.name: one for one in expected}, {one.name: one for one in actual}
    if "devices" in ignored:
        for path in [path for path, one in wanted.items() if one.type in _DEVICES]:
            del wanted[path]
            there.pop(path, None)
    for path in sorted(wanted.keys() | there.keys()):
        want, got = wanted.get(path), there.get(path)
        if want is None or got is None:
            kinds = [one.type if one else "nothing" for one in (want, got)]
            yield Difference(shown(path), "missing" if got is None else "unexpected", *kinds)
        else:
            yield from _attributes(path, want, got, ignored)
    if not {"links", "attributes"} & set(ignored):
        yield from _links(list(wanted.values()), list(there.values()))


def _attributes(path: bytes, want: Entry, got: Entry, ignored: Collection[str]) -> Iterator[Difference]:
    for attribute in ("type",) if "attributes" in ignored else _ATTRIBUTES:
        wanted, found = (_value(one, attribute, ignored) for one in (want, got))
        if (attribute == "mtime" and not (want.mtime and got.mtime)) or (attribute == "type" and not found):
            continue
        if wanted != found:
            yield Difference(shown(path), attribute, wanted, found)
        if attribute == "type" and wanted != found:
            return  # all else differs with it


def _value(one: Entry, attribute: str, ignored: Collection[str]) -> str:
    """An attribute as it is compared and shown; "" if it is not compared."""
    match attribute:
        case "type":
            return one.type
        case "mode":
            mode = int(one.mode, 8) & (0o777 if "special-bits" in ignored else 0o7777)
            return "" if one.type == "symlink" else f"{mode:04o}"  # nobody sees that of a symlink
        case "uid" | "gid":
            return "" if "owners" in ignored else str(one.uid if attribute == "uid" else one.gid)
        case "mtime":
            return _time(one, ignored)
        case "size":
            return "" if one.size is None else str(one.size)
        case "sha256":
            return one.sha256 or ""
        case "target":
            return one.target or one.target_base64 or ""
        case "device":
            return "" if one.major is None else f"{one.major}:{one.minor}"
    named = {
        name: value
        for name, value in sorted(one.xattrs.items())
        if ("capabilities" if name == CAPABILITY else "xattrs") not in ignored
    }
    return json.dumps(named)


def _time(one: Entry, ignored: Collection[str]) -> str:
    left_out = "times" in ignored or ("directory-times" in ignored and one.type == "directory")
    if left_out or one.mtime is None:
        return ""
    return str(one.mtime.seconds) + ("" if "fractions" in ignored else f".{one.mtime.nanoseconds:09d}")


def _links(wanted: Sequence[Entry], there: Sequence[Entry]) -> Iterator[Difference]:
    """Paths whose groups of hard links differ, among the paths that both have."""
    both = {one.name for one in wanted} & {one.name for one in there}
    want, got = _groups(wanted, both), _groups(there, both)
    for path in sorted(both):
        if want.get(path, {path}) != got.get(path, {path}):
            names = [", ".join(map(shown, sorted(of.get(path, {path})))) for of in (want, got)]
            yield Difference(shown(path), "links", *names)


def _groups(entries: Sequence[Entry], among: Collection[bytes]) -> dict[bytes, set[bytes]]:
    found: dict[int, set[bytes]] = {}
    for one in entries:
        if one.links is not None and one.name in among:
            found.setdefault(one.links, set()).add(one.name)
    return {path: group for group in found.values() for path in group}


def shown(path: bytes) -> str:
    """A path as a text."""
    return path.decode(errors="backslashreplace")
