"""The selftest itself, on mutants that are written for it: it has to report those that survive."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from reading import records
from rich.console import Console

from conformance.cli.selftest import Asked, HarnessFailed, tried
from conformance.selftest.kills import Fate, KillMatrix, Trial
from conformance.selftest.mutants.mutant import Mutant

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
    source = "boundary: none"
    mutants = [
        Mutant(wrong.BreaksNothing, (CREATE,), source),
        Mutant(wrong.HidesLayers, (CREATE, UNKNOWN), source),
        Mutant(wrong.Unfinished, (CREATE,), source),
        Mutant(wrong.DoesNotOpen, (CREATE,), source),
        Mutant(wrong.Ends, (CREATE,), source),
    ]
    found = trials_of(ask(*mutants), scratch)
    assert {name: one.fate for name, one in found.items()} == {
        "BreaksNothing": Fate.SURVIVED,
        "HidesLayers": Fate.KILLED,
        "Unfinished": Fate.SURVIVED,
        "DoesNotOpen": Fate.SURVIVED,
        "Ends": Fate.KILLED,
    }
    assert "PASS" in found["BreaksNothing"].reason
    assert "AttributeError" in found["Unfinished"].reason
    assert "no_such_function" in found["DoesNotOpen"].reason
    kill = found["HidesLayers"].killed_by(CREATE)
    assert kill is not None
    assert 0 < kill.seconds <= kill.shrunk_seconds <= found["HidesLayers"].seconds
    assert (kill.examples, kill.drawn) == (1, False)
    assert found["HidesLayers"].missed == (UNKNOWN,)
    assert os.listdir(scratch) == []  # nothing of a trial stays


def test_what_dies_of_something_else_lives(wrong: Any, scratch: Path) -> None:
    found = trials_of(ask(Mutant(wrong.HidesLayers, (UNKNOWN, CREATE), "boundary: none")), scratch)
    assert found["HidesLayers"].fate is Fate.BY_OTHERS
    assert found["HidesLayers"].missed == (UNKNOWN,)


def test_what_hangs_is_ended_with_its_time(wrong: Any, scratch: Path) -> None:
    found = trials_of(ask(Mutant(wrong.Hangs, (CREATE,), "boundary: none"), budget=5.0), scratch)
    assert found["Hangs"].fate is Fate.SURVIVED
    assert "after 5 s" in found["Hangs"].reason


def test_what_this_host_lacks_is_not_applicable(wrong: Any, scratch: Path) -> None:
    mutant = Mutant(wrong.HidesLayers, (CREATE,), "boundary: none", needs="selinux")
    lacking = not os.path.exists("/sys/fs/selinux/enforce")
    found = trials_of(ask(mutant), scratch)["HidesLayers"]
    assert found.fate is (Fate.NOT_APPLICABLE if lacking else Fate.KILLED)
    assert ("SELinux" in found.reason) == lacking


def test_examples_are_counted_up_to_the_first_that_fails(scratch: Path) -> None:
    from conformance.selftest.mutants.archives import ApplyOmitsDeletions

    mutant = Mutant(ApplyOmitsDeletions, ("OVL-APPLY-ROUND-TRIP",), "boundary: none")
    found = trials_of(ask(mutant, seeds=(1,)), scratch)["ApplyOmitsDeletions"]
    kill = found.killed_by("OVL-APPLY-ROUND-TRIP")
    assert kill is not None
    assert kill.drawn
    assert kill.size == 1  # the deletion
    assert kill.steps > kill.size
    # The chain that hypothesis begins with holds no deletion, so one example is not enough.
    assert kill.examples > 1
    assert kill.seconds < kill.shrunk_seconds


def test_a_basis_that_is_wrong_itself_proves_nothing(wrong: Any, scratch: Path) -> None:
    asked = ask(
        Mutant(wrong.HidesLayers, (CREATE,), "boundary: none"),
        basis="conformance.selftest.mutants.archives_apply:ApplyRefusesEveryArchive",
    )
    with pytest.raises(HarnessFailed):
        tried(asked, scratch, Console(quiet=True))


def selftest(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "conformance", "selftest", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


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
    done = selftest(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert f"KILLED           {'ExistsIsAlwaysTrue':36} OVL-LIFE-CREATE" in done.stdout
    (trial,) = records(results, "trial")
    assert trial["kills"][0]["requirements"] == [CREATE]
    assert "`ExistsIsAlwaysTrue`" in table.read_text()
    page = subprocess.run(
        [sys.executable, "-m", "conformance", "schema", "--kills"], capture_output=True, text=True, check=True
    )
    assert json.loads(page.stdout)["$id"] == "urn:overlay-conformance:kills:1"


def test_an_unknown_mutant_is_refused() -> None:
    done = selftest("--fault", "NoSuchMutant")
    assert done.returncode == 2
    assert "no mutant NoSuchMutant" in done.stderr
