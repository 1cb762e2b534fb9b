"""Drivers that are correct and different: each is different, and no test calls it wrong."""

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
from commanding import command
from rich.console import Console

from conformance.cli.progress import Progress
from conformance.cli.selftest import Asked, jobs_of_variants, tried
from conformance.harness.following import follow
from conformance.lab.backing import BACKINGS, HOST
from conformance.lab.scratch import scratch_directory
from conformance.report.killfile import KillReport
from conformance.selftest.alarms import Choice, Standing, heard
from conformance.selftest.kills import Seen
from conformance.selftest.mutants.catalogue import MUTANTS
from conformance.selftest.trials import Trials
from conformance.selftest.variants.catalogue import VARIANTS
from conformance.selftest.variants.variant import Variant
from conformance.spec import load_requirements

# What of the observations below shows each choice.
SHOWN = {
    "ComparesTrees": "status",
    "MarksInUserAttributes": "marks",
    "AppliesThroughTheMount": "whiteout",
    "ListsChangesBackwards": "changes",
    "ListsAllThatIsGone": "changes",
    "ArchivesByDepth": "diff",
    "NamesLinksByTheLast": "diff",
    "MakesWhiteoutsOfItsOwn": "diff",
    "MarksOpaqueLast": "diff",
    "CutsTimes": "diff",
    "RoundsTimesToSeconds": "diff",
    "TakesArchivesWithoutAnEnd": "no end",
    "WritesGnuHeaders": "diff",
    "SaysAllInRecords": "diff",
    "GivesMoreFields": "diff",
    "NamesFromTheDot": "diff",
    "LeavesReservedNamesOut": "reserved",
    "MountsByTheNewCalls": "mounted",
    "MountsFromTheHome": "mounted",
    "MountsWithMoreOptions": "mounted",
    "MakesMountPointsLate": "mount point",
    "UnmountsTheIdleOnly": "put of a tree in use",
    "MakesTheHomeASlave": "propagation",
    "RefusesToRemoveMounted": "remove of a mounted layer",
    "KeepsADirectoryForRemovals": "after a removal",
    "TellsMore": "metadata",
    "RefusesInOtherWords": "remove of a parent",
    "RefusesToRemoveNothing": "remove of nothing",
    "RefusesRepeatedNames": "names twice",
    "AnswersOneAtATime": "a call at a time",
    "MendsItsHome": "short links",
    "ReadsScientificSizes": "scientific sizes",
}
# Run in a process of its own: what a driver is made to do differently is for its whole process.
OBSERVER = """
import hashlib, importlib, io, json, os, re, sys, tarfile, threading
from pathlib import Path

from conformance.lab import namespace


def attempt(call):
    try:
        return str(call())
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def archive(*entries):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def mountinfo(target):
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    found = next(line.split(" ", 5)[5] for line in lines if line.split(" ")[4] == target)
    return re.sub("[A-Z2-7]{26}", "SHORT", found.replace(home, "HOME"))


namespace.enter_private_mounts()
module, name, home = sys.argv[1:]
namespace.share_mounts_in(Path(home).parent)
driver = getattr(importlib.import_module(module), name)(home)
seen = {}
driver.create("base")
root = Path(driver.get("base"))
for one in ("gone", "kept", "d/in", "e/in", "e/out"):
    (root / one).parent.mkdir(exist_ok=True)
    (root / one).write_text(one)
driver.put("base")
driver.create("top", "base")
seen["mount point"] = os.path.exists(f"{home}/top/merged")
top = Path(driver.get("top"))
seen["mounted"] = mountinfo(str(top))
os.unlink(top / "gone")
for one in (top / "d", top / "e"):
    for file in one.iterdir():
        file.unlink()
    one.rmdir()
(top / "e").mkdir()
(top / "e" / "new").write_text("new")
os.link(top / "e" / "new", top / "other")
for one in (top / "other", top / "e"):
    os.utime(one, ns=(10**18 + 5, 10**18 + 5))
driver.put("top")
seen["marks"] = os.listxattr(f"{home}/top/diff/e")
seen["changes"] = [(change.path.decode(), change.kind.name) for change in driver.changes("top", "base")]
with driver.diff("top", "base") as stream:
    data = stream.read()
seen["diff"] = hashlib.sha256(data).hexdigest()
driver.create("copy", "base")
driver.apply_diff("copy", "base", io.BytesIO(archive((".wh.gone", b""))))
seen["whiteout"] = os.lstat(f"{home}/copy/diff/gone").st_mode
seen["status"] = driver.status()
seen["metadata"] = sorted(driver.metadata("top"))
seen["propagation"] = mountinfo(os.path.realpath(home)).split(" - ")[0]
seen["remove of a parent"] = attempt(lambda: driver.remove("base"))
seen["remove of nothing"] = attempt(lambda: driver.remove("nothing"))
driver.create("twice", "base")
twice = archive(("name", b"one"), ("name", b"two"))
seen["names twice"] = attempt(lambda: driver.apply_diff("twice", "base", io.BytesIO(twice)))
driver.create("cut", "base")
seen["no end"] = attempt(lambda: driver.apply_diff("cut", "base", io.BytesIO(archive(("name", b"one"))[:1024])))
driver.remove("cut")
seen["after a removal"] = os.path.exists(f"{home}/tempdirs")
(Path(driver.get("twice")) / ".wh.name").write_text("")
with open(f"{home}/twice/merged/kept"):
    seen["put of a tree in use"] = attempt(lambda: driver.put("twice"))
driver.put("twice")
seen["reserved"] = attempt(lambda: driver.diff("twice", "base").read())
driver.get("twice")
seen["remove of a mounted layer"] = attempt(lambda: driver.remove("twice"))


class Archive(io.BytesIO):
    def read(self, *size):
        lock = getattr(driver, "lock", threading.RLock())
        found = []
        other = threading.Thread(target=lambda: found.append(lock.acquire(blocking=False)))
        other.start()
        other.join()
        seen["a call at a time"] = found
        return super().read(*size)


driver.create("locked", "base")
driver.apply_diff("locked", "base", Archive(archive()))
driver.close()
for link in Path(home, "l").iterdir():
    link.unlink()
getattr(sys.modules[module], name)(home).close()
again = getattr(sys.modules[module], name)
seen["scientific sizes"] = attempt(lambda: again(home, options=["overlay.size=0e3"]).close())
seen["short links"] = len(os.listdir(f"{home}/l"))
print(json.dumps(seen))
"""


