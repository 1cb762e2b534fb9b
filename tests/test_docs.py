"""Everything that is typed in the documents is run here, as it stands there.

A run of the suite in a document other than those of AS_TYPED has the least examples and shrinks none: what a block
proves is that its commands are taken, find the driver, and exit as the document says.

A block of shell is run in an empty directory that has ``.venv/bin``, after those that wrote the files that it names
(or evidence folders): such blocks are one test. The files of a document are there for all of its blocks. Before
a block, ``<!-- exit N -->`` tells its exit code; ``<!-- elsewhere: ... -->`` and ``<!-- command: ... -->`` that it
is run by something else (.ci/run, another test). A block of Python or TOML that begins with the name of a file is
that file.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted(path for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")) if "```sh" in path.read_text())
BLOCK = re.compile(r"^(?:<!-- (?P<note>[^\n]*) -->\n)?```(?P<language>\w+)\n(?P<text>.*?)^```$", re.M | re.S)
NEEDS = {
    "containers-storage": "containers-storage",
    "containerd:": "containerd",
    "fuse-overlayfs": "fuse-overlayfs",
}
AS_TYPED = ("README.md", "first-driver.md")
# The options that a run gets besides, by the command and the condition under which it is one.
SPARING = {
    "overlay-conformance": ('[ "$1" = run ]', "--examples 1 --no-shrink"),
    "pytest": ('[ "$1" = --pyargs ]', "--conformance-examples=1 --conformance-no-shrink"),
}
# What a block may have of an earlier one.
WRITTEN = re.compile(r"[\w-]+\.(?:jsonl|json|toml|html|xml|md|svg|tar)\b|overlay-conformance-failures")
FORGETFUL = """\
from refdriver import ChangeKind, Driver


class Forgetful:
    def __init__(self, home, **options):
        self._driver = Driver(home, **options)

    def __getattr__(self, name):
        return getattr(self._driver, name)

    def changes(self, layer_id, parent=""):
        return [one for one in self._driver.changes(layer_id, parent) if one.kind is not ChangeKind.DELETE]
