"""What holds of the project as a whole: its commands, its documents, and what its driver needs."""

from __future__ import annotations

import ast
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import refdriver
from conformance.lab.backing import BACKINGS

ROOT = Path(__file__).parent.parent
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]


def readme_command(name: str) -> str:
    """The block of code below a marker."""
    found = re.findall(
        rf"^<!-- command: {name} -->\n```sh\n(.*?)```$", (ROOT / "README.md").read_text(), re.M | re.S
    )
    assert len(found) == 1
    return str(found[0])


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The CI script and the README, without what they call."""
    for name in ("README.md", ".ci/run"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def ci_with(checkout: Path, answer: str) -> list[str]:
    """The CI script as a command, whose commands note their call and do what ``answer`` says."""
    for name in (".ci/bootstrap", ".venv/bin/pytest"):
        command = checkout / name
        command.parent.mkdir(parents=True, exist_ok=True)
        command.write_text(f'#!/bin/sh\necho "./{name} $*" >>calls\n{answer}\n')
        command.chmod(0o755)
    # The signals of the tests are those of a shell of its own, whatever ran the tests (nohup(1)).
    return ["env", "--default-signal=INT,TERM,HUP", "bash", ".ci/run"]


def run_ci(checkout: Path, answer: str) -> tuple[int, list[str]]:
    """Run the CI script; its exit code and the calls of its commands, which ``answer`` then ends."""
    done = subprocess.run(
        ci_with(checkout, answer), cwd=checkout, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    return done.returncode, (checkout / "calls").read_text().splitlines()


TESTS, SUITE, MATRIX = "./.ci/bootstrap test", "./.ci/bootstrap conformance", "./.ci/bootstrap matrix"
FILESYSTEMS = (f"{SUITE} python:refdriver:Driver --backing ", f"{SUITE} python:refdriver:Driver --examples 5")
MACHINES = (f"{MATRIX} run --kernel 6.1 --backing xfs", "./.venv/bin/pytest tests/vm/test_machines.py")
SELFTEST = "./.ci/bootstrap selftest --jobs 2 --scratch"
DRIVERS = (f"{SUITE} graphdriver:", f"{SUITE} containers-storage:overlay")
IN_A_MACHINE = (f"{MATRIX} selftest --provider uml",)


def test_ci_runs_both_commands_as_the_readme_has_them(checkout: Path) -> None:
    code, calls = run_ci(checkout, "")
    assert code == 0
    assert calls[:2] == [readme_command("test").strip(), readme_command("conformance").strip()]
    assert calls[2].startswith(f"{MATRIX} list")
    assert began(calls[3:7], FILESYSTEMS) == began(calls[3:7], MACHINES) == [0, 1]
    assert calls[7].startswith(SELFTEST)
    assert began(calls[8:11], DRIVERS) == [0, 1]
    assert began(calls[8:11], IN_A_MACHINE) == [0]
    assert len(calls) == 11
    (filesystems,) = (call for call in calls if call.startswith(FILESYSTEMS[0]))
    left_out = {one.name for one in BACKINGS} - set(re.findall(r"--backing (\S+)", filesystems))
    assert left_out == {filesystem_of(tempfile.gettempdir())} & {"ext4", "btrfs", "f2fs", "tmpfs"}


def filesystem_of(directory: str) -> str:
    """What the main job has its stores on."""
    words = ["df", "--output=fstype", directory]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()[-1]


def began(calls: list[str], lane: tuple[str, ...]) -> list[int]:
    """Which steps of a lane were called, in that order."""
    return [number for call in calls for number, one in enumerate(lane) if call.startswith(one)]


@pytest.mark.parametrize(
    ("answer", "code", "last"),
    [
        ("[ $1 != test ]", 1, (TESTS,)),
        ("[ $1,$2 != conformance, ]", 1, (SUITE,)),
        ("[ $1$2 != matrixlist ]", 1, (f"{MATRIX} list",)),
        ("case $2$3 in python*--backing) exit 1; esac", 1, (*FILESYSTEMS[:1], *MACHINES)),
        ("case $3 in --examples) exit 1; esac", 1, (*FILESYSTEMS, *MACHINES)),
        ("case $1$2 in matrixrun) exit 1; esac", 1, (*FILESYSTEMS, *MACHINES[:1])),
        ("case $0 in *pytest) exit 1; esac", 1, (*FILESYSTEMS, *MACHINES)),
        ("[ $1 != selftest ]", 1, (SELFTEST,)),
        ("case $2 in graph*) exit 1; esac", 1, (*DRIVERS[:1], *IN_A_MACHINE)),
        ("case $2 in containers*) exit 1; esac", 0, (*DRIVERS, *IN_A_MACHINE)),  # a finding about that driver
        ("case $2 in containers*) exit 2; esac", 2, (*DRIVERS, *IN_A_MACHINE)),
        ("case $2 in containers*) exit 3; esac", 3, (*DRIVERS, *IN_A_MACHINE)),
        ("case $1$2 in matrixselftest) exit 4; esac", 4, (*DRIVERS, *IN_A_MACHINE)),
    ],
)
def test_ci_fails_when_a_command_does(checkout: Path, answer: str, code: int, last: tuple[str, ...]) -> None:
    """``last`` are the steps of the last lanes, which may be interrupted before all of them began."""
    found, called = run_ci(checkout, answer)
    assert found == code
    assert called[-1].startswith(last)


def test_ci_shows_the_output_of_concurrent_steps_whole_and_in_order(checkout: Path) -> None:
    """The second lane says all that it says before the first step of the first lane ends."""
    answer = """
