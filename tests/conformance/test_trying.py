"""``run --preflight-only`` and ``doctor DRIVER``, and the capabilities that a run proposes to decline."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner
from commanding import command
from reading import verdicts

from conformance.cli import main
from conformance.report.declining import Proposal, proposals
from conformance.spec import Capability, Requirement
from conformance.spec.verdicts import RequirementResult, Verdict

DRIVERS = """
import os
from refdriver import Driver, DriverError

__version__ = "7.1"

class Bare:
    def __init__(self, home, **asked):
        self._driver = Driver(home, **asked)

for name in ("create create_read_write remove get put exists diff apply_diff metadata status cleanup").split():
    setattr(Bare, name, lambda self, *given, _name=name: getattr(self._driver, _name)(*given))

class Least:
    def __init__(self, home):
        self._driver = Driver(home)
    def create(self, layer_id, parent=""):
        self._driver.create(layer_id, parent)
    def create_read_write(self, layer_id, parent=""):
        self._driver.create_read_write(layer_id, parent)
    def get(self, layer_id):
        return self._driver.get(layer_id)

for name in ("remove put exists cleanup").split():
    setattr(Least, name, lambda self, *given, _name=name: getattr(self._driver, _name)(*given))

class Wrapper:
    def __init__(self, home, **asked):
        self._driver = Driver(home, **asked)
    def __getattr__(self, name):
        return getattr(self._driver, name)

class Refuses(Driver):
    def create(self, *given):
        raise DriverError("no room")

class Loses(Driver):
    def put(self, layer_id):
        if os.path.exists(f"{self.root}/of-child/file"):
            os.unlink(f"{self.root}/of-child/file")
        super().put(layer_id)
    def get(self, layer_id, label=""):
        self.root = super().get(layer_id, label)
        return self.root
"""


@pytest.fixture
def directory(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the drivers are, and everything that a run writes."""
    (scratch / "trying.py").write_text(DRIVERS)
    monkeypatch.setenv("PYTHONPATH", str(scratch))
    monkeypatch.chdir(scratch)
    return scratch


@pytest.mark.mounts
@pytest.mark.slow
@pytest.mark.parametrize("words", [("run", "--preflight-only"), ("doctor",)], ids=" ".join)
@pytest.mark.parametrize(
    ("driver", "status", "said"),
    [
        ("trying:Wrapper", 0, "python:trying:Wrapper (version 7.1) can be judged: it passed the preflight on host"),
        ("trying:Refuses", 2, "cannot be judged: the driver (version 7.1) refused a step of the preflight"),
        ("trying:Loses", 1, "python:trying:Loses deviates in the preflight: a run would judge nothing else"),
    ],
)
def test_a_driver_is_tried_and_not_judged(
    directory: Path, words: tuple[str, ...], driver: str, status: int, said: str
) -> None:
    done = command(*words, f"python:{driver}", "--scratch", str(directory))
    assert done.returncode == status, done.stdout + done.stderr
    assert said in done.stdout + done.stderr
    assert "next: " in done.stdout + done.stderr
    assert "declined_capabilities" not in done.stdout
    assert "PASS" not in done.stdout
    assert sorted(os.listdir(directory)) == ["trying.py"]


@pytest.mark.mounts
@pytest.mark.slow
def test_a_method_that_is_not_there_is_known_before_a_run(directory: Path) -> None:
    done = command("doctor", "python:trying:Bare", "--scratch", str(directory))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "changes will fail: Bare has no method 'changes', and does not decline it" in done.stdout
    assert '      "diff-size": "not implemented",\n' in done.stdout
    assert '"diff":' not in done.stdout