"""


@dataclass(frozen=True, slots=True)
class Block:
    """A block of a document, and what the comment before it says."""

    language: str
    text: str
    note: str

    @property
    def exit_code(self) -> int:
        """What it has to end with."""
        match = re.match(r"exit (\d+)", self.note)
        return int(match[1]) if match else 0

    @property
    def file(self) -> str:
        """The file that it is, "" if none."""
        match = re.match(r"# ([\w.-]+\.(?:py|toml))\b", self.text)
        return match[1] if match else ""


def blocks(document: Path) -> list[Block]:
    found = BLOCK.finditer(document.read_text())
    return [Block(one["language"], one["text"], one["note"] or "") for one in found]


def parts(document: Path) -> list[list[Block]]:
    """The blocks that are run, in groups that need nothing of one another."""
    found: list[list[Block]] = []
    seen: set[str] = set()
    for block in blocks(document):
        if block.language != "sh" or block.note.startswith(("elsewhere: ", "command: ")):
            continue
        named = set(WRITTEN.findall(block.text))
        if not found or not named & (seen | {"overlay-conformance-failures"}):
            found.append([])
            seen = set()
        found[-1].append(block)
        seen |= named
    return found


PARTS = [
    pytest.param(document, part, id=f"{document.name}-{number}")
    for document in DOCUMENTS
    for number, part in enumerate(parts(document), 1)
]


@pytest.fixture
def place(scratch: Path) -> Path:
    """An empty directory with the commands of a checkout, and the driver that the documents break."""
    (scratch / ".venv" / "bin").mkdir(parents=True)
    for name in ("overlay-conformance", "refdriver", "pytest", "python"):
        found = Path(sys.executable).with_name(name)
        if not found.exists():
            pytest.skip("the project is not installed in this environment; tox installs it")
        # Not a link: Python finds its environment by where its command is.
        (scratch / ".venv" / "bin" / name).write_text(f'#!/bin/sh\nexec "{found}" "$@"\n')
        (scratch / ".venv" / "bin" / name).chmod(0o755)
    (scratch / "forgetful.py").write_text(FORGETFUL)
    return scratch


def spare(place: Path) -> None:
    """Let runs of the suite try as little as they can."""
    for name, (condition, options) in SPARING.items():
        command = place / ".venv" / "bin" / name
        added = f'{condition} && set -- "$@" {options}'
        command.write_text(command.read_text().replace("\n", f"\n{added}\n", 1))


def run(block: Block, place: Path) -> subprocess.CompletedProcess[str]:
    text = (
        block.text.replace("sudo ", "")
        .replace("/var/lib/", f"{place}/")
        .replace("/run/oc.sock", f"{place}/oc.sock")
    )
    # What a document mounts or starts in the background ends with its block.
    enter = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    env = {**os.environ, "PATH": f"{place}/.venv/bin:{os.environ['PATH']}", "PYTHONPATH": str(place), "CI": ""}
    # pytest would rewrite the assertions of each module of the project, and keep nothing without bytecode.
    env["PYTEST_ADDOPTS"] = "--assert=plain"
    return subprocess.run(
        [*enter, "bash", "-euc", text],
        cwd=place,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.mounts
@pytest.mark.parametrize(("document", "part"), PARTS)
def test_what_is_typed_works(place: Path, document: Path, part: list[Block]) -> None:
    for block in blocks(document):
        if block.file:
            (place / block.file).write_text(block.text)
        if block.file == "pyproject.toml":
            write_metadata(place, block.text)
    if document.name not in AS_TYPED:
        spare(place)
    for block in part:
        lines = [line for line in block.text.splitlines() if not (program := lacking(line)) or must_have(program)]
        done = run(Block("sh", "\n".join(lines), block.note), place)
        assert done.returncode == block.exit_code, f"{block.text}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


def write_metadata(place: Path, text: str) -> None:
    """What pip writes when it installs the package of a document, so that its entry points are found."""
    project = tomllib.loads(text)["project"]
    metadata = place / f"{project['name']}-{project['version']}.dist-info"
    metadata.mkdir()
    head = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (metadata / "METADATA").write_text(head)
    groups = project["entry-points"].items()
    lines = [f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in of.items()) for group, of in groups]
    (metadata / "entry_points.txt").write_text("".join(lines))


def lacking(line: str) -> str:
    """The program of another project that a line needs and that is not installed here; "" if there is none."""
    return next((program for word, program in NEEDS.items() if word in line and not shutil.which(program)), "")


def must_have(program: str) -> bool:
    """False; fails where all is to be tested, as its line would be left out."""
    if os.environ.get("CI"):
        pytest.fail(f"needs {program}; ./.ci/bootstrap test installs it", pytrace=False)
    return False


def test_a_block_that_is_run_elsewhere_says_where() -> None:
    for document in DOCUMENTS:
        for block in blocks(document):
            assert re.fullmatch(r"(|exit \d+(: .+)?|elsewhere: .+|command: \w+)", block.note), block.note


def test_the_code_that_contributors_are_shown_is_that_of_the_suite() -> None:
    sources = [path.read_text() for kind in ("py", "toml") for path in ROOT.glob(f"[cr]*/**/*.{kind}")]
    shown = [block.text for block in blocks(ROOT / "CONTRIBUTING.md") if block.language in ("python", "toml")]
    assert len(shown) > 2
    for text in shown:
        assert any(text in source for source in sources), text


@pytest.mark.mounts
def test_the_script_for_ci_judges_and_leaves_everything(place: Path) -> None:
    """What action.yml and docs/ci/gitlab.yml run."""
    output, summary = place / "report", place / "summary.md"
    env = {
        **os.environ,
        "OVERLAY_CONFORMANCE": str(place / ".venv/bin/overlay-conformance"),
        "OUTPUT": str(output),
        "GITHUB_STEP_SUMMARY": str(summary),
        "PYTHONPATH": str(place),
    }
    words = ["python:forgetful:Forgetful", "--requirement", "OVL-CHANGES-OPAQUE"]
    done = subprocess.run(
        [ROOT / ".ci" / "judge", *words], env=env, capture_output=True, text=True, check=False, cwd=place
    )
    assert done.returncode == 1, done.stdout + done.stderr
    left = {path.name for path in output.iterdir()}
    assert left == {
        *("results.jsonl", "page.html", "junit.xml", "report.md", "badge.svg", "statement.json", "failures"),
    }
    assert "## Failures" in summary.read_text()
    wrong = subprocess.run(
        [ROOT / ".ci" / "judge", "nonsense"], env=env, capture_output=True, check=False, cwd=place
    )
    assert wrong.returncode == 2


def test_the_action_runs_that_script() -> None:
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    steps = action["runs"]["steps"]
    assert "/.ci/judge" in steps[0]["run"]
    used = set(re.findall(r"inputs\.([\w-]+)", (ROOT / "action.yml").read_text()))
    assert used == set(action["inputs"])
    assert steps[1]["if"] == "always()"


@pytest.mark.parametrize("name", ["github.yml", "gitlab.yml"])
def test_the_examples_name_what_is_there(name: str) -> None:
    text = (ROOT / "docs" / "ci" / name).read_text()
    said = yaml.safe_load(text)
    if name == "gitlab.yml":
        assert "/.ci/judge containers-storage:overlay" in said["conformance"]["script"][0]
        assert said["conformance"]["artifacts"]["when"] == "always"
    else:
        inputs = yaml.safe_load((ROOT / "action.yml").read_text())["inputs"]
        assert said["jobs"]["judge"]["steps"][1]["with"].keys() <= inputs.keys()
