"""``run --preflight-only`` and ``doctor DRIVER``: whether a driver can be judged, by the preflight of a run."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from conformance.cli.base import interruption_of_verb, say, say_error
from conformance.cli.consoles import console
from conformance.cli.declining import print_block
from conformance.cli.progress import Progress
from conformance.harness import controller
from conformance.harness.events import Opened
from conformance.harness.task import Task
from conformance.history.printable import one_line
from conformance.lab.scratch import scratch_directory
from conformance.report.consequences import LABEL, consequence_of
from conformance.spec import load_requirements
from conformance.spec.verdicts import Verdict


def try_driver(
    driver: str, scratch: Path | None, backings: tuple[str, ...] = (), call_timeout: float = 60.0
) -> int:
    """Do the preflight and say what came of it.

    The exit status: 0 if the driver can be judged, 1 if it deviates from a requirement in the preflight, 2 if it
    cannot be judged, or the harness failed.
    """
    with scratch_directory(scratch) as directory, Progress(console(stderr=True), "trying the driver") as progress:
        task = Task(
            driver,
            str(directory),
            os.getpid(),
            (),
            "smoke",
            1,
            0,
            backings,
            call_timeout=call_timeout,
            preflight_only=True,
        )
        judged = controller.judge(task, progress, interruption_of_verb())
    told = judged.told
    if told.failure:
        say_error(told.complaint)
        return 2
    for outcome in judged.outcomes:
        if outcome.verdict is Verdict.FAIL:
            say(f"FAIL {', '.join(outcome.requirements)}")
            for one in outcome.requirements:
                say(f"  {load_requirements()[one].sentence}")
            say(f"  {LABEL}: {consequence_of(outcome, load_requirements())}")
            say("  " + outcome.reason.replace("\n", "\n  "))
            for number, step in enumerate(outcome.steps, 1):
                say(f"  {number:4}. {step}")
            say(f"{driver} deviates in the preflight: a run would judge nothing else")
            say(f"next: overlay-conformance run {shlex.quote(driver)}, which writes a reproducer; fix this first")
            return 1
    _say_usable(driver, told.opened or Opened(driver, "unknown", "none", (), {}, {}, ()))
    return 0


def _say_usable(driver: str, opened: Opened) -> None:
    version = "of unknown version" if opened.version in ("", "unknown") else f"version {opened.version}"
    where = f"{' and '.join(opened.backings)}, privilege level {opened.lane}"
    say(one_line(f"{driver} ({version}) can be judged: it passed the preflight on {where}"))
    if "mounts" in opened.lacking:
        say(f"this host mounts no overlays, so that most requirements are not tested: {opened.lacking['mounts']}")
    if version == "of unknown version":
        say("docs/adapters.md says where the version of a driver comes from")
    for name, reason in opened.declined.items():
        say(one_line(f"it declines {name}: {reason}"))
    if opened.absent:
        for name, reason in opened.absent.items():
            say(one_line(f"{name} will fail: {reason}, and does not decline it"))
        say("Add the method, or decline what the driver lacks by design: its requirements are DECLINED then.")
        say("'overlay-conformance list --capability NAME' lists them.")
        print_block(driver, list(opened.absent))
    say(f"next: overlay-conformance run {shlex.quote(driver)} --profile smoke")
