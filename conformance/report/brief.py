"""A failure in a few lines: expected and actual, and the steps that matter. The evidence folder has all of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from conformance.history.printable import one_line
from conformance.spec.verdicts import TestOutcome, Verdict

_FIELD: Final = re.compile(r"^(b?['\"].*['\"]): ([\w ]+) is (.*), expected (.*)$")
_FOUND: Final = re.compile(r"^(?:(.*?): )?expected (.*?)[,;] (?:and )?found (.*)$")
_THERE: Final = re.compile(r"^expected (no .*), and (it is there)$")
_DONE: Final = re.compile(r"^(.*?)(?:: | -> opened; )expected (?:a refusal, but|it refused)[;:]? ?(.*)$")
_COMPLAINT: Final = re.compile(r"(  -> (?:refused|failed)): .*", re.DOTALL)
_REFUSED: Final = "the driver refused a step that it must do: "
_DIFFERS: Final = " differs from the expected tree:"
_STORE: Final = re.compile(r"/[^ '\"`,:]*/stores/(?:[^/ ]+/){2,3}(s\d+)(?=/|\b)")
_SHOWN: Final = 4  # differences of a tree
# The layer that most examples begin with (conformance.suites, STANDARD), as its trace has it.
_FIXTURE: Final = (
    "  CreateFile a content=b'a in the base' mode=0644",
    "  MakeDirectory d mode=0755",
    "  CreateFile d/a content=b'd/a in the base' mode=0644",
    "  MakeDirectory d/d mode=2755",
    "  CreateFile d/d/a content=b'd/d/a in the base' mode=0600",
    "  MakeDirectory e mode=1777",
    "  MakeSymlink b target=b'd'",
)
_FIXTURE_WORDS: Final = "  the usual tree: a, d/a, d/d/a, e/, b -> d"
_CREATE: Final = re.compile(r"^((?:\S+: )?)create (?:read-write layer |image layer )?(\S+)(?: on \S+)?$")


def short(text: str) -> str:
    """One printable line, in which the directory of a store is ``.../sN``."""
    return _STORE.sub(r".../\1", one_line(text))


def expected_and_actual(outcome: TestOutcome) -> tuple[str, str]:
    """What was expected, "" where the reason does not say so in a form that is known, and what was found."""
    expected, actual = _expected_and_actual(outcome)
    return short(expected), short(actual)


def _expected_and_actual(outcome: TestOutcome) -> tuple[str, str]:
    lines = outcome.reason.splitlines() or [""]
    first = lines[0]
    if outcome.verdict is Verdict.ERROR:
        errors = [line.removeprefix("E").strip() for line in lines if line.startswith("E  ")]
        return "", one_line((errors or lines)[0])
    if first.endswith(_DIFFERS):
        return _of_tree(first.removesuffix(_DIFFERS), lines[1:])
    if first.startswith(_REFUSED):
        call = next(
            (one.partition("  -> refused: ")[0] for one in reversed(outcome.steps) if "  -> refused: " in one), ""
        )
        return (
            f"{one_line(call).strip() or 'the step'} is done",
            f"refused: {one_line(first.removeprefix(_REFUSED))}",
        )
    found = _THERE.match(first)
    if found:
        return one_line(found[1]), found[2]
    found = _DONE.match(first)
    if found:
        return f"{one_line(found[1])} is refused", one_line(found[2]) or "it was done"
    found = _FOUND.match(first)
    if found:
        what = f"{found[1]}: " if found[1] else ""
        return one_line(what + found[2]), one_line(found[3])
    found = _FIELD.match(first)
    if found:
        return one_line(f"{found[1]} {found[2]} {found[4]}"), one_line(f"{found[2]} {found[3]}")
    return "", one_line(first)


def _of_tree(tree: str, lines: Sequence[str]) -> tuple[str, str]:
    pairs = [_pair(line) for line in lines]
    more = f"; {len(pairs) - _SHOWN} more" if len(pairs) > _SHOWN else ""
    wanted, seen = ("; ".join(words) for words in zip(*pairs[:_SHOWN], strict=True)) if pairs else ("", "")
    return f"{tree}: {wanted}{more}", seen


def _pair(line: str) -> tuple[str, str]:
    found = _FIELD.match(line)
    if found:
        path, what, seen, wanted = map(one_line, found.groups())
        return f"{path} {what} {wanted}", f"{path} {what} {seen}"
    what, _, path = one_line(line).partition(": ")
    match what:
        case "unexpected":
            return f"no {path}", f"{path} is there"
        case "missing":
            return path, f"no {path}"
    return what, path


def folded(steps: Iterable[str]) -> list[str]:
    """The steps, with a layer's operations behind its creation: one line for a layer, and for the usual tree."""
    said = [short(_COMPLAINT.sub(r"\1", step)) for step in steps]
    # A tree that was looked at before the end was as expected.
    said = [one for one in said[:-1] if "look at the tree of " not in one] + said[-1:]
    lines = list(_without_fixture(said))
    found: list[str] = []
    at = 0
    while at < len(lines):
        created = _CREATE.match(lines[at])
        length = _of_layer(lines[at + 1 :], *created.groups()) if created else 0
        operations = (
            [one.strip().removeprefix(created[1]).strip() for one in lines[at + 2 : at + length]] if created else []
        )
        found.append(lines[at] + (f": {'; '.join(operations)}" if operations else ""))
        at += 1 + length
    return found


def _without_fixture(lines: Sequence[str]) -> Iterator[str]:
    at, size = 0, len(_FIXTURE)
    while at < len(lines):
        here = lines[at : at + size]
        if (
            here
            and all(one.endswith(want) for one, want in zip(here, _FIXTURE, strict=False))
            and len(here) == size
        ):
            yield _FIXTURE_WORDS
            at += size
        else:
            yield lines[at]
            at += 1


def _of_layer(lines: Sequence[str], prefix: str, layer: str) -> int:
    """How many of the lines after the creation of a layer get it, change it and put it; 0 if others follow."""
    if not lines or lines[0] != f"{prefix}get {layer}":
        return 0
    for number, line in enumerate(lines[1:], 1):
        if line == f"{prefix}put {layer}":
            return number + 1
        if not line.removeprefix(prefix).startswith("  "):
            return 0
    return 0