def test_there_are_enough_and_each_has_a_name_of_its_own() -> None:
    names = [*(one.name for one in VARIANTS), *(one.name for one in MUTANTS)]
    assert [name for name in names if names.count(name) > 1] == []
    assert len(VARIANTS) >= 10
    assert SHOWN.keys() == {one.name for one in VARIANTS}


@pytest.mark.parametrize("one", VARIANTS, ids=lambda one: one.name)
def test_a_choice_says_what_it_is(one: Variant) -> None:
    known = load_requirements()
    assert one.chooses.endswith(".")
    assert one.chooses != (one.driver.__mro__[1].__doc__ or "").strip().splitlines()[0]
    assert one.source
    assert [touched for touched in one.touches if not any(id_.startswith(touched) for id_ in known)] == []
    assert set(one.waives) <= set(one.judged_by(known))
    assert {known[id_].level for id_ in one.waives} <= {"SHOULD"}
    assert one.backing in {HOST, *(backing.name for backing in BACKINGS)}


def observed(module: str, name: str, scratch: Path) -> dict[str, Any]:
    """What there is to be seen of a driver, by the keys of SHOWN."""
    home = scratch / "home"
    done = subprocess.run(
        [sys.executable, "-c", OBSERVER, module, name, str(home)],
        env={**os.environ, "CONFORMANCE_MUTANT_BASIS": "refdriver:Driver"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


@pytest.mark.mounts
@pytest.mark.parametrize("one", VARIANTS, ids=lambda one: one.name)
def test_it_is_different(one: Variant, scratch: Path, seen_of_basis: Mapping[str, Any]) -> None:
    """Nothing is proved by a driver that chooses as the others do."""
    why_not = one.why_not()
    if why_not:
        pytest.skip(why_not)
    seen = observed(one.driver.__module__, one.name, scratch)
    assert seen[SHOWN[one.name]] != seen_of_basis[SHOWN[one.name]]


@pytest.fixture(scope="module")
def seen_of_basis() -> Mapping[str, Any]:
    return seen_of_faithful()


@pytest.mark.mounts
def test_what_is_seen_is_the_same_each_time(seen_of_basis: Mapping[str, Any]) -> None:
    assert seen_of_faithful() == seen_of_basis
    assert set(SHOWN.values()) <= seen_of_basis.keys()


def seen_of_faithful() -> Mapping[str, Any]:
    with scratch_directory(None) as scratch:
        return observed("conformance.selftest.mutants.basis", "Faithful", scratch)


@pytest.mark.mounts
def test_one_is_judged_by_all_tests_of_quick_and_by_what_it_touches(scratch: Path) -> None:
    """As .ci/run judges all of them."""
    (one,) = (one for one in VARIANTS if one.name == "ListsChangesBackwards")
    asked = Asked((), True, "standard", 600.0, 2, (1,), False, "refdriver:Driver", (one,))
    task = Trials(str(scratch), os.getpid(), asked.basis, tuple(jobs_of_variants(asked, {one: ""})), "standard", 2)
    with Progress(Console(quiet=True), "judging") as progress:
        told = follow("conformance.selftest.trials", task, progress)
    assert told.failure == ""
    (tried_,) = told.tried
    found = heard(Choice.of(one), 1, Seen.of(tried_))
    assert found.standing is Standing.CONFORMS, found
    assert found.passed > 2 * len(one.judged_by(load_requirements()))
    ran = {test.test for test in tried_.outcomes}
    assert "test_changes_are_sorted[host]" in ran
    assert "test_128_lowers_work[host]" not in ran  # neither touched nor in quick


@pytest.mark.parametrize(
    ("changes", "whole", "and_quick"),
    [
        ({"complete": True}, False, True),
        ({}, False, False),
        ({"profile": "quick"}, True, False),
        ({"profile": "quick", "complete": True}, True, False),
        ({"whole": True, "complete": True}, True, False),
    ],
    ids=str,
)
def test_which_tests_judge_a_variant(changes: dict[str, Any], whole: bool, and_quick: bool) -> None:
    asked = Asked((), False, "standard", 600.0, 2, (1,), False, "refdriver:Driver", VARIANTS[:1])
    (job,) = jobs_of_variants(dataclasses.replace(asked, **changes), {VARIANTS[0]: ""})
    assert (job.whole, job.and_quick) == (whole, and_quick)
    assert job.breaks == VARIANTS[0].judged_by(load_requirements())


def report_of(*choices: Variant, scratch: Path, **changes: Any) -> KillReport:
    asked = Asked((), False, "standard", 600.0, 2, (1,), False, "refdriver:Driver", choices)
    return tried(dataclasses.replace(asked, **changes), scratch, Console(quiet=True))


# ---- What is told of drivers that are in the list and should not be. Imported by the process of the trials.

LISTED = '''
from conformance.selftest.mutants.basis import Faithful


class HidesLayers(Faithful):
    """No layer exists."""

    def exists(self, layer_id):
        return False


class Sorted(Faithful):
    """Changes are in order, whatever is said of them."""


class Unsorted(Faithful):
    """Changes are in no order."""

    def changes(self, layer_id, parent=""):
        return list(reversed(self.inner.changes(layer_id, parent)))


class WaivesOrder(Unsorted):
    """The same, as one that may."""


class TooNew(Faithful):
    """It needs what this host lacks."""


class Declines(Faithful):
    """It declines all that it touches."""

    declined_capabilities = {"changes": "not here"}
'''
CREATE, ORDER = "OVL-LIFE-CREATE", "OVL-CHANGES-ORDER"


@pytest.fixture
def listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "listed_drivers.py").write_text(LISTED)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("CONFORMANCE_MUTANT_BASIS", "refdriver:Driver")
    sys.modules.pop("listed_drivers", None)
    import listed_drivers  # type: ignore[import-not-found,unused-ignore]

    return listed_drivers


@pytest.mark.mounts
def test_each_is_judged_by_what_fails_on_it(listed: Any, scratch: Path) -> None:
    """All in one selftest, as each starts a process that imports everything."""
    report = report_of(
        Variant(listed.HidesLayers, "nobody", (CREATE,)),
        Variant(listed.Unsorted, "nobody", (ORDER,)),
        Variant(listed.WaivesOrder, "nobody", ("OVL-CHANGES",), waives=(ORDER,)),
        Variant(listed.Sorted, "nobody", (ORDER,), waives=(ORDER,)),
        Variant(listed.Declines, "nobody", (ORDER,)),
        Variant(listed.TooNew, "nobody", (ORDER,), why_not=lambda: "this host is too old"),
        scratch=scratch,
    )
    hides, unsorted_, waives, sorted_, declines, too_new = report.hearings
    # A false alarm is reported, and fails the selftest.
    assert [one.standing for one in (hides, unsorted_)] == [Standing.FALSE_ALARM] * 2
    assert {one.requirements for one in hides.alarms} == {(CREATE,)}
    assert {one.requirements for one in unsorted_.alarms} == {(ORDER,)}
    assert all(one.reason and one.test for one in hides.alarms)
    assert report.exit_code == 1
    assert os.listdir(scratch) == []
    # A waived requirement has to fail, and is no alarm.
    assert (waives.standing, waives.waived) == (Standing.CONFORMS, (ORDER,))
    assert sorted_.standing is Standing.UNDECIDED
    assert ORDER in sorted_.reason
    # A variant that cannot be judged does not conform.
    assert declines.standing is Standing.UNDECIDED
    assert declines.reason == "no test of the requirements that it touches passed"
    assert too_new.standing is Standing.NOT_APPLICABLE
    assert too_new.reason == "this host is too old"


@pytest.mark.mounts
def test_the_command_judges_one_by_name(scratch: Path) -> None:
    results = scratch / "kills.jsonl"
    words = ["--variant", "TellsMore", "--scratch", str(scratch), "--results", str(results)]
    done = command("selftest", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "CONFORMS         TellsMore" in done.stdout
    assert "1 variant: 1 CONFORMS" in done.stdout
    assert '"record": "hearing"' in results.read_text()
    assert '"record": "trial"' not in results.read_text()


def test_an_unknown_one_is_refused() -> None:
    done = command("selftest", "--different", "NoSuchDriver")
    assert done.returncode == 2
    assert "no variant NoSuchDriver" in done.stderr
