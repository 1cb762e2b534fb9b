"""``selftest --generated``: run the suite on mutants that are made by a machine, and report those that survive."""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import click
from rich.console import Console

import conformance
from conformance.cli.base import interruption_of_verb, say, say_error
from conformance.cli.progress import Progress
from conformance.harness.events import Event, Judged
from conformance.harness.events import GeneratedFate as Fate
from conformance.harness.following import follow
from conformance.lab.backing import HOST
from conformance.report.generatedfile import About, Results
from conformance.report.records import digest_of as digest_of_requirements
from conformance.selftest.generated.equivalent import Equivalent, equivalents_of, file_of, stale
from conformance.selftest.generated.fates import Score, Tried, median_seconds, scores_by
from conformance.selftest.generated.mutants import (
    GeneratedMutant,
    Module,
    as_mutation,
    digest_of,
    modules_of,
    mutants_of,
    sample,
)
from conformance.selftest.generated.survivors import NAME as SURVIVORS
from conformance.selftest.generated.survivors import Explained, explained_of, explanation_of, without_mutant
from conformance.selftest.generated.trials import Attempt, Attempts
from conformance.spec import load_requirements
from conformance.spec.errors import HarnessError
from conformance.spec.naming import suggestion
from conformance.spec.profiles import EXAMPLES

BUDGET: Final = 900.0  # seconds for a trial
_PULSE: Final = 30.0  # seconds between two lines in a pipe: a trial may take minutes
_CALL_TIMEOUT: Final = 15.0  # seconds for a call of a mutant, which may hang


class GeneratedFailed(HarnessError):
    """Nothing can be said of the mutants; the text says why."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The command line. ``names`` are ids of mutants, or beginnings of them; without any, a sample is tried.

    With ``whole``, mutants that are listed as equivalent are tried, too. With ``again``, those that survived in the
    result file are, which may be of an earlier specification: tests were added. ``selected`` are the requirements
    whose tests are run, all if it is empty, and ``backings`` the backing filesystems that they are run on.
    """

    number: int
    seed: int
    names: tuple[str, ...]
    profile: str
    basis: str
    jobs: int
    budget: float
    equivalent: Path | None
    results: Path | None
    whole: bool = False
    call_timeout: float = _CALL_TIMEOUT
    selected: tuple[str, ...] = ()
    again: bool = False
    backings: tuple[str, ...] = (HOST,)


@dataclass(frozen=True, slots=True)
class GeneratedReport:
    """What came of a sample.

    ``wrong`` are entries of the list of equivalent mutants that were killed. ``stale`` are entries of it, and
    ``outdated`` of the list of survivors, that are of no mutant.
    """

    about: About
    tried: tuple[Tried, ...]
    stale: tuple[Equivalent, ...]
    wrong: tuple[Tried, ...]
    outdated: tuple[Explained, ...] = ()

    @property
    def exit_code(self) -> Literal[0, 1]:
        """1 if a mutant survives or is undecided, or a list has a stale or wrong entry."""
        score = Score.of(self.tried)
        return 1 if score.survived or score.undecided or self.stale or self.wrong or self.outdated else 0


def tried(wanted: Wanted, directory: Path, console: Console) -> GeneratedReport:
    """Try the mutants, with their scratch below a directory; raises GeneratedFailed."""
    began = time.monotonic()
    modules = {one.name: one for one in modules_of(wanted.basis)}
    everything = [mutant for one in modules.values() for mutant in mutants_of(one)]
    chosen = _chosen(wanted, everything)
    file = wanted.equivalent or file_of(wanted.basis)
    entries = equivalents_of(file) if file else ()
    why = file_of(wanted.basis, SURVIVORS)
    explained = explained_of(why) if why else ()
    about = _about(wanted, modules.values(), len(everything))
    results = Results.begun(about, wanted.results, grown=wanted.again)
    listed = {one.id: entry for one in chosen for entry in entries if entry.is_of(one)}
    results.forget([one.id for one in chosen if wanted.whole or one.id not in listed], survived=wanted.again)
    waiting = [one for one in chosen if one.id not in results.tried and (wanted.whole or one.id not in listed)]
    killed = {one.id: results.tried[one.id].test for one in chosen if _was_killed(results, one.id)}
    _try(wanted, waiting, killed, modules, results, directory, console)
    found = [
        _with_entry(one, results.tried.get(one.id), listed.get(one.id), explanation_of(explained, one))
        for one in chosen
    ]
    wrong = [one for one in found if one.fate is Fate.KILLED and one.mutant.id in listed]
    outdated = without_mutant(explained, everything)
    report = GeneratedReport(about, tuple(found), tuple(stale(entries, everything)), tuple(wrong), tuple(outdated))
    results.tried |= {one.mutant.id: one for one in found}
    results.finish(found, time.monotonic() - began, report.exit_code)
    return report


def _chosen(wanted: Wanted, everything: Sequence[GeneratedMutant]) -> list[GeneratedMutant]:
    if not wanted.names:
        return sample(everything, wanted.number, wanted.seed)
    found = []
    for name in wanted.names:
        named = [one for one in everything if one.id.startswith(name)]
        if not named:
            meant = suggestion(name, (one.id for one in everything))
            raise click.UsageError(f"no generated mutant {name}{meant}; the result file has the ids")
        found += named
    return list(dict.fromkeys(found))


