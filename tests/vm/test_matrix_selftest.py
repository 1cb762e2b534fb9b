"""``matrix selftest`` where no machine is needed; with one, it is what CI runs on every mutant."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Self

import pytest
from smallsource import mutants

from conformance.harness.events import GeneratedFate
from conformance.report import generatedfile
from conformance.selftest.generated.fates import Tried
from vm import selftest
from vm.machines import Place


def ran(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "conformance", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_what_the_host_could_try_takes_no_machine(tmp_path: Path) -> None:
    held, output = tmp_path / "host.jsonl", tmp_path / "kills"
    assert ran("selftest", "--fault", "ExistsIsAlwaysTrue", "--results", str(held)).returncode == 0
    done = ran("matrix", "selftest", "--untried", str(held), "--output", str(output))
    assert done.returncode == 0, done.stderr
    assert "nothing is left for a machine" in done.stdout
    trials = [json.loads(line) for line in (output / "kills.jsonl").read_text().splitlines()]
    assert [one["fate"] for one in trials if one["record"] == "trial"] == ["KILLED"]
    assert "`ExistsIsAlwaysTrue`" in (output / "kills.md").read_text()
    assert sorted(path.name for path in output.iterdir()) == ["kills.jsonl", "kills.md"]


@pytest.mark.slow
def test_a_file_that_is_no_selftest_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    held, output = tmp_path / "host.jsonl", tmp_path / "kills"
    held.write_text('{"record": "run"}\n')
    done = ran("matrix", "selftest", "--untried", str(held), "--output", str(output))
    assert done.returncode == 2
    assert str(held) in done.stderr
    assert not output.exists()


def generated(file: Path, *fates: tuple[GeneratedFate, str]) -> generatedfile.Results:
    """A result file of generated mutants with these fates and kinds of reasons."""
    about = generatedfile.About(
        *("0.3.0", "0123456789ab", "small:Driver", "0123456789ab", "6.1.0", "x86_64", "standard"),
        examples=10,
        seed=1,
        call_timeout=15.0,
        mutants=60,
        started="2026-11-25T00:00:00+00:00",
    )
    found = [Tried(one, fate, kind=kind) for one, (fate, kind) in zip(mutants(), fates, strict=False)]
    results = generatedfile.Results(about, file, {one.mutant.id: one for one in found})
    results.write()
    return results


def test_generated_mutants_that_no_machine_could_kill_take_none(tmp_path: Path) -> None:
    file, output = tmp_path / "generated.jsonl", tmp_path / "out"
    generated(file, (GeneratedFate.KILLED, ""), (GeneratedFate.SURVIVED, "gap"))
    done = ran("matrix", "selftest", "--generated", str(file), "--output", str(output))
    assert done.returncode == 1, done.stderr  # as a mutant survives
    assert "nothing is left for one" in done.stdout
    found = generatedfile.read(output / "generated.jsonl")[1]
    assert [one.fate for one in found] == [GeneratedFate.KILLED, GeneratedFate.SURVIVED]
    assert "1 of 2 mutants are killed" in (output / "generated.md").read_text()


def test_what_a_machine_killed_is_killed(tmp_path: Path) -> None:
    of_host = generated(
        tmp_path / "host.jsonl",
        (GeneratedFate.SURVIVED, "gap"),
        (GeneratedFate.SURVIVED, "machine"),
        (GeneratedFate.SURVIVED, "machine"),
    )
    first, killed, survived = of_host.tried
    there = of_host.of_another_machine(tmp_path / "there.jsonl")
    assert list(there.tried) == of_host.elsewhere == [killed, survived]
    there.tried[killed] = replace(there.tried[killed], fate=GeneratedFate.KILLED, kind="", test="test_it")
    there.write()
    of_host.join(tmp_path / "there.jsonl")
    assert {name: one.fate for name, one in of_host.tried.items()} == {
        first: GeneratedFate.SURVIVED,
        killed: GeneratedFate.KILLED,
        survived: GeneratedFate.SURVIVED,
    }
    assert of_host.tried[killed].test == "test_it"


class Interrupted:
    """Machines of which the only one is interrupted in the middle of its trials; it cannot be had in a test."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.destroyed: list[str] = []
        self.name = "k7-2"
        self.held = b""

    def up(self, name: str, place: Place) -> Self:
        del name, place
        return self

    def destroy(self, name: str, place: Place) -> None:
        del place
        self.destroyed.append(name)

    def run(self, command: str, given: bytes = b"") -> bytes:
        if command.startswith("cat "):
            return self.held.replace(b'"SURVIVED"', b'"KILLED"', 1)
        self.held = given or self.held
        return b""

    @contextmanager
    def start(self, command: str, output: object) -> Iterator[Self]:
        del output
        self.asked.append(command)
        yield self

    def wait(self) -> int:
        raise KeyboardInterrupt

    def kill(self) -> None:
        pass


def test_a_machine_that_is_interrupted_leaves_what_was_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fates = ((GeneratedFate.SURVIVED, "gap"), *[(GeneratedFate.SURVIVED, "machine")] * 2)
    results = generated(tmp_path / "host.jsonl", *fates)
    machines, said = Interrupted(), list[str]()
    monkeypatch.setattr(selftest, "machines_of", lambda _: machines)
    asked = selftest.AskedGenerated(results, 60.0, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        selftest.run_generated("k7-2", asked, Place(tmp_path, tmp_path, "uml"), said.append)
    found = generatedfile.read(tmp_path / "generated.jsonl")[1]
    assert [one.fate.value for one in found] == ["SURVIVED", "KILLED", "SURVIVED"]
    assert not (tmp_path / "survivors.jsonl").exists()
    assert machines.destroyed == ["k7-2"]
    assert "--backing xfs" in machines.asked[0], "most of the mutants need its quota"
    assert any("go on with --generated" in one for one in said)


@pytest.mark.parametrize("others", [("--mutant", "A"), ("--untried", __file__)])
def test_generated_mutants_come_alone(tmp_path: Path, others: tuple[str, ...]) -> None:
    file = tmp_path / "generated.jsonl"
    generated(file)
    done = ran("matrix", "selftest", "--generated", str(file), *others, "--output", str(tmp_path / "out"))
    assert (done.returncode, (tmp_path / "out").exists()) == (2, False)
    assert "--generated takes no --mutant and no --untried" in done.stderr
