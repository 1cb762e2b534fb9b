"""A driver that is wrong in one way fails the requirement that says so, and the correct one does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from reading import records, verdicts

from conformance.spec import load_requirements

pytestmark = pytest.mark.mounts

FAULTS = {
    "OVL-LIFE-CREATE": "layers:ExistsAlways",
    "OVL-LIFE-UNKNOWN-PARENT": "layers:InventsParents",
    "OVL-LIFE-EXISTING-ID": "layers:OverwritesLayers",
    "OVL-LIFE-REMOVE": "layers:ForgetsRemove",
    "OVL-LIFE-REMOVE-PARENT": "layers:OrphansLayers",
    "OVL-LIFE-MISSING-LAYER": "layers:InventsTrees",
    "OVL-LIFE-BUSY-PARENT": "layers:RefusesBusyParents",
    "OVL-LIFE-REOPEN": "layers:ForgetsOnReopen",
    "OVL-LIFE-METADATA": "layers:SaysNothing",
    "OVL-CHAIN-128": "layers:LimitOf127",
    "OVL-CHAIN-129-REFUSED": "layers:NoLimit",
    "OVL-MOUNT-ONCE": "layers:UnmountsAtOnce",
    "OVL-MOUNT-LAST-PUT": "layers:NeverUnmounts",
    "OVL-MOUNT-EXTRA-PUT": "layers:CountsBelowZero",
    "OVL-MOUNT-PAGE-BOUNDARY": "layers:ComparesWithAWholePage",
    "OVL-MOUNT-HOME-PRIVATE": "layers:SharesMounts",
    "OVL-TREE-MODEL": "layers:LosesBits",
    "OVL-TREE-ERRNO": "layers:MountsReadOnly",
    "OVL-TREE-PARENT-UNTOUCHED": "layers:WritesThrough",
    "OVL-WHITEOUT-HIDES": "layers:ResurrectsFiles",
    "OVL-WHITEOUT-IN-DIFF": "archives:LosesWhiteoutsInDiff",
    "OVL-OPAQUE-PRESERVED": "archives:LosesOpaque",
    "OVL-DIFF-TAR": "archives:RepeatsEntries",
    "OVL-DIFF-DETERMINISTIC": "archives:RandomOrder",
    "OVL-DIFF-MINIMAL": "archives:DiffsTooMuch",
    "OVL-APPLY-ROUND-TRIP": "archives:LosesWhiteouts",
    "OVL-APPLY-FILE-TIMES": "archives:RoundsTimes",
    "OVL-APPLY-HARD-LINKS": "archives:BreaksHardLinks",
    "OVL-APPLY-LOWER-LINKS": "archives:BreaksHardLinks",
    "OVL-APPLY-WHOLE-TREE": "archives:DiffsTooLittle",
    "OVL-APPLY-TWICE": "archives:AppliesOnce",
    "OVL-APPLY-TRUNCATED": "archives:AcceptsHalfArchives",
    "OVL-APPLY-NO-END": "archives:NeedsNoEnd",
    "OVL-CHANGES-EXPLAIN": "layers:ListsNoChanges",
    "OVL-CHANGES-PARENTS": "layers:ListsNoParents",
    "OVL-SIZE-DIFF": "layers:CountsWhiteouts",
    "OVL-NAMES-HOME": "layers:EscapesNothing",
    "OVL-META-SPECIAL-BITS": "carrying:LosesSpecialBits",
    "OVL-META-OWNERS-AND-BITS": "carrying:LosesSpecialBits",
    "OVL-META-MODES": "carrying:LosesModes",
    "OVL-META-OWNERS": "carrying:LosesOwners",
    "OVL-META-XATTRS": "carrying:LosesAttributes",
    "OVL-META-XATTRS-LARGE": "carrying:LosesAttributes",
    "OVL-META-CAPABILITY": "carrying:LosesAttributes",
    "OVL-OPAQUE-METADATA": "carrying:LosesAttributes",
    "OVL-TREE-COPY-UP": "carrying:LosesAttributes",
    "OVL-META-TIMES": "carrying:LosesTimes",
    "OVL-META-TIMES-DOWN": "carrying:LosesTimes",
    "OVL-META-TIMES-FINE": "carrying:LosesTimes",
    "OVL-META-DEVICES": "carrying:LosesKinds",
    "OVL-META-FIFOS": "carrying:LosesKinds",
    "OVL-TREE-KINDS-CHANGE": "carrying:LosesKinds",
    "OVL-META-DIRECTORIES": "carrying:LosesDirectories",
    "OVL-META-HOLES": "carrying:LosesData",
    "OVL-DIFF-COPY-UP-DATA": "carrying:LosesData",
    "OVL-NAMES-255": "carrying:LosesLongNames",
    "OVL-NAMES-LONG-PATHS": "carrying:LosesLongNames",
    "OVL-WHITEOUT-LONG-NAME": "carrying:LosesLongNames",
    "OVL-NAMES-BYTES": "carrying:LosesOddNames",
    "OVL-NAMES-UTF8": "carrying:LosesOddNames",
    "OVL-NAMES-CONTROL": "carrying:LosesOddNames",
    "OVL-NAMES-CASE": "carrying:LosesOddNames",
    "OVL-NAMES-ORDER": "carrying:LosesOddNames",
    "OVL-NAMES-WHITEOUT-PREFIX": "carrying:KeepsReservedNames",
    "OVL-DIFF-RELATIVE": "carrying:NamesHostPaths",
    "OVL-DIFF-LINKS": "carrying:LinksForward",
    "OVL-META-HARD-LINKS": "carrying:LinksForward",
    "OVL-WHITEOUT-FORM": "carrying:MarksWithWords",
    "OVL-WHITEOUT-SYMLINK": "archives:LosesWhiteoutsInDiff",
    "OVL-WHITEOUT-OWN-DIRECTORY": "archives:LosesWhiteoutsInDiff",
    "OVL-WHITEOUT-MANY": "archives:LosesWhiteoutsInDiff",
    "OVL-WHITEOUT-REPLACED": "archives:LosesWhiteoutsInDiff",
    "OVL-OPAQUE-DEEP": "archives:LosesOpaque",
    "OVL-WHITEOUT-NEEDLESS": "carrying:MarksTooMuch",
    "OVL-HOSTILE-DOTDOT": "taking:UnpacksNaively",
    "OVL-HOSTILE-ABSOLUTE": "taking:UnpacksNaively",
    "OVL-HOSTILE-SYMLINK": "taking:UnpacksNaively",
    "OVL-HOSTILE-SYMLINK-BELOW": "taking:UnpacksNaively",
    "OVL-HOSTILE-HARD-LINK": "taking:CopiesLinks",
    "OVL-HOSTILE-HARD-LINK-MODE": "taking:UnpacksNaively",
    "OVL-APPLY-OTHER-MARKS": "taking:UnpacksNaively",
    "OVL-APPLY-WHITEOUT-INSIDE": "taking:UnpacksNaively",
    "OVL-APPLY-OPAQUE-ORDER": "taking:UnpacksNaively",
    "OVL-APPLY-WHITEOUT-BEFORE": "taking:UnpacksNaively",
    "OVL-APPLY-KINDS": "taking:UnpacksNaively",
    "OVL-HOSTILE-WHITEOUT-OUT": "taking:DeletesNaively",
    "OVL-HOSTILE-OPAQUE-OUT": "taking:DeletesNaively",
    "OVL-HOSTILE-CHECKSUM": "taking:TakesAnyArchive",
    "OVL-HOSTILE-SIZE": "taking:TakesAnyArchive",
    "OVL-HOSTILE-JUNK": "taking:TakesAnyArchive",
    "OVL-HOSTILE-NAME-BOMB": "taking:TakesAnyArchive",
    "OVL-APPLY-PARENTS": "taking:RefusesArchives",
    "OVL-APPLY-NAME-FORMS": "taking:RefusesArchives",
    "OVL-APPLY-FORMATS": "taking:RefusesArchives",
    "OVL-APPLY-WHITEOUT-MISSING": "taking:RefusesArchives",
    "OVL-APPLY-WHITEOUT-AFTER": "taking:RefusesArchives",
    "OVL-HOSTILE-MANY": "taking:RefusesArchives",
    "OVL-APPLY-SECOND-DIFF": "taking:RefusesArchives",
    "OVL-SIZE-APPLIED": "taking:RefusesArchives",
    "OVL-LIFE-HISTORY": "taking:RefusesArchives",
    "OVL-CHAIN-DIFF-DEEP": "taking:RefusesArchives",
    "OVL-DIFF-ANCESTOR": "taking:RefusesArchives",
    "OVL-DIFF-NATIVE-NAIVE": "taking:RefusesArchives",
    "OVL-OPAQUE-MOVED": "taking:RefusesArchives",
    "OVL-HOSTILE-MUTATED": "taking:RefusesArchives",
    "OVL-APPLY-REFUSED-WHOLE": "taking:HalfUnpacks",
    "OVL-APPLY-EMPTY": "taking:HalfUnpacks",
    "OVL-APPLY-UMASK": "taking:IgnoresUmask",
    "OVL-APPLY-PARENT-UNTOUCHED": "taking:WritesBelow",
    "OVL-OPTION-UNKNOWN": "taking:TakesAnyOption",
    "OVL-OPTION-BOOL": "taking:TakesAnyOption",
    "OVL-OPTION-SIZE-FORM": "taking:TakesAnyOption",
    "OVL-OPTION-IMAGESTORE": "taking:TakesAnyOption",
    "OVL-OPTION-SIZE-BACKING": "taking:TakesAnyOption",
    "OVL-OPTION-CASE": "taking:MindsTheCase",
    "OVL-GATE-KERNEL-OLD": "taking:TakesAnyWorld",
    "OVL-GATE-KERNEL-FORM": "taking:TakesAnyWorld",
    "OVL-GATE-BTRFS": "taking:TakesAnyWorld",
    "OVL-GATE-BACKING": "taking:TakesAnyWorld",
    "OVL-GATE-REAL-OVERLAY": "taking:TakesAnyWorld",
    "OVL-GATE-BACKING-TAKEN": "taking:RefusesTheWorld",
    "OVL-OPEN-FRESH": "taking:RefusesTheWorld",
    "OVL-OPEN-AGAIN": "taking:LeavesProbes",
    "OVL-OPEN-REFUSED-CLEAN": "taking:LeavesProbes",
    "OVL-LIFE-BAD-ID": "taking:TakesAnyId",
    "OVL-QUOTA-UNKNOWN-OPTION": "taking:TakesAnyId",
    "OVL-QUOTA-UNSUPPORTED": "taking:TakesAnyId",
    "OVL-PARALLEL-SAME-ID": "taking:TakesAnyId",
    "OVL-PARALLEL-LINEAR": "taking:TakesAnyId",
    "OVL-PARALLEL-CREATE": "taking:OneAtATime",
    "OVL-PARALLEL-GET": "taking:OneAtATime",
    "OVL-PARALLEL-DIFF": "taking:OneAtATime",
    "OVL-CLAIM-HOLDS": "claims:ClaimsAndDeclines",
    "OVL-LIFE-NO-LEAKS": "layers:NeverUnmounts",
    "OVL-CHANGES-OPAQUE": "layers:ListsNoChanges",
    "OVL-CHANGES-ADDED-AGAIN": "layers:ListsNoChanges",
    "OVL-CHANGES-SAME-SECOND": "layers:ListsNoChanges",
    "OVL-CHANGES-SYMLINK": "layers:ListsNoChanges",
    "OVL-CHANGES-METADATA": "layers:ListsNoChanges",
    "OVL-CHANGES-ANCESTOR": "layers:ListsNoChanges",
    "OVL-CHANGES-DIFF": "layers:ListsNoChanges",
    "OVL-SIZE-WHITEOUTS": "layers:CountsWhiteouts",
    "OVL-SIZE-HARD-LINKS": "layers:CountsWhiteouts",
    "OVL-SIZE-HOLES": "layers:CountsWhiteouts",
    "OVL-LIFE-REUSE-ID": "keeping:RemovesNothing",
    "OVL-CHAIN-TOP-AGAIN": "keeping:CountsLayersMade",
    "OVL-LIFE-REMOVE-MOUNTED": "keeping:RemovesNothing",
    "OVL-STATUS-METADATA-LOWERS": "layers:SaysNothing",
    "OVL-MOUNT-LEFT-OVER": "layers:UnmountsAtOnce",
    "OVL-DIFF-EMPTY": "archives:DiffsTooMuch",
    "OVL-MOUNT-READ-ONLY-USE": "archives:DiffsTooMuch",
    "OVL-DIFF-MOUNTED": "archives:DiffsByMount",
    "OVL-OPAQUE-NOT-INHERITED": "archives:LosesOpaque",
    "OVL-STATUS-BACKING": "keeping:SaysAnything",
    "OVL-STATUS-D-TYPE": "keeping:SaysAnything",
    "OVL-STATUS-NATIVE-DIFF": "keeping:SaysAnything",
    "OVL-STATUS-METADATA-MISSING": "keeping:SaysAnything",
    "OVL-OPEN-SECOND-HOME": "keeping:SaysAnything",
    "OVL-CHANGES-ORDER": "keeping:SaysAnything",
    "OVL-CHANGES-NONE": "keeping:SaysAnything",
    "OVL-SIZE-EMPTY": "keeping:SaysAnything",
    "OVL-IDMAP-ROOT-OWNS": "keeping:IgnoresWhatIsAsked",
    "OVL-IDMAP-DIFF": "keeping:IgnoresWhatIsAsked",
    "OVL-IDMAP-APPLY": "keeping:IgnoresWhatIsAsked",
    "OVL-IDMAP-TRIP": "keeping:IgnoresWhatIsAsked",
    "OVL-IDMAP-UNMAPPED": "keeping:IgnoresWhatIsAsked",
    "OVL-STORE-READ": "keeping:IgnoresWhatIsAsked",
    "OVL-STORE-BUILD-ON": "keeping:IgnoresWhatIsAsked",
    "OVL-STORE-HOME-FIRST": "keeping:IgnoresWhatIsAsked",
    "OVL-STORE-LONG": "keeping:IgnoresWhatIsAsked",
    "OVL-STORE-REMOVE": "keeping:IgnoresWhatIsAsked",
    "OVL-MOUNT-LABEL-REFUSED": "keeping:IgnoresWhatIsAsked",
    "OVL-MOUNT-LABEL-LONG": "keeping:IgnoresWhatIsAsked",
    "OVL-IDMAP-WHITEOUTS": "taking:RefusesArchives",
    "OVL-STORE-UNTOUCHED": "keeping:WritesToStores",
    "OVL-MOUNT-AGAIN": "keeping:PathsOfTheDay",
    "OVL-MOUNT-TOGETHER": "keeping:OneTreeAtATime",
    "OVL-MOUNT-LOST": "keeping:BelievesItsBooks",
    "OVL-MOUNT-LONG-HOME": "keeping:FearsLength",
    "OVL-NAMES-LAYER-IDS": "keeping:FearsLength",
    "OVL-MOUNT-CWD": "keeping:Wanders",
    "OVL-MOUNT-LOWER-GONE": "keeping:ShowsWhatIsLeft",
    "OVL-RESTART-SHORT-LINK-GONE": "keeping:ShowsWhatIsLeft",
    "OVL-RESTART-LOWER-CUT": "keeping:ShowsWhatIsLeft",
    "OVL-RESTART-LOWER-ASTRAY": "keeping:ShowsWhatIsLeft",
    "OVL-RESTART-LINK-GONE": "keeping:ForgivesParents",
    "OVL-RESTART-LINK-EMPTY": "keeping:TrustsLinks",
    "OVL-RESTART-FOREIGN": "keeping:Tidies",
    "OVL-LAYOUT-LINK": "keeping:OwnLayout",
    "OVL-LAYOUT-LOWER": "keeping:OwnLayout",
    "OVL-LAYOUT-DIRECTORIES": "keeping:OwnLayout",
    "OVL-LAYOUT-READ": "keeping:OwnLayout",
    "OVL-OPEN-HOME-CLOSED": "keeping:OpenToAll",
    "OVL-LIFE-NO-DESCRIPTORS": "keeping:ForgetsFiles",
    "OVL-DIFF-SOCKETS": "keeping:ForgetsFiles",
    "OVL-DIFF-UNTOUCHED": "keeping:ForgetsFiles",
    "OVL-HOSTILE-DIFF-READ": "keeping:ForgetsFiles",
    "OVL-LIFE-REMOVE-MISSING": "keeping:RemovesMore",
    "OVL-LIFE-TWO-STORES": "keeping:OneHome",
    "OVL-HOSTILE-OVERLAY-XATTRS": "keeping:SetsMarks",
    "OVL-APPLY-WHITEOUT-UNSEEN": "keeping:SetsMarks",
    "OVL-APPLY-LAST-WINS": "keeping:FirstWins",
    "OVL-LIFE-SIBLINGS": "layers:WritesThrough",
    "OVL-CHAIN-ORDER": "layers:WritesThrough",
    "OVL-TREE-NAMES-ONCE": "layers:MountsReadOnly",
    "OVL-TREE-COPY-UP-RIGHTS": "layers:LosesBits",
    "OVL-PARALLEL-PROCESSES": "taking:TakesAnyId",
    "OVL-HOSTILE-WHITEOUT-DOTS": "taking:DeletesNaively",
    "OVL-HOSTILE-DOT": "taking:CopiesLinks",
}

# What this kind of machine cannot show, so that no faulty driver could be seen to fail either.
NOT_HERE = {
    "OVL-GATE-D-TYPE": "xfs without ftype: kernels without CONFIG_XFS_SUPPORT_V4 mount none",
    "OVL-MOUNT-LABEL-KEPT": "a kernel with SELinux",
    "OVL-QUOTA-ENFORCED": "xfs with project quota",
    "OVL-QUOTA-OWN": "xfs with project quota",
    "OVL-QUOTA-REOPEN": "xfs with project quota",
    "OVL-QUOTA-ID-AGAIN": "xfs with project quota",
}
# These are judged on the filesystems that they are about.
BACKINGS = {
    "OVL-OPTION-SIZE-BACKING": "tmpfs",
    "OVL-QUOTA-UNSUPPORTED": "tmpfs",
    "OVL-GATE-REAL-OVERLAY": "overlay",
    "OVL-OPEN-SECOND-HOME": "ext4",
}


def test_every_requirement_has_a_fault_that_it_catches() -> None:
    assert FAULTS.keys() | NOT_HERE.keys() == set(load_requirements())
    assert not FAULTS.keys() & NOT_HERE.keys()


def run(driver: str, *words: str, scratch: Path) -> tuple[int, Path, str]:
    """Exit code, result file and output of a run."""
    results = scratch / "results.jsonl"
    options = ["--results", str(results), "--scratch", str(scratch), "--no-evidence", *words]
    done = subprocess.run(
        [sys.executable, "-m", "conformance", "run", driver, *options],
        env={**os.environ, "CONFORMANCE_FAULTY_BASIS": "refdriver:Driver"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, results, done.stdout + done.stderr


def by_fault() -> list[tuple[str, str, list[str]]]:
    """Each fault once, with all that catch it; those of other filesystems apart."""
    found: dict[tuple[str, str], list[str]] = {}
    for requirement, fault in FAULTS.items():
        found.setdefault((fault, BACKINGS.get(requirement, "host")), []).append(requirement)
    return [(fault, backing, requirements) for (fault, backing), requirements in found.items()]


@pytest.mark.parametrize(
    ("fault", "backing", "requirements"), [pytest.param(*one, id=f"{one[0]}-{one[1]}") for one in by_fault()]
)
def test_each_fault_is_seen(scratch: Path, fault: str, backing: str, requirements: list[str]) -> None:
    words = [word for one in requirements for word in ("--requirement", one)]
    words += ["--seed", "5", "--examples", "40", "--backing", backing]
    code, found, output = run(f"python:conformance.faulty.{fault}", *words, scratch=scratch)
    assert code == 1, output
    said = verdicts(found)
    assert {one: said[one] for one in requirements} == dict.fromkeys(requirements, "FAIL"), output
    assert all(one["steps"] for one in records(found, "outcome") if one["verdict"] == "FAIL")
    assert "smallest steps" in output
    assert "--seed 5" in output


def test_the_wrapper_itself_conforms(scratch: Path) -> None:
    code, found, output = run(
        "python:conformance.faulty.basis:Faithful", "--examples", "3", "--seed", "5", scratch=scratch
    )
    assert code == 0, output
    assert set(verdicts(found).values()) <= {"PASS", "NOT-APPLICABLE"}


def test_a_lost_whiteout_shrinks_to_one_deletion(scratch: Path) -> None:
    words = ("--requirement", "OVL-APPLY-ROUND-TRIP", "--seed", "5", "--examples", "40")
    _, found, _ = run("python:conformance.faulty.archives:LosesWhiteouts", *words, scratch=scratch)
    steps = records(found, "outcome")[0]["steps"]
    above = steps[steps.index("origin: create layer-1 on layer-0") :]
    assert sum(step.startswith("origin:   ") for step in above) == 1, steps
