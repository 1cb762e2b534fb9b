"""``validate-adapter``: whether an adapter keeps the protocol, or the driver behind it does something else."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from conformance.cli import options
from conformance.cli.base import interruption_of_verb, main, say, say_error
from conformance.cli.completion import connections
from conformance.cli.consoles import console
from conformance.cli.grouped import GroupedCommand
from conformance.cli.progress import Progress
from conformance.harness.events import Opened
from conformance.harness.following import Followed, follow
from conformance.harness.validating.values import (
    FORMAT,
    LINES,
    Check,
    Line,
    Result,
    Timing,
    Validated,
    Validation,
    Whose,
)
from conformance.history.printable import one_line
from conformance.lab.scratch import scratch_directory


@main.command(
    "validate-adapter",
    cls=GroupedCommand,
    begin=[
        ("validate-adapter DRIVER", "Does the adapter keep the protocol?"),
        ("run DRIVER --profile smoke", "Then: 20 tests of the driver behind it."),
    ],
    groups={"Output": ("as_json",)},
)
@click.argument("driver", shell_complete=connections)
@options.as_json("Print JSON lines ('schema --validation').")
@options.CALL_TIMEOUT
@options.SCRATCH
def validate_adapter(driver: str, as_json: bool, call_timeout: float, scratch: Path | None) -> None:
    """Check the adapter of DRIVER: is it the adapter or the driver? No requirement is judged.

    Exit status 0 if nothing is wrong, 1 if something is.
    """
    from conformance.harness.validating.worker import Validating  # hypothesis with it, which --help does not need

    with scratch_directory(scratch) as directory, Progress(console(stderr=True), "validating") as progress:
        task = Validating(driver, str(directory), os.getpid(), call_timeout)
        told = follow("conformance.harness.validating.worker", task, progress, interruption=interruption_of_verb())
    wrong = any(one.result is Result.WRONG for one in told.checks)
    code = 2 if told.failure else 1 if wrong else 0
    opened = told.opened or Opened(driver, "unknown", "none", (), {}, {}, ())
    if as_json:
        for line in _lines(driver, opened, told, code):
            click.echo(json.dumps(LINES.plain(line)))
    else:
        _print(driver, opened, told)
    if told.failure:
        say_error(told.complaint)
    sys.exit(code)


def _is_own(driver: str) -> bool:
    from conformance.drivers.registry import KINDS  # it brings every adapter

    return driver.partition(":")[0] in KINDS


def _lines(driver: str, opened: Opened, told: Followed, code: int) -> Iterator[Line]:
    yield Validation(FORMAT, driver, opened.version, _is_own(driver), opened.lane)
    yield from told.checks
    yield from told.timings
    yield Validated(code)


def _print(driver: str, opened: Opened, told: Followed) -> None:
    if told.opened:
        whose = "of this project" if _is_own(driver) else "of another package"
        say(one_line(f"{driver} (version {opened.version}): an adapter {whose}, privilege level {opened.lane}"))
    for check in told.checks:
        say(_said(check))
    if told.timings:
        for line in _table(told.timings):
            say(line)
    if not told.failure:
        say(_conclusion(driver, told.checks))


def _said(check: Check) -> str:
    whose = f"{check.whose.value}: " if check.whose is not Whose.NOBODY else ""
    following = f"  -> {check.next}" if check.next else ""
    return one_line(f"{check.result.value:9}{check.name:21}{whose}{check.said}{following}")


def _table(timings: Sequence[Timing]) -> Iterator[str]:
    yield f"{'call':22}{'ms':>9}{'adapter':>9}{'command':>9}"
    for one in timings:
        command = "" if one.commands is None else f"{one.commands * 1e3:9.2f}"
        yield f"{one.call:22}{one.seconds * 1e3:9.2f}{one.adapter * 1e3:9.2f}{command}"
    yield "Medians. adapter: CPU time of the adapter's own process. command: CPU time of what the call started."
    found = {one.call: one for one in timings}
    if (least := found.get("exists")) and least.commands is not None:
        yield (
            "Each call starts a process: exists, which asks for next to nothing, takes"
            f" {least.seconds * 1e3:.1f} ms."
        )


def _conclusion(driver: str, checks: Sequence[Check]) -> str:
    wrong = [one for one in checks if one.result is Result.WRONG]
    if not wrong:
        following = f"overlay-conformance run {shlex.quote(driver)} --profile smoke"
        return f"nothing is wrong with the adapter. next: {following}"
    named = ", ".join(dict.fromkeys(one.whose.value for one in wrong))
    return f"{len(wrong)} of {len(checks)} checks found something wrong: {named}"
