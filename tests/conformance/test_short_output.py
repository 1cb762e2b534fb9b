"""What a run prints: one block for each cause as it happens, and a bounded number of lines in all."""

from __future__ import annotations

import io
import lzma
import os
import re
import subprocess
import sys
import time
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from conformance.cli.base import say
from conformance.cli.blocks import LINES, WIDTH, Blocks, block
from conformance.cli.progress import Progress
from conformance.cli.summary import LEFT_OUT, print_summary
from conformance.harness import events
from conformance.harness.skips import NOT_APPLICABLE
from conformance.operations import ops
from conformance.operations.standard import STANDARD
from conformance.report.brief import expected_and_actual, folded
from conformance.report.causes import EXPLAINED, causes_of
from conformance.report.consequences import LABEL
from conformance.report.records import Part, read
from conformance.spec import load_requirements
from conformance.spec.verdicts import TestOutcome, Verdict

# What "run python:naive:Driver --seed 1" wrote for tests/support/naive.py.
STORED = Path(__file__).with_name("naive.jsonl.xz")
KNOWN = load_requirements()
MOST = 250  # lines of a run of a driver of which nearly everything fails
FIXTURE = (
    "create layer-0",
    "get layer-0",
    *(f"  {ops.describe(one)}" for one in STANDARD),
    "put layer-0",
)


def failed(
    reason: str, *steps: str, requirement: str = "OVL-TREE-MODEL", test: str = "test_x[host]"
) -> TestOutcome:
    return TestOutcome(test, (requirement,), Verdict.FAIL, reason, steps)


@pytest.fixture(scope="module")
def naive(tmp_path_factory: pytest.TempPathFactory) -> Part:
    path = tmp_path_factory.mktemp("naive") / "results.jsonl"
    path.write_bytes(lzma.decompress(STORED.read_bytes()))
    (part,) = read(path)
    return part


@pytest.fixture(scope="module")
def printed(naive: Part) -> list[str]:
    """The lines of the run, as in a pipe."""
    out = io.StringIO()
    with redirect_stdout(out):
        blocks = Blocks(say, KNOWN, lambda outcome, _: outcome, lambda outcome: f"failures/{outcome.test}")
        for outcome in naive.outcomes:
            blocks.hear(outcome)
        print_summary(Console(file=out), naive, blocks, code=1, evidence=Path("failures"))
    return out.getvalue().splitlines()


def test_a_driver_of_which_nearly_everything_fails_has_a_brief_report(naive: Part, printed: list[str]) -> None:
    failures = [one for one in naive.outcomes if one.verdict is Verdict.FAIL]
    assert len(failures) > 300
    assert len(printed) < MOST


def test_each_failed_requirement_is_in_the_list_and_has_a_block(naive: Part, printed: list[str]) -> None:
    numbers = {found[1] for line in printed if (found := re.match(r"^\[(\d+)\] (FAIL|ERROR) ", line))}
    listed = dict(re.findall(r"(OVL-[A-Z0-9-]+)\[([\d,]+)\]", "\n".join(printed)))
    wanted = {one.requirement for one in naive.results() if one.verdict in EXPLAINED}
    assert set(listed) == wanted
    assert all(numbers >= set(said.split(",")) for said in listed.values())


def test_all_verdicts_are_in_the_list(naive: Part, printed: list[str]) -> None:
    text = "\n".join(printed)
    assert all(re.search(rf"\b{one.requirement}\b", text) for one in naive.results())


def test_a_note_does_not_repeat_another(printed: list[str]) -> None:
    assert LEFT_OUT == NOT_APPLICABLE
    notes = [line.removeprefix("note: ").removeprefix(LEFT_OUT) for line in printed if line.startswith("note: ")]
    assert len(notes) == len(set(notes))


def test_a_block_is_short_and_says_what_matters(naive: Part) -> None:
    for cause in causes_of(naive.outcomes):
        for outcome in cause.outcomes:
            lines = block(cause.number, cause.words, outcome, KNOWN, "folder")
            assert len(lines) <= LINES
            assert all(len(line) <= WIDTH for line in lines)
            assert lines[0].startswith(f"[{cause.number}] {outcome.verdict.value} {outcome.requirements[0]}")
            assert lines[1] == f"    why: {KNOWN[outcome.requirements[0]].sentence}"[: len(lines[1])] or lines[
                1
            ].endswith("...")
            of_driver = outcome.verdict is Verdict.FAIL
            assert lines[2].startswith(f"    {LABEL}: ") is of_driver
            assert any(line.startswith("    actual:   ") for line in lines)
            assert lines[-2] == "    evidence: folder"


