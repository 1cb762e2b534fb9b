"""The cause of a failure is a value from where it was raised; reports make words of it and read no others."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from commanding import command

from conformance.drivers.protocol import DriverFailed, DriverRefused
from conformance.harness import assertions
from conformance.harness.causing import cause_of
from conformance.harness.deviation import Deviation
from conformance.history.calls import ApplyDiff, Get
from conformance.history.findings import OutsideChanged
from conformance.history.steps import Called, Opened, Step
from conformance.operations.trees import Node, Snapshot
from conformance.report import causes
from conformance.report.records import read
from conformance.spec.causes import UNKNOWN, Cause, CauseKind, TreeDifference
from conformance.spec.verdicts import TestOutcome, Verdict

FILE, DIRECTORY, SYMLINK = (kind | 0o644 for kind in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK))


def tree(**nodes: Node) -> Snapshot:
    return Snapshot({name.encode(): node for name, node in nodes.items()}, frozenset())


def differing(expected: Snapshot, actual: Snapshot) -> Cause:
    with pytest.raises(Deviation) as raised:
        assertions.same_tree("the tree of a", expected, actual)
    return cause_of(raised.value, [])


@pytest.mark.parametrize(
    ("expected", "actual", "difference"),
    [
        (tree(), tree(a=Node(FILE)), TreeDifference.UNEXPECTED),
        (tree(a=Node(FILE)), tree(), TreeDifference.MISSING),
        (tree(a=Node(FILE, content=b"1")), tree(a=Node(FILE, content=b"2")), TreeDifference.CONTENT),
        (tree(a=Node(FILE)), tree(a=Node(FILE + 1)), TreeDifference.MODE),
        (tree(a=Node(FILE)), tree(a=Node(FILE, uid=1)), TreeDifference.OWNER),
        (
            tree(a=Node(FILE, mtime_ns=5_999_999_999)),
            tree(a=Node(FILE, mtime_ns=5_000_000_000)),
            TreeDifference.ROUNDED,
        ),
        (tree(a=Node(FILE, mtime_ns=7)), tree(a=Node(FILE, mtime_ns=8)), TreeDifference.MTIME),
        # Several: the first in order is what the others follow from.
        (tree(a=Node(FILE, content=b"1")), tree(a=Node(FILE), b=Node(FILE)), TreeDifference.UNEXPECTED),
    ],
)
def test_the_cause_of_a_wrong_tree_is_its_first_difference(
    expected: Snapshot, actual: Snapshot, difference: TreeDifference
) -> None:
    assert differing(expected, actual) == Cause(CauseKind.TREE, difference=difference)


def test_a_file_of_another_type_says_both_types() -> None:
    found = differing(tree(b=Node(SYMLINK, target=b"d")), tree(b=Node(DIRECTORY)))
    assert found == Cause(CauseKind.TREE, difference=TreeDifference.KIND, shown="directory", wanted="symlink")
    assert said(found) == "a directory is shown instead of a symlink"


STEPS: tuple[Step, ...] = (
    Opened("s", refused=None),
    Called("s", ApplyDiff("x", "", "a.tar"), refused="no"),
    Called("s", Get("x")),
)


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (
            DriverRefused("OSError: [Errno 5] Input/output error: '/x/1'", "OSError", "Input/output error"),
            Cause(CauseKind.REFUSED, "apply", "OSError: Input/output error"),
        ),
        (
            DriverRefused("Error: [('/a/1', '/b/1', \"[Errno 2] No such file or directory: '/a/1'\")]", "Error"),
            Cause(CauseKind.REFUSED, "apply", "Error: No such file or directory"),
        ),
        (
            DriverRefused("BadOption: no option 'x' of 3", "BadOption"),
            Cause(CauseKind.REFUSED, "apply", "BadOption: no option '' of 0"),
        ),
        (
            DriverRefused("creating layer 'a': open /x/17/diff: no such file"),
            Cause(CauseKind.REFUSED, "apply", "creating layer '': open /: no such file"),
        ),
        (
            DriverRefused('failed to convert whiteout file ".wh.a": file exists, said "two words"'),
            Cause(CauseKind.REFUSED, "apply", 'failed to convert whiteout file "": file exists, said "two words"'),
        ),
        (
            DriverFailed("get raised NameError: name 'x' is no name (which is no refusal)", "", defect="f of d.py"),
            Cause(CauseKind.DEFECT, error="get raised NameError: name 'x' is no name", where=("f of d.py",)),
        ),
        (
            DriverFailed(
                "the driver did not answer get within 60 s (--call-timeout)",
                'File "/usr/lib/python3.11/os.py", line 1 in f\n  File "/a/mine.py", line 3 in get',
                hangs=True,
            ),
            Cause(
                CauseKind.UNANSWERED,
                error="the driver did not answer get within 0 s (--call-timeout)",
                where=('File "/a/mine.py", line 3 in get',),
            ),
        ),
        (Deviation("x", OutsideChanged("outside")), Cause(CauseKind.HOST_CHANGED)),
        (Deviation("x"), UNKNOWN),
        (ValueError("x"), UNKNOWN),
    ],
)
def test_the_cause_of_an_error_is_of_its_type(error: BaseException, cause: Cause) -> None:
    assert cause_of(error, STEPS) == cause


def test_a_refused_opening_is_a_call() -> None:
    steps = [*STEPS, Opened("s", refused="no such option")]
    assert cause_of(DriverRefused("no such option"), steps).call == "open"


def said(cause: Cause, reason: str = "anything") -> str:
    return causes.cause_of(TestOutcome("test_x", ("OVL-TREE-MODEL",), Verdict.FAIL, reason, cause=cause))


@pytest.mark.parametrize("kind", CauseKind)
def test_words_come_from_the_value_whatever_the_reason_is(kind: CauseKind) -> None:
    cause = Cause(kind, "create", "error", ("here",), TreeDifference.MODE)
    reason = "the tree of a differs from the expected tree:\nunexpected: 'b'"
    assert said(cause) == said(cause, reason)


def test_each_kind_and_difference_has_words_of_its_own() -> None:
    words = [said(Cause(kind, "create", "an error", ("f of x.py",))) for kind in CauseKind if kind.value != "tree"]
    words += [said(Cause(CauseKind.TREE, difference=one)) for one in TreeDifference]
    assert len(set(words)) == len(words)


@pytest.mark.mounts
def test_a_run_has_causes_that_are_those_of_its_words(tmp_path: Path) -> None:
    """A driver of which much fails; conformance.report.earlier reads the words of files that have no causes."""
    results = tmp_path / "results.jsonl"
    words = ["run", "python:naive:Driver", "--seed", "1", "--examples", "1"]
    words += ["--family", "whiteouts-and-opaque", "--family", "diff", "--no-evidence", "--no-shrink"]
    path = os.pathsep.join([str(Path(__file__).parents[1] / "support"), os.environ.get("PYTHONPATH", "")])
    command(*words, "--scratch", str(tmp_path), "--results", str(results), env={**os.environ, "PYTHONPATH": path})
    (part,) = read(results)
    failures = [one for one in part.outcomes if one.verdict is Verdict.FAIL]
    assert len(failures) > 10
    assert all(one.cause for one in failures)
    assert len({one.cause.kind for one in failures if one.cause}) > 2
    agreeing = [causes.cause_of(one) == causes.cause_of(replace(one, cause=None)) for one in failures]
    assert sum(agreeing) > len(failures) * 0.9
