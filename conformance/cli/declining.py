"""Prints what a driver's author could decline, as a block to paste."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from conformance.cli.base import say
from conformance.drivers.connection import DECLINE, BadConnection, format_connection, parse
from conformance.history.printable import one_line
from conformance.report.declining import REASON, Proposal, proposals
from conformance.report.records import Part
from conformance.spec import load_capabilities, load_requirements
from conformance.spec.naming import counted

_MOST = 20  # capabilities that are printed


def print_proposals(part: Part, absent: Mapping[str, str]) -> None:
    """What would be declined by the failures of a run, and what that costs; nothing where there is nothing.

    ``absent`` is what the driver certainly lacks, with the reason. All of it is in the block if anything failed, so
    that one block is enough for the tests that this run left out, too.
    """
    run, capabilities = part.run, load_capabilities()
    broken = {one.name for one in part.capabilities() if one.effective == "broken"} | {*absent}
    found = proposals(part.results(), load_requirements(), capabilities, run.declined, broken)
    if not found:
        return
    say("\nThe author of the driver can decline what it lacks by design. That is a choice, and repairs nothing:")
    say("the requirements are then DECLINED, never PASS.")
    lines = {one.capability: _cost(one) for one in found}
    for name, reason in absent.items():
        lines.setdefault(name, f"{reason}; nothing else failed by it in this run")
    for name in [*lines][:_MOST]:
        say(one_line(f"  {name}: {lines[name]}"))
    if len(lines) > _MOST:
        say(f"  and {len(lines) - _MOST} more")
    say("'overlay-conformance list --capability NAME' lists all requirements that need one.")
    print_block(run.connection, [*lines][:_MOST])


def _cost(one: Proposal) -> str:
    lost = (
        f", and {counted(len(one.passed), 'requirement')} that now {'passes' if len(one.passed) == 1 else 'pass'}"
    )
    core = "; core: the driver cannot be called conformant then" if one.core else ""
    names = ", ".join(one.failed[:2]) + (", ..." if len(one.failed) > 2 else "")
    return f"{counted(len(one.failed), 'failed requirement')} ({names}){lost if one.passed else ''}{core}"


def print_block(connection: str, names: Sequence[str]) -> None:
    """The lines to paste: of a Python class, and the connection string. The author replaces the reasons."""
    if connection.startswith("python:"):
        say("In the class:")
        say("  declined_capabilities = {")
        for name in names:
            say(f'      "{name}": "{REASON}",')
        say("  }")
    try:
        said = parse(connection)
        options = (*said.options, *((DECLINE.name, f"{name}:{REASON}") for name in names))
        whole = format_connection(type(said)(said.kind, said.name, options))
    except BadConnection:  # of a kind that reads its arguments itself
        return
    say(f"Or in the connection string: {shlex.quote(whole)}\n")
