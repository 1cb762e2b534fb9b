"""What ``selftest`` prints: a line for each trial and hearing, what to look into, and the figures."""

from __future__ import annotations

from conformance.cli.base import say
from conformance.harness.events import Kill
from conformance.report.killfile import KillReport
from conformance.selftest.alarms import Choice, Hearing, Standing
from conformance.selftest.kills import Fate, Specimen, Trial

_INDENT = " " * 17


def print_kills(report: KillReport) -> None:
    """The kill matrix, and what is to be done about it."""
    seeded = len(report.about.seeds) > 1
    choices = {one.name: one for one in report.choices}
    for hearing in report.hearings:
        for line in _heard(choices[hearing.variant], hearing, seeded):
            say(line)
    if report.matrix.mutants:
        _print_trials(report, seeded)
    if report.hearings:
        standings = {one: sum(hearing.standing is one for hearing in report.hearings) for one in Standing}
        said = ", ".join(f"{count} {one.value}" for one, count in standings.items() if count)
        say(f"{len(choices)} variant{'' if len(choices) == 1 else 's'}: {said}")


def _heard(choice: Choice, hearing: Hearing, seeded: bool) -> list[str]:
    seed = f"seed {hearing.seed:<6}" if seeded else ""
    passed = f"{hearing.passed} tests passed in {hearing.seconds:.1f} s"
    lines = [f"{hearing.standing.value:16} {hearing.variant:36} {seed}{passed}"]
    if not hearing.is_good:
        lines.append(f"{_INDENT}its choice: {choice.chooses}")
    lines += [f"{_INDENT}{', '.join(one.requirements)}, {one.test}: {one.reason}" for one in hearing.alarms]
    if hearing.waived:
        lines.append(f"{_INDENT}waives: {', '.join(hearing.waived)}")
    return lines + [_INDENT + line for line in hearing.reason.splitlines() if line.strip()]


def _print_trials(report: KillReport, seeded: bool) -> None:
    matrix = report.matrix
    for mutant in matrix.mutants:
        for trial in matrix.of(mutant):
            say(_line(mutant, trial, seeded))
            for line in _remarks(mutant, trial):
                say(_INDENT + line)
    for requirement, said in report.gaps.items():
        say(f"{requirement}: {said}")
    counts = {fate: sum(matrix.fate(one) is fate for one in matrix.mutants) for fate in Fate}
    said = ", ".join(f"{count} {fate.value}" for fate, count in counts.items() if count)
    median, worst = matrix.median_and_worst()
    share = f"{matrix.share:.0%} of the applicable mutants are killed"
    count = len(matrix.mutants)
    say(f"{count} mutant{'' if count == 1 else 's'}, profile {matrix.profile}: {said}; {share}")
    if report.about.complete:
        say(f"tests of the profile quick kill {matrix.share_of_quick:.0%} of the mutants that every host can show")
    say(f"time to kill: median {median:.1f} s, worst {worst:.1f} s; total {report.about.seconds:.0f} s")


def _remarks(mutant: Specimen, trial: Trial) -> list[str]:
    lines = []
    if trial.missed and trial.fate is Fate.KILLED:
        lines.append(f"should have failed, too: {', '.join(trial.missed)}")
    others = [one for one in trial.killers if one not in mutant.breaks]
    if others:
        lines.append(f"failed, too: {', '.join(others)}")
    return lines + [line for line in trial.reason.splitlines() if line.strip()]


def _line(mutant: Specimen, trial: Trial, seeded: bool) -> str:
    kill = trial.killed_by(mutant.named_for)
    seed = f"seed {trial.seed:<6}" if seeded else ""
    return (
        f"{trial.fate.value:16} {mutant.name:36} {seed}{mutant.named_for:32}{_told(kill) if kill else ''}".rstrip()
    )


def _told(kill: Kill) -> str:
    examples = "1 example" if kill.examples == 1 else f"{kill.examples} examples"
    operations = "1 operation" if kill.size == 1 else f"{kill.size} operations"
    size = "not shrunk" if kill.size is None else f"{operations} in {kill.steps} steps"
    return f"{kill.seconds:7.2f} s  {examples:12} {size}"