def test_a_block_comes_when_its_failure_does_and_only_once() -> None:
    said: list[str] = []
    blocks = Blocks(said.append, KNOWN, lambda outcome, _: outcome, lambda _: "")
    blocks.hear(TestOutcome("test_a[host]", ("OVL-TREE-MODEL",), Verdict.PASS))
    assert not said
    blocks.hear(failed("the tree of a differs from the expected tree:\nunexpected: 'b'"))
    assert said[0].startswith("[1] FAIL OVL-TREE-MODEL (MUST): deleted or hidden entries are visible")
    before = len(said)
    same = failed(
        "the tree of b differs from the expected tree:\nunexpected: 'c'", requirement="OVL-WHITEOUT-HIDES"
    )
    blocks.hear(same)
    assert len(said) == before
    assert blocks.number(same) == 1
    blocks.hear(failed("the tree of b differs from the expected tree:\n'c': owner is 0:0, expected 1:1"))
    assert said[before].startswith("[2] FAIL")


def test_a_known_failure_has_no_block() -> None:
    said: list[str] = []
    versions: list[str] = []

    def settled(outcome: TestOutcome, version: str) -> TestOutcome:
        versions.append(version)
        return replace(outcome, verdict=Verdict.XFAIL)

    blocks = Blocks(said.append, KNOWN, settled, lambda _: "")
    blocks.hear(events.Opened("driver", "1.2", "root", (), {}, {}, ()))
    blocks.hear(failed("wrong"))
    assert not said
    assert versions == ["1.2"]


def test_a_run_goes_on_if_nobody_reads_its_blocks() -> None:
    def gone(_: str) -> None:
        raise BrokenPipeError

    blocks = Blocks(gone, KNOWN, lambda outcome, _: outcome, lambda _: "")
    blocks.hear(failed("one"))
    blocks.hear(failed("the size of the diff of x: expected 1, found 2"))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("'a': mtime is in second 5, expected in second 6", "b'a': mode is -rw-------, expected drwx------"),
        (
            "the tree of a differs from the expected tree:\n'f': mtime in ns is 1000000000, expected 1000000001",
            "the tree of a differs from the expected tree:\n'f': mtime in ns is 7, expected 1000000001",
        ),
        ("create x: expected a refusal, but the driver did it", "get x: expected a refusal, but the driver did it"),
        (
            "the driver refused a step that it must do: OSError: [Errno 5] Input/output error: 'x'",
            "the driver refused a step that it must do: OSError: [Errno 2] No such file or directory: 'x'",
        ),
        ("the driver's process died of SIGSEGV in diff", "the driver's process died of SIGSEGV in apply_diff"),
    ],
)
def test_different_causes_are_different(one: str, other: str) -> None:
    assert len(causes_of([failed(one), failed(other)])) == 2


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        (
            "the tree of a differs from the expected tree:\n'f': mtime in ns is 1000000000, expected 1000000001",
            "the tree of b differs from the expected tree:\n'g': mtime in ns is 5000000000, expected 5999999999",
            "times are rounded to whole seconds",
        ),
        (
            "the tree of a differs from the expected tree:\n'b': mode is drwxr-xr-x, expected lrwxrwxrwx\n"
            "unexpected: 'b/a'",
            "the tree of a differs from the expected tree:\n'b': mode is drwxr-xr-x, expected lrwxrwxrwx",
            "a directory is shown instead of a symlink",
        ),
        (
            "get_x raised TypeError: no (which is no refusal)\nTraceback (most recent call last):\n"
            '  File "/x/conformance/drivers/python/host.py", line 1, in f\n'
            '  File "/a/mine.py", line 3, in remove\n    y',
            "get_x raised TypeError: no (which is no refusal)\nTraceback (most recent call last):\n"
            '  File "/a/mine.py", line 3, in remove\n    y\n'
            '  File "/usr/lib/python3.11/shutil.py", line 7, in rmtree\n    z',
            "get_x raised TypeError: no in remove of mine.py",
        ),
    ],
)
def test_the_same_cause_is_one(one: str, other: str, words: str) -> None:
    (cause,) = causes_of([failed(one), failed(other, requirement="OVL-WHITEOUT-HIDES")])
    assert cause.words == words
    assert cause.requirements == ("OVL-TREE-MODEL", "OVL-WHITEOUT-HIDES")


def test_the_usual_tree_and_a_layer_are_one_line_each() -> None:
    steps = [*FIXTURE, "create layer-1 on layer-0", "get layer-1", "  Unlink a", "  Unlink e", "put layer-1"]
    assert folded([*steps, "look at the tree of layer-1"]) == [
        "create layer-0: the usual tree: a, d/a, d/d/a, e/, b -> d",
        "create layer-1 on layer-0: Unlink a; Unlink e",
        "look at the tree of layer-1",
    ]


def test_steps_of_two_stores_are_folded_with_their_store() -> None:
    steps = ["one: create a", "one: get a", "one:   Unlink x", "one: put a", "two: create a", "two: get a"]
    assert folded(steps) == ["one: create a: Unlink x", "two: create a", "two: get a"]


