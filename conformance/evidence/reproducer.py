"""The reproducer of a failure: the steps of its history as POSIX shell, by the driver's own commands, and a last look.

It needs nothing of this project. It exits with 1 if it sees the deviation, 0 if it does not, and 2 if it cannot
tell, because a step that was done before fails now, a refusal is another one, or a command is missing. It makes and
removes files below its own temporary directory only.
"""

from __future__ import annotations

import base64
import gzip
import os
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, assert_never

from conformance.drivers.source import Dialect
from conformance.evidence.last_look import Look, last_look, stores_of
from conformance.evidence.refusals import as_shell as as_function
from conformance.evidence.tree_look import TREE
from conformance.history.calls import Changes, DiffSize, Exists, Get
from conformance.history.case import Case
from conformance.history.steps import Archived, Beyond, Called, Did, Looked, Noted, Opened, Step, Tampered, Waited
from conformance.operations import ops
from conformance.operations.comparing import shown
from conformance.operations.shell import NoScript, as_shell, quoted, shell_file
from conformance.report.consequences import LABEL

DEVIATES: Final = 1
_ARCHIVE_LIMIT: Final = 1 << 20  # bytes of a packed archive that a script may carry


@dataclass(frozen=True, slots=True)
class Heading:
    """What the comment at the top says besides the case: requirement by id with its sentence, and where it ran."""

    sentences: Sequence[tuple[str, str]]
    driver: str
    kernel: str
    suite: str
    consequence: str = ""
    make_filesystem: tuple[str, ...] = ()
    filesystem: str = ""


def script(case: Case, dialect: Dialect, heading: Heading) -> str:
    """The whole script; raises NoScript with the reason when there can be none."""
    steps = list(case.steps)
    for step in steps:
        if isinstance(step, Beyond):
            raise NoScript(f"a reproducer cannot repeat this: {step.what}")
    look = last_look(case.finding, steps)
    parts = [
        "#!/bin/sh",
        *_comment(case, heading),
        shell_file("conformance.evidence", "head.sh"),
        *_needs(dialect, heading, steps),
        *_work(heading, dialect, _named_places(steps)),
        shell_file("conformance.evidence", "steps.sh").replace("@PLAIN@", as_function()),
        dialect.prologue(),
        "# The steps",
        *_lines(steps, look, dialect),
        "",
        "# What is wrong in the end",
        *look.lines(dialect),
        "say 'no deviation: the driver behaves as required'",
        "verdict=0",
        "exit 0",
    ]
    return "\n".join(parts) + "\n"


def _comment(case: Case, heading: Heading) -> Iterator[str]:
    for name, sentence in heading.sentences:
        yield from _wrapped(f"{name}: {sentence}")
    if heading.consequence:
        yield from _wrapped(f"{LABEL}: {heading.consequence}")
    yield "#"
    for line in case.reason.splitlines()[:20]:
        yield from _wrapped(line)
    yield "#"
    yield from _wrapped(
        f"Recorded with {heading.driver} on Linux {heading.kernel}, by overlay-conformance {heading.suite}."
    )
    yield from _wrapped(
        "Exit status: 1 if the driver deviates, 0 if it does not, 2 if the script cannot tell. Run it as root."
    )


def _wrapped(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(_one_line(text), 100, break_on_hyphens=False)] or ["#"]


def _one_line(text: str) -> str:
    """A text in a comment: no byte of it ends the line, or does something to a terminal."""
    return "".join(one if " " <= one <= "~" else one.encode("unicode_escape").decode() for one in text)


def _needs(dialect: Dialect, heading: Heading, steps: Iterable[Step]) -> Iterator[str]:
    wanted = list(dialect.needs)
    if any(isinstance(step, (Did, Tampered)) and isinstance(step.operation, ops.SetXattr) for step in steps):
        wanted += ["setfattr", "getfattr"]
    wanted += heading.make_filesystem[:1]
    words = " ".join(f'"{one}"' if "$" in one else quoted(one) for one in dict.fromkeys(wanted))
    yield f"for command in {words}; do"
    yield '    command -v "$command" >/dev/null || cannot_tell "there is no command $command"'
    yield "done"


def _work(heading: Heading, dialect: Dialect, named: Sequence[Opened]) -> Iterator[str]:
    yield "work=$(mktemp -d) || cannot_tell 'there is no directory for temporary files'"
    yield 'work=$(cd -P "$work" && pwd -P)'
    yield 'case $work in *[!A-Za-z0-9/._+@=~-]*) cannot_tell "set TMPDIR to a path of letters and digits, not $work" ;; esac'
    yield "cd /"
    yield "image="
    yield from _cleanup(dialect, named)
    if heading.make_filesystem:
        words = " ".join(quoted(word) for word in heading.make_filesystem)
        yield 'image=$(mktemp) && truncate -s 3G "$image"'
        yield f"{words} \"$image\" >/dev/null || cannot_tell 'the filesystem cannot be made'"
        yield f'mount -t {heading.filesystem} -o loop "$image" "$work" || cannot_tell \'it cannot be mounted\''
    elif heading.filesystem:
        yield f"mount -t {heading.filesystem} none \"$work\" || cannot_tell 'the filesystem cannot be mounted'"
    else:
        yield 'mount --bind "$work" "$work"'
        yield 'if [ "$(stat -f -c %T "$work")" = overlayfs ]; then mount -t tmpfs none "$work"; fi'
    yield 'mount --make-private "$work"'
    for one in named:
        # So that the path in the archive leads where it led.
        yield f'mkdir -p {quoted(os.path.dirname(one.at))} && ln -sfT "$work/{one.store}" {quoted(one.at)}'