case $1$2$3 in
conformancepython:*--backing) until [ -e ended ]; do sleep 0.01; done; echo backings ;;
conformancepython:*--examples) echo namespace ;;
matrixrun--kernel) echo machine; echo wrong >&2 ;;
tests*) echo killed; touch ended ;;
esac
"""
    done = subprocess.run(
        ci_with(checkout, answer),
        cwd=checkout,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    said = [line for line in done.stdout.splitlines() if re.fullmatch("[a-z]+|== .*: done in [0-9]+ s", line)]
    assert [re.sub("^== (.*):.*$", r"\1", line) for line in said[3:11]] == [
        "backings",
        "every other backing filesystem of this kernel",
        "namespace",
        "the whole suite without root, in a user namespace",
        "machine",
        "wrong",
        "a cell of the matrix, in a virtual machine",
        "killed",
    ]
    assert sum(line.startswith("==") for line in said) == 11


WORKS_UNTIL_INTERRUPTED = """
    trap 'echo "./ended $1" >>calls; exit 130' INT
    echo "./began $1" >>calls
    while :; do sleep 0.01; done
"""


def test_ci_interrupts_the_second_lane_when_the_first_fails(checkout: Path) -> None:
    answer = f"""
case $1$2$3 in
conformancepython:*--backing) until grep -q began calls; do sleep 0.01; done; exit 5 ;;
matrixrun--kernel) {WORKS_UNTIL_INTERRUPTED} ;;
esac
"""
    code, calls = run_ci(checkout, answer)
    assert (code, calls[-1]) == (5, "./ended matrix")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ci_leaves_nothing_when_it_is_interrupted(checkout: Path, number: signal.Signals) -> None:
    answer = f"""
case $1$2$3 in
matrixrun--kernel|conformancepython:*--backing) {WORKS_UNTIL_INTERRUPTED} ;;
esac
"""
    places = checkout / "places"
    places.mkdir()
    calls = checkout / "calls"
    with subprocess.Popen(
        ci_with(checkout, answer),
        cwd=checkout,
        env={**os.environ, "TMPDIR": str(places)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        while not calls.exists() or calls.read_text().count("./began") < 2:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
        try:
            assert process.wait(timeout=30) == -number
        finally:
            process.kill()
    assert sorted(line for line in calls.read_text().splitlines() if line.startswith("./ended")) == [
        "./ended conformance",
        "./ended matrix",
    ]
    assert list(places.iterdir()) == []
    assert not [one for one in Path("/proc").glob("[0-9]*/cwd") if resolved(one) == checkout]


def resolved(link: Path) -> Path | None:
    """Where a link of /proc leads to; None if its process ended."""
    try:
        return link.readlink()
    except OSError:
        return None


def test_bootstrap_without_a_word_says_what_it_does() -> None:
    done = subprocess.run([ROOT / ".ci" / "bootstrap"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    for command in (readme_command("test"), readme_command("conformance")):
        assert command.strip() in done.stderr


APT_GET = """\
#!/bin/sh
case $* in *install*) ;; *) exit ;; esac
echo "$*" >"$CALLS/installed"
cp /usr/sbin/policy-rc.d "$CALLS/policy" 2>/dev/null
eval "$APT"
"""


@pytest.fixture
def bare_system(tmp_path: Path) -> Path:
    """A checkout whose Python packages are there, and an apt that installs nothing."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name, text in {
        ".ci/bootstrap": (ROOT / ".ci/bootstrap").read_text(),
        ".venv/bin/python": "#!/bin/sh\n",
        ".venv/bin/tox": '#!/bin/sh\n[ ! -e /usr/sbin/policy-rc.d ] || touch "$CALLS/policy-is-left"\n',
        "bin/apt-get": APT_GET,
        "bin/apt-cache": "#!/bin/sh\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / ".venv/made-in").write_text(f"{tmp_path}\n")
    stamp = subprocess.run(["cksum", "pyproject.toml"], cwd=tmp_path, capture_output=True, check=True).stdout
    (tmp_path / ".venv/installed-tox").write_bytes(stamp)
    return tmp_path