@pytest.mark.mounts
@pytest.mark.slow
def test_what_a_run_proposes_can_be_pasted_and_is_declined_then(directory: Path) -> None:
    words = [
        "--family",
        "changes",
        "--profile",
        "quick",
        "--no-shrink",
        "--no-evidence",
        "--scratch",
        str(directory),
    ]
    done = command("run", "python:trying:Bare", *words)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "and repairs nothing" in done.stdout
    assert re.search(r"^  changes: \d+ failed requirements \(OVL-CHANGES-\S+, ", done.stdout, re.MULTILINE)
    # The conclusion is still the last line.
    assert done.stdout.strip().splitlines()[-1].endswith("-> does not conform")
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("Or in the connection string: ")]
    (connection,) = shlex.split(line.partition(": ")[2])
    results = directory / "results.jsonl"
    again = command("run", connection, *words, "--results", str(results))
    assert again.returncode in (0, 3), again.stdout + again.stderr
    assert set(verdicts(results).values()) <= {"DECLINED", "PASS"}
    assert "DECLINED" in verdicts(results).values()
    block = done.stdout[done.stdout.index("  declined_capabilities") :].partition("  }\n")[0] + "  }\n"
    with (directory / "trying.py").open("a") as file:
        file.write(f"\nclass Declining(Bare):\n{block}")
    pasted = command("run", "python:trying:Declining", *words, "--results", str(results))
    assert pasted.returncode == again.returncode, pasted.stdout + pasted.stderr
    assert "DECLINED" in verdicts(results).values()


@pytest.mark.mounts
@pytest.mark.slow
def test_what_smoke_proposes_covers_all_that_a_class_certainly_lacks(directory: Path) -> None:
    words = ["--profile", "smoke", "--no-shrink", "--no-evidence", "--scratch", str(directory)]
    done = command("run", "python:trying:Least", *words)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "\n  image-stores: " in done.stdout
    assert "\n  labels: Least has no second argument of 'get'; nothing else failed by it" in done.stdout
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("Or in the connection string: ")]
    (connection,) = shlex.split(line.partition(": ")[2])
    again = command("run", connection, *words)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "The author of the driver can decline" not in again.stdout


def test_a_preflight_has_no_results() -> None:
    told = CliRunner().invoke(main, ["run", "python:a:B", "--preflight-only", "--results", "results.jsonl"])
    assert told.exit_code == 2
    assert "--preflight-only judges nothing" in told.stderr


CAPABILITIES = {
    one.name: one
    for one in (
        Capability("mounts", "host", ""),
        Capability("all", "driver", "", core=True),
        Capability("sizes", "driver", ""),
        Capability("lists", "driver", ""),
    )
}


def proposed(said: str, *, declined: tuple[str, ...] = (), broken: tuple[str, ...] = ()) -> list[Proposal]:
    """The proposals for results such as ``FAIL all sizes; PASS all``: a verdict, and what its requirement needs."""
    results, requirements = [], {}
    for number, one in enumerate(said.split("; ")):
        verdict, *needs = one.split()
        name = f"R{number}"
        requirements[name] = Requirement(name, "", "MUST", "", "", (), "", tuple(needs))
        results.append(RequirementResult(name, Verdict(verdict)))
    return proposals(results, requirements, CAPABILITIES, declined, broken)


def test_what_costs_least_is_proposed() -> None:
    said = "FAIL mounts all sizes; FAIL all sizes; PASS all; PASS all lists; PASS all"
    assert proposed(said) == [Proposal("sizes", ("R0", "R1"), ())]
    assert proposed(said, declined=("sizes",)) == []  # all passes more often than it fails


def test_one_failure_alone_is_a_proposal_only_if_the_claim_itself_fails() -> None:
    said = "FAIL all sizes; PASS all sizes; PASS all"
    assert proposed(said) == []
    assert proposed(said, broken=("sizes",)) == [Proposal("sizes", ("R0",), ("R1",))]


def test_what_another_proposal_covers_is_left_out_and_core_is_said() -> None:
    said = "FAIL all sizes; FAIL all sizes; FAIL all lists; FAIL all; FAIL all"
    assert proposed(said) == [Proposal("all", ("R0", "R1", "R2", "R3", "R4"), (), core=True)]


def test_what_no_capability_explains_is_not_proposed() -> None:
    assert proposed("FAIL; FAIL mounts; PASS sizes") == []