@pytest.mark.parametrize(
    ("reason", "expected", "actual"),
    [
        ("the size of x: expected 5, found 7", "the size of x: 5", "7"),
        (
            "create x on y: expected a refusal, but the driver did it",
            "create x on y is refused",
            "the driver did it",
        ),
        ("expected no b'a' in child, and it is there", "no b'a' in child", "it is there"),
        (
            "the tree of a differs from the expected tree:\n'f': owner is 0:0, expected 1:1\nmissing: 'g'",
            "the tree of a: 'f' owner 1:1; 'g'",
            "'f' owner 0:0; no 'g'",
        ),
        ("something else", "", "something else"),
        (
            "x in /tmp/run-x/round-0/stores/host/main/s1/outside: expected 1, found /a/stores/host/gw0/s12/home",
            "x in .../s1/outside: 1",
            ".../s12/home",
        ),
        (
            "cannot read /tmp/run-x/round-0/stores/tmpfs/mounted/main/s1/image.tar",
            "",
            "cannot read .../s1/image.tar",
        ),
    ],
)
def test_expected_and_actual_are_apart(reason: str, expected: str, actual: str) -> None:
    assert expected_and_actual(failed(reason)) == (expected, actual)


def test_progress_in_a_pipe_comes_while_a_test_runs() -> None:
    said: list[str] = []
    with Progress(Console(file=io.StringIO()), "opening the driver", said.append, 0.02) as shown:
        shown.hear(events.Collected(12))
        shown.hear(failed("wrong"))
        shown.hear(events.Testing("test_that_is_long"))
        deadline = time.monotonic() + 30
        while not (said and "long" in said[-1]) and time.monotonic() < deadline:
            time.sleep(0.01)
    assert re.fullmatch(r"\d+ s, 1 of 12 tests, 1 FAIL  test_that_is_long", said[-1])
    before = len(said)
    time.sleep(0.1)
    assert len(said) == before, "nothing after the end"


def test_a_test_of_several_rounds_is_counted_once() -> None:
    said: list[str] = []
    with Progress(Console(file=io.StringIO()), "opening the driver", said.append, 0.02) as shown:
        shown.hear(events.Collected(2))
        bad, good = failed("wrong"), replace(failed("wrong"), test="test_of_another", verdict=Verdict.PASS)
        for one in (good, bad, good, replace(bad, verdict=Verdict.PASS)):
            shown.hear(one)
        shown.hear(events.Testing("test_that_is_long"))
        deadline = time.monotonic() + 30
        while not (said and "long" in said[-1]) and time.monotonic() < deadline:
            time.sleep(0.01)
    assert re.fullmatch(r"\d+ s, 2 of 2 tests, 1 PASS, 1 FAIL  test_that_is_long", said[-1])


def test_trials_of_generated_mutants_are_counted() -> None:
    said: list[str] = []
    with Progress(Console(file=io.StringIO()), "measuring", said.append, 0.02, "mutants") as shown:
        shown.hear(events.Collected(3))
        shown.hear(events.Judged("module:function", events.GeneratedFate.KILLED, "test_it", (), "", 1, 0.1))
        shown.hear(events.Testing("module:another"))
        deadline = time.monotonic() + 30
        while not (said and "another" in said[-1]) and time.monotonic() < deadline:
            time.sleep(0.01)
    assert re.fullmatch(r"\d+ s, 1 of 3 mutants, module:another", said[-1])


@pytest.mark.mounts
def test_a_failure_is_printed_while_the_run_goes_on(tmp_path: Path) -> None:
    ids = ("OVL-MOUNT-LOST", "OVL-WHITEOUT-IN-DIFF", "OVL-DIFF-TAR", "OVL-HOSTILE-JUNK")
    words = [word for one in ids for word in ("--requirement", one)]
    command = [
        sys.executable,
        "-m",
        "conformance",
        "run",
        "python:naive:Driver",
        *words,
        "--seed",
        "1",
        "--examples",
        "1",
    ]
    path = os.pathsep.join([str(Path(__file__).parents[1] / "support"), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(
        [*command, "--scratch", str(tmp_path), "--evidence", str(tmp_path / "failures")],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
    ) as run:
        assert run.stdout is not None
        first = run.stdout.readline()
        assert run.poll() is None
        rest = run.stdout.read()
    assert first.startswith("[1] FAIL OVL-")
    assert run.returncode == 1
    folder = next(line.partition("evidence: ")[2] for line in rest.splitlines() if "    evidence: " in line)
    assert (Path(folder) / "failure.md").is_file(), folder
    assert re.search(r"^FAIL +OVL-WHITEOUT-IN-DIFF ", rest, re.M)