@pytest.mark.mounts
@pytest.mark.parametrize(("answer", "code"), [("true", 0), ("false", 0), ("kill -INT $PPID", 130)])
def test_the_tests_command_installs_every_driver_and_starts_no_service(
    bare_system: Path, scratch: Path, answer: str, code: int
) -> None:
    """In mounts of its own, where /usr/sbin can be written to and no program is found that has to be installed."""
    for name in ("upper", "work"):
        (scratch / name).mkdir()
    programs = ("containerd", "docker.io", "fuse-overlayfs")
    there = [found for name in programs if (found := shutil.which(name, path="/usr/bin:/bin"))]
    inside = [
        "set -e",
        *(f"mount --bind /dev/null {program}" for program in there),
        f"mount -t overlay none -o lowerdir=/usr/sbin,upperdir={scratch}/upper,workdir={scratch}/work /usr/sbin",
        "rm -f /usr/sbin/policy-rc.d /usr/sbin/dockerd",
        "exec .ci/bootstrap test",
    ]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", "\n".join(inside)],
        cwd=bare_system,
        env={**os.environ, "PATH": f"{bare_system}/bin:/usr/bin:/bin", "CALLS": str(bare_system), "APT": answer},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    asked = (bare_system / "installed").read_text().split()
    assert "--no-install-recommends" in asked
    assert set(programs) <= set(asked)
    assert "exit 101" in (bare_system / "policy").read_text()
    assert not (bare_system / "policy-is-left").exists()
    assert not (scratch / "upper/policy-rc.d").is_file()


def imported(path: Path) -> Iterator[str]:
    """The packages that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]


def test_the_driver_needs_only_the_standard_library() -> None:
    modules = [path for path in (ROOT / "refdriver").rglob("*.py") if "cli" not in path.relative_to(ROOT).parts]
    assert modules
    needed = {name for path in modules if path.name != "__main__.py" for name in imported(path)}
    assert needed - sys.stdlib_module_names == {"refdriver"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#:]*)(#[^)]*)?\)", document.read_text()):
        path = document.parent / target if target else document
        assert path.exists(), target
        if anchor:
            assert anchor.removeprefix("#") in anchors(path)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_paths_that_a_document_names_are_there(document: Path) -> None:
    """Relative to the top or to conformance/. Capitals are placeholders; the changelog names what is gone, too."""
    places = [place for place in (ROOT, ROOT / "conformance") if document.name != "CHANGELOG.md"]
    for path in re.findall(r"`((?:\.ci|[a-z]\w*)(?:/[\w.*-]+)*/?)`", document.read_text()):
        above = [place for place in places if "/" in path and (place / path.split("/")[0]).is_dir()]
        if above and not re.search(r"/[A-Z]+\b(?!\.)", path):
            assert any(list(place.glob(path.rstrip("/"))) for place in above), path


def anchors(document: Path) -> set[str]:
    """What can follow # in a link to a document: its anchors, and its headings as GitHub writes them."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.M)
    slugs = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    return slugs | set(re.findall(r'<a id="([^"]+)"></a>', document.read_text()))


@pytest.mark.slow
@pytest.mark.parametrize("command", ["overlay-conformance", "refdriver"])
def test_the_commands_are_installed(command: str) -> None:
    path = shutil.which(command, path=os.path.dirname(sys.executable))
    if path is None:
        pytest.skip("the project is not installed in this environment; tox installs it")
    done = subprocess.run([path, "--version"], capture_output=True, text=True, check=True)
    assert refdriver.__version__ in done.stdout
