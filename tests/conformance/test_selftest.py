"""The selftest itself, on mutants that are written for it: it has to report those that survive."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from commanding import command
from reading import records
from rich.console import Console

from conformance.cli.progress import Milestones
from conformance.cli.selftest import Asked, HarnessFailed, control_of, tried
from conformance.harness.events import Collected, Tried
from conformance.selftest.kills import Fate, KillMatrix, Trial
from conformance.selftest.mutants.mutant import Mutant
from conformance.spec import load_requirements

pytestmark = pytest.mark.mounts

# Imported by the process of the trials, so it is a module of its own.
WRONG = '''
import os
import time

from conformance.selftest.mutants.basis import Faithful


class BreaksNothing(Faithful):
    """Nothing is wrong with it."""


class HidesLayers(Faithful):
    """No layer exists."""

    def exists(self, layer_id):
        return False


class HidesLayersToo(HidesLayers):
    """The same, named for another requirement."""


class NeedsSelinux(HidesLayers):
    """The same, on a host that may lack what it needs."""


class Unfinished(Faithful):
    """Its own code does not work."""

    def get(self, layer_id):
        return self.nowhere


class DoesNotOpen(Faithful):
    """Its constructor does not work."""

    def __init__(self, home, **asked):
        self.no_such_function()


class Hangs(Faithful):
    """It never comes back."""

    def create(self, layer_id, parent=""):
        time.sleep(3600)


class Ends(Faithful):
    """It takes its process with it."""

    def create(self, layer_id, parent=""):
        os._exit(3)
'''
CREATE, UNKNOWN = "OVL-LIFE-CREATE", "OVL-LIFE-UNKNOWN-PARENT"


@pytest.fixture
def wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "wrong_drivers.py").write_text(WRONG)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("CONFORMANCE_MUTANT_BASIS", "refdriver:Driver")
    sys.modules.pop("wrong_drivers", None)
    import wrong_drivers  # type: ignore[import-not-found,unused-ignore]

    return wrong_drivers


def ask(*mutants: Mutant, **changes: Any) -> Asked:
    asked = Asked(mutants, False, "standard", 600.0, 2, (1,), False, "refdriver:Driver")
    return dataclasses.replace(asked, **changes)


def trials_of(asked: Asked, scratch: Path) -> Mapping[str, Trial]:
    matrix: KillMatrix = tried(asked, scratch, Console(quiet=True)).matrix
    return {one.mutant: one for one in matrix.trials}


def test_what_lives_is_told_from_what_does_not(wrong: Any, scratch: Path) -> None:
    """All in one selftest, as each starts a process that imports everything."""
    from conformance.selftest.mutants.archives import ApplyOmitsDeletions

    source = "boundary: none"
    mutants = [
        Mutant(wrong.BreaksNothing, (CREATE,), source),
        Mutant(wrong.HidesLayers, (CREATE, UNKNOWN), source),
        Mutant(wrong.HidesLayersToo, (UNKNOWN, CREATE), source),
        Mutant(wrong.NeedsSelinux, (CREATE,), source, needs="selinux"),
        Mutant(wrong.Unfinished, (CREATE,), source),
        Mutant(wrong.DoesNotOpen, (CREATE,), source),
        Mutant(wrong.Ends, (CREATE,), source),
        Mutant(ApplyOmitsDeletions, ("OVL-APPLY-ROUND-TRIP",), source),
    ]
    found = trials_of(ask(*mutants), scratch)
    lacking = not os.path.exists("/sys/fs/selinux/enforce")
    assert {name: one.fate for name, one in found.items()} == {
        "BreaksNothing": Fate.SURVIVED,
        "HidesLayers": Fate.KILLED,
        "HidesLayersToo": Fate.BY_OTHERS,
        "NeedsSelinux": Fate.NOT_APPLICABLE if lacking else Fate.KILLED,
        "Unfinished": Fate.SURVIVED,
        "DoesNotOpen": Fate.SURVIVED,
        "Ends": Fate.KILLED,
        "ApplyOmitsDeletions": Fate.KILLED,
    }
    assert "PASS" in found["BreaksNothing"].reason
    assert "AttributeError" in found["Unfinished"].reason
    assert "no_such_function" in found["DoesNotOpen"].reason
    assert ("SELinux" in found["NeedsSelinux"].reason) == lacking
    assert os.listdir(scratch) == []  # nothing of a trial stays
    kill_is_told(found["HidesLayers"])
    assert found["HidesLayersToo"].missed == (UNKNOWN,)  # it dies of something else
    examples_are_counted_up_to_the_first_that_fails(found["ApplyOmitsDeletions"])


def kill_is_told(trial: Trial) -> None:
    kill = trial.killed_by(CREATE)
    assert kill is not None
    assert 0 < kill.seconds <= kill.shrunk_seconds <= trial.seconds
    assert (kill.examples, kill.drawn, kill.quick) == (1, False, True)
    assert trial.is_killed_by_quick(CREATE)
    assert trial.missed == (UNKNOWN,)


def examples_are_counted_up_to_the_first_that_fails(trial: Trial) -> None:
    (kill,) = [one for one in trial.kills if one.test == "test_a_chain_survives_diff_and_apply[host]"]
    assert kill.drawn
    assert kill.size == 1  # the deletion
    assert kill.steps > kill.size
    # The chain that hypothesis begins with holds no deletion, so one example is not enough.
    assert kill.examples > 1
    assert kill.seconds < kill.shrunk_seconds


def test_what_hangs_is_ended_with_its_time(wrong: Any, scratch: Path) -> None:
    found = trials_of(ask(Mutant(wrong.Hangs, (CREATE,), "boundary: none"), budget=5.0), scratch)
    assert found["Hangs"].fate is Fate.SURVIVED
    assert "after 5 s" in found["Hangs"].reason


@pytest.mark.parametrize("complete", [True, False])
def test_the_correct_driver_is_tried_by_all_tests_where_all_mutants_are(complete: bool) -> None:
    control = control_of(ask(complete=complete))
    assert (set(control.breaks) == set(load_requirements())) == complete
    assert control.whole == complete


def test_a_basis_that_is_wrong_itself_proves_nothing(wrong: Any, scratch: Path) -> None:
    asked = ask(
        Mutant(wrong.HidesLayers, (CREATE,), "boundary: none"),
        basis="conformance.selftest.mutants.archives_apply:ApplyRefusesEveryArchive",
    )
    with pytest.raises(HarnessFailed):
        tried(asked, scratch, Console(quiet=True))


def test_the_command_says_who_killed_it_and_leaves_a_file(scratch: Path) -> None:
    results, table = scratch / "kills.jsonl", scratch / "kills.md"
    words = [
        "--mutant",
        "ExistsIsAlwaysTrue",
        "--scratch",
        str(scratch),
        "--results",
        str(results),
        "--markdown",
        str(table),
    ]
    done = command("selftest", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert f"KILLED           {'ExistsIsAlwaysTrue':36} OVL-LIFE-CREATE" in done.stdout
    (trial,) = records(results, "trial")
    assert trial["kills"][0]["requirements"] == [CREATE]
    assert "`ExistsIsAlwaysTrue`" in table.read_text()
    assert json.loads(command("schema", "--kills").stdout)["$id"] == "urn:overlay-conformance:kills:1"


def test_a_log_says_every_half_minute_how_many_trials_ended() -> None:
    now, said = [100.0], list[str]()
    milestones = Milestones(said.append, lambda: now[0])
    milestones.hear(Collected(5))
    for passed in (10.0, 15.0, 10.0, 29.0, 30.0):
        now[0] += passed
        milestones.hear(Tried("Wrong", 1))
    assert said == ["3 of 5 trials in 35 s", "5 of 5 trials in 94 s"]


def test_an_unknown_mutant_is_refused() -> None:
    done = command("selftest", "--fault", "NoSuchMutant")
    assert done.returncode == 2
    assert "no mutant NoSuchMutant" in done.stderr
