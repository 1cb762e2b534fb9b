"""What holds of the project as a whole: its commands, its documents, and what its driver needs."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import refdriver

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


def run_ci(checkout: Path, answer: str) -> tuple[int, list[str]]:
    """Run the CI script; its exit code and the calls of its commands, which ``answer`` then ends."""
    for name in (".ci/bootstrap", ".venv/bin/pytest"):
        command = checkout / name
        command.parent.mkdir(parents=True, exist_ok=True)
        command.write_text(f'#!/bin/sh\necho "./{name} $*" >>calls\n{answer}\n')
        command.chmod(0o755)
    done = subprocess.run(
        ["bash", ".ci/run"], cwd=checkout, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    return done.returncode, (checkout / "calls").read_text().splitlines()


def test_ci_runs_both_commands_as_the_readme_has_them(checkout: Path) -> None:
    code, calls = run_ci(checkout, "")
    assert code == 0
    assert calls[:2] == [readme_command("test").strip(), readme_command("conformance").strip()]
    assert calls[2].startswith("./.ci/bootstrap conformance python:refdriver:Driver --backing all")
    assert calls[3].startswith("./.ci/bootstrap conformance python:refdriver:Driver --examples 5")
    assert calls[4].startswith("./.ci/bootstrap conformance graphdriver:")
    assert calls[5].startswith("./.ci/bootstrap conformance containers-storage:overlay")
    assert calls[6].startswith("./.ci/bootstrap selftest --jobs 2 --scratch")
    assert calls[7].startswith("./.ci/bootstrap matrix selftest --provider uml")
    assert calls[8].startswith("./.ci/bootstrap matrix run --kernel 6.1 --backing xfs")
    assert calls[9].startswith("./.venv/bin/pytest tests/vm/test_machines.py")
    assert len(calls) == 10


@pytest.mark.parametrize(
    ("answer", "code", "calls"),
    [
        ("[ $1 != test ]", 1, 1),
        ("[ $1,$2 != conformance, ]", 1, 2),
        ("case $2 in python*) exit 1; esac", 1, 3),
        ("case $3 in --examples) exit 1; esac", 1, 4),
        ("case $2 in graph*) exit 1; esac", 1, 5),
        ("case $2 in containers*) exit 1; esac", 0, 10),  # its deviation is no failure of this project
        ("[ $1 != selftest ]", 1, 7),
        ("case $1$2 in matrixselftest) exit 1; esac", 1, 8),
        ("case $1$2 in matrixrun) exit 1; esac", 1, 9),
        ("case $0 in *pytest) exit 1; esac", 1, 10),
        ("case $2 in containers*) exit 2; esac", 2, 6),
        ("case $2 in containers*) exit 3; esac", 3, 6),
    ],
)
def test_ci_fails_when_a_command_does(checkout: Path, answer: str, code: int, calls: int) -> None:
    found, called = run_ci(checkout, answer)
    assert found == code
    assert len(called) == calls


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