def _with_entry(
    mutant: GeneratedMutant, tried: Tried | None, entry: Equivalent | None, explained: Explained | None
) -> Tried:
    """The fate of a mutant; one that is listed is equivalent unless the suite killed it."""
    if entry and (tried is None or tried.fate in (Fate.SURVIVED, Fate.EQUIVALENT)):
        return Tried(mutant, Fate.EQUIVALENT, reason=entry.reason)
    assert tried is not None, "it is listed or was tried"
    if explained and tried.fate is Fate.SURVIVED:
        return replace(tried, kind=explained.kind, reason=explained.reason)
    return tried


def _was_killed(results: Results, id_: str) -> bool:
    return id_ in results.tried and results.tried[id_].fate is Fate.KILLED


def _about(wanted: Wanted, modules: Iterable[Module], mutants: int) -> About:
    return About(
        suite=importlib.metadata.version("overlay-conformance"),
        specification=digest_of_requirements(load_requirements()),
        basis=wanted.basis,
        sources=digest_of(modules),
        kernel=platform.release(),
        machine=platform.machine(),
        profile=wanted.profile,
        examples=EXAMPLES[wanted.profile],
        seed=wanted.seed,
        call_timeout=wanted.call_timeout,
        mutants=mutants,
        started=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


@dataclass(frozen=True, slots=True)
class _Recorder:
    """Writes each result to the file when it comes, so that an interrupted run keeps it."""

    mutants: Mapping[str, GeneratedMutant]
    results: Results
    progress: Progress

    def hear(self, event: Event) -> None:
        """One event of the worker."""
        if isinstance(event, Judged):
            self.results.add(Tried.of(self.mutants[event.id], event))
        self.progress.hear(event)


def _try(
    wanted: Wanted,
    mutants: Sequence[GeneratedMutant],
    killed: Mapping[str, str],
    modules: Mapping[str, Module],
    results: Results,
    directory: Path,
    console: Console,
) -> None:
    """Try the mutants; each is in the results as soon as its trial ended. ``killed`` names tests by ids."""
    if not mutants:
        return
    by_id = {one.id: one for one in mutants} | {one: results.tried[one].mutant for one in killed}
    attempts = []
    for number, one in enumerate(mutants):
        file = directory / f"mutation-{number}.json"
        file.write_text(json.dumps(as_mutation(one, modules[one.module].source)))
        attempts.append(Attempt(one.id, one.module, one.statement, one.imported, str(file)))

    with Progress(console, "measuring what the tests execute", say_error, _PULSE, "mutants") as progress:
        task = Attempts(
            str(directory),
            os.getpid(),
            wanted.basis,
            wanted.profile,
            wanted.seed,
            wanted.call_timeout,
            wanted.budget,
            wanted.jobs,
            tuple(attempts),
            wanted.selected,
            killed,
            _kept(wanted, modules.values()),
            wanted.backings,
        )
        listener = _Recorder(by_id, results, progress)
        told = follow("conformance.selftest.generated.trials", task, listener, interruption=interruption_of_verb())
    if told.failure:
        raise GeneratedFailed(f"the harness failed: {told.failure}")


def _kept(wanted: Wanted, modules: Iterable[Module]) -> str:
    """Where what the tests execute is kept, beside the results; the name changes with the sources of both."""
    if not wanted.results:
        return ""
    asked = digest_of(modules), wanted.profile, wanted.seed, wanted.selected, wanted.backings
    said = hashlib.sha256(repr(asked).encode())
    for file in sorted(Path(conformance.__file__).parent.rglob("*")):
        if file.suffix in (".py", ".toml"):
            said.update(file.read_bytes())
    return str(wanted.results.resolve().with_suffix(f".{said.hexdigest()[:12]}.reach.json"))


def print_generated(report: GeneratedReport) -> None:
    """The survivors with their diffs, the scores, and what is wrong with the list of equivalent mutants."""
    for one in report.tried:
        if one.fate not in (Fate.SURVIVED, Fate.UNDECIDED):
            continue
        mutant = one.mutant
        say(f"{one.fate.value:9} {mutant.path}:{mutant.line}  {mutant.id}")
        said = f"{one.kind}: {one.reason}" if one.kind else one.reason
        say(f"  executed by {one.reached} tests" + (f"; {said}" if said else ""))
        for line in mutant.diff.splitlines()[2:]:
            say(f"  {line}")
    for title, groups in (
        ("operator", scores_by(report.tried, lambda one: one.mutant.operator)),
        ("module", scores_by(report.tried, lambda one: one.mutant.module)),
    ):
        say(f"{title:32} killed survived stillborn equivalent undecided  score")
        for name, score in groups.items():
            say(f"{name:32} {_counts(score)}")
    for entry in report.stale:
        say(
            f"stale: the list of equivalent mutants has one that the source lacks: {entry.module}:{entry.function},"
            f" {entry.operator}, {entry.before!r} -> {entry.after!r}"
        )
    for why in report.outdated:
        say(
            f"stale: the list of survivors has one that the source lacks: {why.module}:{why.function},"
            f" {why.before!r}"
        )
    for one in report.wrong:
        say(f"wrong: {one.mutant.id} is listed as equivalent, and {one.test} killed it: {one.reason}")
    score = Score.of(report.tried)
    say(f"{'all ' + str(len(report.tried)):32} {_counts(score)}")
    say(f"time to kill: median {median_seconds(report.tried):.1f} s")


def _counts(score: Score) -> str:
    share = f"{score.share:.1%}" if score.killed + score.survived + score.undecided else "-"
    counts = f"{score.killed:6} {score.survived:8} {score.stillborn:9} {score.equivalent:10} {score.undecided:9}"
    return f"{counts} {share:>6}"