def _named_places(steps: Sequence[Step]) -> list[Opened]:
    """Stores whose own directory is named in a hostile archive or symlink."""
    texts = [step.data for step in steps if isinstance(step, Archived)]
    texts += [
        step.operation.target
        for step in steps
        if isinstance(step, Did) and isinstance(step.operation, ops.MakeSymlink)
    ]
    opened = [step for step in steps if isinstance(step, Opened) and step.at]
    return [one for one in opened if any(one.at.strip("/").encode() in text for text in texts)]


def _cleanup(dialect: Dialect, named: Sequence[Opened]) -> Iterator[str]:
    yield "cleanup() {"
    yield "    status=$?"
    yield "    set +e"
    yield "    trap '' EXIT HUP INT TERM"
    yield from (f"    {line}" for line in dialect.epilogue().splitlines())
    yield '    umount -R -l "$work" 2>/dev/null'
    yield '    umount -l "$work" 2>/dev/null'
    for one in named:
        yield f"    unlink {quoted(one.at)} 2>/dev/null"
        yield f"    rmdir -p {quoted(os.path.dirname(one.at))} 2>/dev/null"
    yield '    [ -z "$image" ] || rm -f "$image"'
    yield "    # What is still mounted there may be a directory of the host."
    yield '    grep -q -e " $work " -e " $work/" /proc/self/mountinfo || rm -rf --one-file-system "$work"'
    yield '    if [ -z "$verdict" ]; then say "CANNOT TELL: a command failed with status $status"; status=2; fi'
    yield '    exit "$status"'
    yield "}"
    yield "trap cleanup EXIT"
    yield "trap 'cannot_tell interrupted' HUP INT TERM"
    yield "trap '' PIPE"


def _lines(steps: Sequence[Step], look: Look, dialect: Dialect) -> Iterator[str]:
    """Every step up to the one that the last look is at, which it may do itself."""
    stores: list[str] = []
    for number, step in enumerate(steps[: look.at + (0 if look.instead else 1)]):
        yield from _said(step, stores, steps, dialect)
        yield from look.earlier.get(number, ())


def _said(step: Step, stores: list[str], steps: Sequence[Step], dialect: Dialect) -> Iterator[str]:
    match step:
        case Opened():
            if step.store not in stores:
                stores.append(step.store)
                yield f'mkdir -p "$work/{step.store}"' + (f"/{quoted(step.below)}" if step.below else "")
            yield from command(dialect.opened(step), "may" if step.refused else "must")
        case Called():
            yield from command(dialect.called(step), _word_for(step, steps))
        case Did():
            yield from _did(step)
        case Tampered():
            root = _root_of(step, dialect, steps)
            yield f"{{ {as_shell(root, step.operation)}; }} || failed {quoted(_one_line(ops.describe(step.operation))[:120])}"
        case Archived():
            yield from _archived(step)
        case Waited():
            yield "sleep 1.1"
        case Noted():
            yield from _wrapped(step.text)
        case Looked() | Beyond():
            pass
        case _:
            assert_never(step)


def _root_of(step: Tampered, dialect: Dialect, steps: Sequence[Step]) -> str:
    below = next((one.below for one in steps if isinstance(one, Opened) and one.store == step.store), "")
    return dialect.home(step.store, below) if step.where == "home" else f"$work/{step.store}"


def command(text: str, word: str) -> list[str]:
    """The lines of a command of a dialect, its last one behind a word such as ``must``."""
    if text.startswith("#"):
        return [text]
    *before, last = text.split("\n")
    return [*before, f"{word} {last}" if word else last]


def _word_for(step: Called, steps: Sequence[Step]) -> str:
    if step.refused is not None:
        return "may"
    if isinstance(step.call, Get):
        return f"tree {quoted(stores_of(step, steps))}"
    return "answer" if isinstance(step.call, (Changes, Exists, DiffSize)) else "must"


def _did(step: Did) -> Iterator[str]:
    said = quoted(f"{type(step.operation).__name__} {shown(step.operation.path)[1:-1]}".replace("'", "")[:120])
    if step.error:
        yield _one_line(f"# {ops.describe(step.operation)[:100]} -> {step.error}: left out, as it changes nothing")
        return
    yield f"{{ {as_shell(TREE, step.operation)}; }} || failed {said}"
    yield f"say '  '{said}"


def _archived(step: Archived) -> Iterator[str]:
    packed = gzip.compress(step.data, mtime=0)
    if len(packed) > _ARCHIVE_LIMIT:
        raise NoScript(f"the archive {step.label} has {len(packed)} bytes packed, too many for a reproducer")
    yield f"# {step.label} is an archive of:"
    yield from (_one_line(f"#   {words}") for words in step.words)
    yield f"base64 -d <<'END' | gzip -d >\"$work/{step.label}\""
    yield from textwrap.wrap(base64.b64encode(packed).decode(), 100)
    yield "END"
