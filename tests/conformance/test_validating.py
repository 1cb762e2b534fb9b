"""``validate-adapter``: adapters that are broken on purpose are named, and correct ones are not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import validated
from click.testing import CliRunner
from commanding import command
from snapshotting import needs_containerd

from conformance.cli import main
from conformance.drivers.protocol import CallLimit, DriverInfo, DriverRefused, OpenRequest
from conformance.drivers.registry import connect
from conformance.drivers.source import DriverSource
from conformance.harness.validating.checks import checks
from conformance.harness.validating.subject import Subject
from conformance.harness.validating.values import Check, Result, Whose
from conformance.harness.validating.watch import (
    Answered,
    Endless,
    Foreign,
    Watch,
    WatchedOptions,
    was_read,
    watched,
)

SUPPORT = Path(validated.__file__).parent
PLUGIN = f"graphdriver:?command={Path(sys.executable).with_name('refdriver')} serve --graphdriver {{socket}}"


def validate(scratch: Path, adapter: str, limit: float = 20.0, **changed: Any) -> list[Check]:
    source = replace(validated.source(adapter), **changed)
    return list(checks(Subject(source, False, scratch, {}, CallLimit(limit), Watch(limit))))


def wrong(found: Sequence[Check]) -> list[tuple[str, Whose]]:
    return [(one.name, one.whose) for one in found if one.result is Result.WRONG]


def test_a_correct_adapter_has_no_fault(scratch: Path) -> None:
    found = validate(scratch, "Good")
    assert {one.result for one in found} == {Result.OK}
    assert {one.name for one in found} == {
        *("opening", "calls", "types of answers", "visible trees", "unmounting", "refusals", "repeated calls"),
        "leave and open again",
        *("two stores", "calls after close", "request of a store", "options", "options of a layer", "id maps"),
        "nothing left behind",
    }


@pytest.mark.parametrize(
    ("adapter", "name", "said"),
    [
        ("RaisesErrorsOfItsOwn", "refusals", "create base raised Refusal: layer base exists ("),
        ("ReportsRefusalsAsFailures", "refusals", "of 9 calls that cannot be done, none is refused: 9 fail"),
        ("IgnoresErrors", "refusals", "of 9 calls that cannot be done, none is refused: 0 fail, and 9 succeed"),
        ("RefusesWithoutWords", "refusals", "refusals have no text"),
        ("CrashesAfterClose", "calls after close", "after close raised AttributeError"),
        ("AnswersAfterClose", "calls after close", "get never-created after close succeeded"),
        ("CrashesWhenRepeated", "repeated calls", "put base again raised KeyError: 'count'"),
        ("AnswersText", "types of answers", "exists: expected bool, got str"),
        ("AnswersPairs", "types of answers", "changes: expected a list of Change"),
        ("AnswersSizeAsText", "types of answers", "diff_size: expected int, got str"),
        ("AnswersPath", "calls", ": a path is a str"),
        ("AnswersAnotherRoot", "calls", "this cannot be resolved"),
        ("WritesNoArchive", "types of answers", "diff: expected a tar archive"),
        ("RemembersLayers", "two stores", "a layer of one store exists in another"),
        ("CannotLeave", "leave and open again", "leave raised NotImplementedError: leave ("),
        ("DropsOptions", "request of a store", "request.options (capability options)"),
        ("DropsOptions", "options", "was accepted, and request.options was never read"),
        ("DropsLayerOptions", "options of a layer", "was accepted, and its content was never read"),
        ("DropsMaps", "request of a store", "request.id_map (capability id-maps)"),
        ("DropsMaps", "id maps", "container root is 100000:200000"),
        ("DropsGroups", "id maps", "belongs to 100000:100000"),
        ("HasNoLimit", "request of a store", "request.limit"),
        ("NeverEnds", "calls", "status did not end within 0.5 s"),
        ("LacksMethods", "opening", "the opened driver has no leave, metadata"),
    ],
)
def test_a_broken_adapter_is_named(
    scratch: Path, monkeypatch: pytest.MonkeyPatch, adapter: str, name: str, said: str
) -> None:
    monkeypatch.setattr("conformance.harness.validating.watch._GRACE", 0.1)
    monkeypatch.setattr("conformance.harness.validating.checks._PATIENCE", 0.1)
    if "id maps" in name and os.geteuid() != 0:
        pytest.skip("needs root")
    found = validate(scratch, adapter, 0.5 if adapter == "NeverEnds" else 20.0)
    named = [one for one in found if one.name == name and one.result is Result.WRONG]
    assert named, found
    assert said in named[0].said
    assert named[0].whose is Whose.ADAPTER
    assert named[0].next


def test_what_cannot_be_told_is_not_said_to_be_the_adapters(scratch: Path) -> None:
    """A driver that accepts what it should refuse, and one that refuses what it should do, may do so itself."""

    class Accepts(validated.Good):
        def options(self) -> tuple[str, ...]:
            return self.request.options[:0]  # read, and left out

    class Refuses(validated.Good):
        def reopen(self) -> Any:
            raise DriverRefused("busy")

    found = validate(scratch, "Good", open=Accepts)
    unclear = [(one.name, one.whose) for one in found if one.result is not Result.OK]
    assert unclear == [("options", Whose.EITHER)]
    (scratch / "again").mkdir()
    found = validate(scratch / "again", "RemovesWhatItLeaves")
    assert wrong(found) == [("leave and open again", Whose.EITHER)]
    (scratch / "refuses").mkdir()
    found = validate(scratch / "refuses", "Good", open=Refuses)
    assert wrong(found) == [("calls", Whose.EITHER)]
    assert "open the home again was refused: busy" in found[1].said
    own = Subject(replace(validated.source("Good"), open=Refuses), True, scratch / "own", {})
    own.directory.mkdir()
    assert wrong(list(checks(own))) == [("calls", Whose.DRIVER)]


CALLS = {
    "status": "status",
    "metadata": "metadata",
    "diff": "diff",
    "apply": "apply_diff",
    "diff-size": "diff_size",
    "changes": "changes",
}


ORDER = ("status", "metadata", "diff-size", "changes", "diff", "apply")


@pytest.mark.parametrize("declined", [*CALLS, "all"])
def test_what_is_declined_is_not_called(scratch: Path, declined: str) -> None:
    names = list(CALLS) if declined == "all" else [declined]
    called: list[str] = []

    class Records(validated.Good):
        def __getattribute__(self, name: str) -> Any:
            if name in CALLS.values() and sys._getframe(1).f_code.co_filename.endswith("contained.py"):
                called.append(name)
            return super().__getattribute__(name)

    info = DriverInfo("validated:Records", "1", validated.DECLINED | dict.fromkeys(names, "it has none"))
    found = validate(scratch, "Good", open=Records, info=info)
    assert wrong(found) == []
    assert not {CALLS[one] for one in names} & set(called)
    said = next(one.said for one in found if one.result is Result.DECLINED and one.name == "calls")
    assert said == f"not called: {', '.join(sorted(names, key=ORDER.index))}"
    if declined not in ("all", "diff"):
        assert set(called) == set(CALLS.values()) - {CALLS[declined]}


def test_a_method_that_a_class_lacks_and_does_not_decline_is_the_drivers(scratch: Path) -> None:
    info = DriverInfo("validated:Good", "1", validated.DECLINED, {"changes": "Driver has no method 'changes'"})
    found = validate(scratch, "Good", info=info)
    assert wrong(found) == [("opening", Whose.DRIVER)]


def test_an_adapter_that_cannot_open_is_named_and_all_is_over(scratch: Path) -> None:
    def refuses(request: OpenRequest) -> Any:
        raise DriverRefused(f"no module for {request.directory}")

    def crashes(request: OpenRequest) -> Any:
        raise KeyError(request.directory)

    for number, (opens, whose) in enumerate(((refuses, Whose.EITHER), (crashes, Whose.ADAPTER))):
        (scratch / str(number)).mkdir()
        found = validate(scratch / str(number), "Good", open=opens)
        assert wrong(found)[0] == ("opening", whose)
        assert {one.name for one in found} == {"opening", "request of a store", "nothing left behind"}


def test_a_host_without_mounts_tells_nothing_of_a_driver_that_mounts() -> None:
    source = DriverSource(DriverInfo("x", "1"), validated.Good)
    found = list(checks(Subject(source, False, Path("/nowhere"), {"mounts": "none here"})))
    assert (found[0].name, found[0].result) == ("opening", Result.UNCLEAR)
    assert wrong(found) == []


def test_times_are_medians_with_the_part_of_processes() -> None:
    watch = Watch(5)
    for _ in range(3):
        assert watch.call("runs", lambda: subprocess.run(["true"], check=True)) != None  # noqa: E711
        assert isinstance(watch.call("waits", lambda: None), Answered)
    watch.call("", lambda: None)
    runs, waits = watch.timings()
    assert (runs.call, runs.calls, waits.call, waits.commands) == ("runs", 3, "waits", None)
    assert runs.commands is not None
    assert runs.seconds >= runs.adapter > 0
    assert watch.started_a_process("runs") is True
    assert watch.started_a_process("waits") is False
    assert watch.started_a_process("never") is None


def test_a_call_without_an_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conformance.harness.validating.watch._GRACE", 0.1)
    assert Watch(0.1).call("hangs", lambda: subprocess.run(["sleep", "5"], check=True)) == Endless(0.1)
    assert isinstance(Watch(1).call("raises", lambda: os.environ["NO_SUCH"]), Foreign)


@pytest.mark.parametrize(
    ("reads", "looked"),
    [
        (lambda one: json.dumps(one), True),
        (lambda one: dict(one), True),
        (lambda one: {**one}, True),
        (lambda one: [f"{key}={value}" for key, value in one.items()], True),
        (lambda one: one.get("a"), True),
        (bool, False),
        (lambda one: one is not None, False),
    ],
)
def test_options_know_whether_anybody_read_them(reads: Callable[[Any], object], looked: bool) -> None:
    options = WatchedOptions({"a": "b"})
    reads(options)
    assert options.looked is looked


def test_a_request_knows_what_was_read_of_it(tmp_path: Path) -> None:
    request = watched(OpenRequest(tmp_path, options=("a=b",)))
    assert was_read(request) == set()
    assert request.options == ("a=b",)
    assert was_read(request) == {"options"}
    assert replace(request, umask=7).umask == 7
    assert was_read(request) >= {"prefix", "limit"}  # a copy may be passed on whole


def ran(scratch: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command, with the kind of the module validated as it is registered by its package."""
    metadata = scratch / "site" / "validated-1.0.dist-info"
    metadata.mkdir(parents=True, exist_ok=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: validated\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[overlay_conformance.adapters]\nvalidated = validated:KIND\n")
    path = os.pathsep.join([str(scratch / "site"), str(SUPPORT), os.environ.get("PYTHONPATH", "")])
    (scratch / "stores").mkdir(exist_ok=True)
    done = command(
        *("validate-adapter", *words, "--scratch", str(scratch / "stores")), env={**os.environ, "PYTHONPATH": path}
    )
    assert os.listdir(scratch / "stores") == []
    return done


@pytest.mark.mounts
@pytest.mark.slow
@pytest.mark.parametrize(
    ("adapter", "said"),
    [
        ("Mounts", ""),
        ("ForgetsPuts", "WRONG    unmounting           adapter: after the only get and its put, "),
        ("MountsElsewhere", "adapter: the tree of base is mounted in the mount namespace of process "),
        (
            "SharesItsHome",
            "adapter: get base: expected the path of a directory below",
        ),
        ("LeavesProcesses", "WRONG    nothing left behind  adapter: processes that still run: "),
    ],
)
def test_an_adapter_of_another_package_is_validated_in_mounts_of_its_own(
    scratch: Path, adapter: str, said: str
) -> None:
    done = ran(scratch, f"validated:{adapter}")
    assert (done.returncode, done.stderr) == (1 if said else 0, "")
    assert said in done.stdout
    assert len(done.stdout.splitlines()) < 45


@pytest.mark.mounts
@pytest.mark.slow
@pytest.mark.parametrize(
    "driver",
    [
        "python:refdriver:Driver",
        PLUGIN,
        pytest.param(
            "containers-storage:overlay",
            marks=pytest.mark.skipif(
                not shutil.which("containers-storage"), reason="needs the package containers-storage"
            ),
        ),
        pytest.param("containerd:overlayfs", marks=needs_containerd),
    ],
)
def test_the_adapters_of_this_project_are_fine_and_the_lines_follow_the_schema(scratch: Path, driver: str) -> None:
    done = ran(scratch, driver, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    schema = json.loads(CliRunner().invoke(main, ["schema", "--validation"]).stdout)
    for line in lines:
        jsonschema.validate(line, schema)
    assert lines[0]["driver"] == driver
    assert lines[0]["own"] is True
    assert lines[-1] == {"record": "end", "exit_code": 0}
    assert {one["result"] for one in lines if one["record"] == "check"} <= {"OK", "declined"}
    timed = {one["call"] for one in lines if one["record"] == "timing"}
    assert {"create", "get", "put", "exists", "diff", "apply_diff", "remove", "reopen"} <= timed


@pytest.mark.mounts
def test_a_call_of_an_opening_that_was_closed_is_refused(scratch: Path) -> None:
    source = connect("python:refdriver:Driver")
    try:
        driver = source.open(OpenRequest(scratch))
        driver.close()
        with pytest.raises(DriverRefused, match="exists: the store was closed"):
            driver.exists("a")
    finally:
        source.close()


def test_a_name_of_no_driver_is_no_answer(scratch: Path) -> None:
    done = ran(scratch, "pythonn:refdriver:Driver")
    assert done.returncode == 2
    assert "did you mean 'python'?" in done.stderr
    assert done.stdout == ""
