"""Differs: archives applied to directories; a correct one conforms, and each mutant fails what it breaks."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from commanding import command
from hypothesis import given, settings
from reading import verdicts

from conformance.drivers.connection import BadConnection, parse
from conformance.drivers.differ import trees
from conformance.drivers.differ.adapter import source
from conformance.drivers.differ.script import Differing
from conformance.drivers.protocol import DriverRefused, OpenRequest
from conformance.drivers.unpacker.tool import differ_of, presets
from conformance.history.calls import Create
from conformance.history.steps import Called
from conformance.operations import ops
from conformance.operations.comparing import differences
from conformance.operations.layering import layer_entries
from conformance.operations.model import Tree
from conformance.operations.observe import observe
from conformance.operations.strategies import chains
from conformance.operations.tarforms import archive_of
from conformance.spec import load_capabilities, load_requirements

NAIVE = Path(__file__).parents[1] / "support" / "naive_differ.py"


@pytest.mark.parametrize(
    ("connection", "said"),
    [
        ("differ:", "name a command, or one of umoci"),
        ("differ:tool {upper}", "names no {lower}"),
        ("differ:tool {lower}", "names no {upper}"),
        ("differ:tool {lower} {upper} {layout}", "names a {layout}, which a differ has not"),
    ],
)
def test_what_is_no_differ_is_refused(connection: str, said: str) -> None:
    with pytest.raises(BadConnection, match=said):
        differ_of(parse(connection))


@pytest.mark.parametrize("name", presets("conformance.drivers.differ"))
def test_a_preset_is_whole(name: str) -> None:
    tool = differ_of(parse(f"differ:{name}"))
    assert tool.needs
    assert tool.install
    assert tool.decline.keys() <= load_capabilities().keys()


@pytest.mark.mounts
@settings(max_examples=30)
@given(chains(privileged=True))
def test_archives_are_applied_as_the_model_has_them(
    tmp_path_factory: pytest.TempPathFactory, chain: list[list[ops.Operation]]
) -> None:
    place = tmp_path_factory.mktemp("tree")
    tree, scratch = place / "tree", place / "scratch"
    tree.mkdir()
    scratch.mkdir()
    below = Tree()
    for number, operations in enumerate(chain):
        above = below.child()
        for operation in operations:
            if above.permits(operation):
                above.apply(operation)
        archive = place / f"{number}.tar"
        archive.write_bytes(archive_of(layer_entries(below, above)))
        trees.apply(archive, tree, scratch)
        assert not differences(above.snapshot().without_directory_times(), observe(str(tree)), times="files")
        below = above


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "junk").write_bytes(b"junk" * 200)
    with pytest.raises(DriverRefused, match="cannot be read"):
        trees.apply(tmp_path / "junk", tmp_path / "tree", tmp_path)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["junk", "tree"]


@dataclass(frozen=True)
class Mutant:
    """The text that is replaced, and the requirement that has to notice."""

    name: str
    breaks: str
    old: str
    new: str


MUTANTS = (
    Mutant("deletions_are_lost", "OVL-WHITEOUT-IN-DIFF", "for path in sorted(gone):", "for path in ():"),
    Mutant("whiteouts_are_bare", "OVL-WHITEOUT-IN-DIFF", 'os.path.join(above, b".wh." + name)', 'b".wh." + name'),
    Mutant(
        "whiteouts_are_needless",
        "OVL-WHITEOUT-NEEDLESS",
        "for path in sorted(gone):",
        'for path in sorted({*gone, b"nothing"}):',
    ),
    Mutant("deletions_hide_all_levels", "OVL-WHITEOUT-IN-DIFF", 'or b"/" not in path)', "and False)"),
    Mutant(
        "parents_are_left_out",
        "OVL-DIFF-COPY-UP-DATA",
        "about(upper, path, new[path])}",
        "about(upper, path, new[path]) or stat.S_ISREG(new[path].st_mode)}",
    ),
    Mutant("everything_is_in_it", "OVL-DIFF-MINIMAL", "changed = new.keys() - same", "changed = set(new)"),
    Mutant(
        "the_order_is_chance",
        "OVL-DIFF-DETERMINISTIC",
        "for path in sorted(wanted):",
        "for path in sorted(wanted, key=lambda one: (one.count(b'/'), os.urandom(4))):",
    ),
    Mutant(
        "names_are_absolute",
        "OVL-DIFF-RELATIVE",
        "tarfile.TarInfo(os.fsdecode(path)), os.path",
        "tarfile.TarInfo('/' + os.fsdecode(path)), os.path",
    ),
    Mutant("links_are_copies", "OVL-APPLY-HARD-LINKS", "and names in first:", "and names in ():"),
    Mutant("links_are_to_the_last", "OVL-DIFF-LINKS", "first.setdefault(names, path)", "first[names] = path"),
    Mutant(
        "links_to_lower_files_are_copies", "OVL-APPLY-LOWER-LINKS", "for path in linked if", "for path in () if"
    ),
    Mutant("modes_are_lost", "OVL-META-MODES", "= stat.S_IMODE(status.st_mode), status", "= 0o755, status"),
    Mutant(
        "special_bits_are_lost",
        "OVL-META-SPECIAL-BITS",
        "= stat.S_IMODE(status.st_mode), status",
        "= stat.S_IMODE(status.st_mode) & 0o777, status",
    ),
    Mutant("owners_are_lost", "OVL-META-OWNERS", "status.st_uid, status.st_gid\n    info", "0, 0\n    info"),
    Mutant("fractions_are_lost", "OVL-META-TIMES-FINE", "if status.st_mtime_ns % 10**9:", "if False:"),
    Mutant(
        "attributes_are_lost", "OVL-META-XATTRS", '("user.", "security.capability")', '("security.capability",)'
    ),
    Mutant("capabilities_are_lost", "OVL-META-CAPABILITY", '("user.", "security.capability")', '("user.",)'),
    Mutant("overlay_attributes_are_kept", "OVL-DIFF-TAR", ' if not name.startswith("user.overlay.")', ""),
    Mutant("fifos_are_left_out", "OVL-META-FIFOS", "    stat.S_IFIFO: tarfile.FIFOTYPE,\n", ""),
    Mutant(
        "devices_have_8_bits", "OVL-META-DEVICES", "os.minor(status.st_rdev)\n", "os.minor(status.st_rdev) & 255\n"
    ),
    Mutant(
        "contents_are_lost",
        "OVL-APPLY-ROUND-TRIP",
        'with open(os.path.join(upper, path), "rb") as file:',
        'with open("/dev/zero", "rb") as file:',
    ),
    Mutant(
        "names_are_utf_8",
        "OVL-NAMES-BYTES",
        "tarfile.TarInfo(os.fsdecode(path)), os.path",
        'tarfile.TarInfo(path.decode("utf-8", "replace")), os.path',
    ),
    Mutant(
        "files_of_the_layer_are_touched",
        "OVL-DIFF-UNTOUCHED",
        'with open(os.path.join(upper, path), "rb")',
        'os.utime(os.path.join(upper, path), (1, 1))\n            with open(os.path.join(upper, path), "rb")',
    ),
)


def run(program: Path, results: Path, *options: str) -> subprocess.CompletedProcess[str]:
    driver = f"differ:{sys.executable} -IS {program} {{lower}} {{upper}} {{archive}}"
    return command("run", driver, "--results", str(results), "--scratch", str(results.parent), *options)


def _mutated(directory: Path, mutant: Mutant) -> Path:
    text = NAIVE.read_text()
    assert text.count(mutant.old) == 1, f"{mutant.old!r} is there {text.count(mutant.old)} times"
    program = directory / "mutant.py"
    program.write_text(text.replace(mutant.old, mutant.new))
    return program


@pytest.mark.mounts
@pytest.mark.slow
def test_the_differ_conforms(tmp_path: Path) -> None:
    done = run(NAIVE, tmp_path / "results", "--profile", "quick", "--examples", "1", "--no-evidence")
    assert done.returncode == 0, done.stdout[-3000:]
    found = verdicts(tmp_path / "results")
    assert list(found.values()).count("PASS") > 15
    assert found["OVL-DIFF-TAR"] == "PASS"
    assert found["OVL-APPLY-KINDS"] == "DECLINED"


@pytest.mark.mounts
@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_fails_what_it_breaks(tmp_path: Path, mutant: Mutant) -> None:
    options = ("--requirement", mutant.breaks, "--seed", "1", "--no-shrink", "-x", "--no-evidence")
    done = run(_mutated(tmp_path, mutant), tmp_path / "results", *options)
    assert verdicts(tmp_path / "results").get(mutant.breaks) == "FAIL", done.stdout[-3000:] + done.stderr[-1000:]
    assert done.returncode == 1


def test_a_layer_without_options_is_in_the_script() -> None:
    """Create with options that are none is a call of the command like one without."""
    assert differ_script(Create("a", "", {})) == differ_script(Create("a", "")) != ""


def differ_script(call: Create) -> str:
    return Differing(differ_of(parse("differ:tool {lower} {upper}"))).called(Called("s", call))


def test_a_diff_is_written_below_a_directory_with_a_space(tmp_path: Path) -> None:
    place = tmp_path / "a b"
    place.mkdir()
    driver = source("tar -c -f - -C {lower} -C {upper} .").open(OpenRequest(place))
    driver.create("a", "")
    driver.diff("a", "", place / "out.tar")
    with tarfile.open(place / "out.tar") as tar:
        assert tar.getnames() == ["."]


@pytest.mark.mounts
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "test"),
    # A written case of each, as the shrinking of a property would take half a minute.
    [("deletions_are_lost", "test_a_deletion_is_named_by_its_path"), ("modes_are_lost", "test_a_case_is_the_same")],
)
def test_a_failure_has_a_reproducer(tmp_path: Path, name: str, test: str) -> None:
    """It needs the tool, tar and a shell; the run has tried it."""
    mutant = next(one for one in MUTANTS if one.name == name)
    evidence = tmp_path / "evidence"
    options = ("--requirement", mutant.breaks, "-k", test, "-x", "--evidence", str(evidence))
    run(_mutated(tmp_path, mutant), tmp_path / "results", *options)
    (script,) = evidence.glob("*/repro.sh")
    done = subprocess.run(["sh", str(script)], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "conformance" not in done.stdout


def test_mutants_break_known_requirements() -> None:
    assert {one.breaks for one in MUTANTS} <= load_requirements().keys()
    assert len({one.name for one in MUTANTS}) == len(MUTANTS) >= 20
