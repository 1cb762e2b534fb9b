"""What .ci/bootstrap asks of apt, pip and Python, and what it says. They are scripts here; nothing is installed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# All that the script may use besides what it installs; a name that is not here is not installed.
TOOLS = (
    "sh",
    "dirname",
    "mktemp",
    "cat",
    "sed",
    "tail",
    "head",
    "cut",
    "date",
    "rm",
    "env",
    "xargs",
    "cksum",
    "grep",
    "echo",
)

PYTHON = """\
#!/bin/sh
case "$*" in
*"-m venv"*)
    mkdir -p .venv/bin
    cp "$0" .venv/bin/python
    printf '#!/bin/sh\\necho "overlay-conformance $*"\\n' >.venv/bin/overlay-conformance
    chmod 755 .venv/bin/overlay-conformance
    ;;
*"-m pip"*download*) mkdir -p .venv/asked; echo "ask" >>"$CALLS"; eval "$INDEX" ;;
*"-m pip"*config*) exit 1 ;;
*"-m pip"*install*) echo "pip ${*##*off }" >>"$CALLS"; eval "$PIP" ;;
esac
"""
APT_GET = """\
#!/bin/sh
case " $* " in
*" update "*)
    echo "update" >>"$CALLS"
    # Without this mode, it succeeds with old lists.
    case $* in *" APT::Update::Error-Mode=any "*) eval "$UPDATE" ;; esac
    ;;
*" install "*) echo "install ${*##*--no-remove }" >>"$CALLS"; eval "$INSTALL" ;;
esac
"""
CAUSE = (
    "Failed to fetch http://deb.debian.org/debian/dists/sid/InRelease  Temporary failure resolving 'deb.debian.org'"
)
DEAD = f"""\
echo "Err:1 http://deb.debian.org/debian sid InRelease"
echo "E: {CAUSE}"
echo "E: Some index files failed to download. They have been ignored, or old ones used instead."
exit 100
"""
INSTALLS_PYTHON = 'cp "$BIN/.python" "$BIN/python3"'
REFUSED = """\
echo "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError('<pip._vendor.urllib3.\
connection.HTTPConnection object at 0x7f>: Failed to establish a new connection: [Errno 111] Connection refused')\
': /simple/hatchling/"
echo "ERROR: Could not find a version that satisfies the requirement hatchling (from versions: none)"
echo "ERROR: No matching distribution found for hatchling"
exit 1
"""
UNTRUSTED = """\
echo "WARNING: Retrying (Retry(total=0)) after connection broken by 'SSLError(SSLCertVerificationError(1, '[SSL: \
CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate'))': /simple/hatchling/"
exit 1
"""


@dataclass(frozen=True, slots=True)
class Done:
    code: int
    said: list[str]
    calls: list[str]
    left: set[str]


@dataclass(frozen=True, slots=True)
class System:
    """A checkout, and a PATH with TOOLS, apt and, if ``python`` was asked for, a Python."""

    checkout: Path
    bin: Path

    @property
    def calls(self) -> Path:
        return self.bin / "calls"

    def start(self, *words: str, **answers: str) -> subprocess.Popen[str]:
        environment = {
            **dict.fromkeys(("PATH", "BIN", "TMPDIR"), str(self.bin)),
            **dict.fromkeys(("UPDATE", "INSTALL", "INDEX", "PIP"), ""),
            "CALLS": str(self.calls),
            **answers,
        }
        return subprocess.Popen(
            [self.checkout / ".ci/bootstrap", *words],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *words: str, **answers: str) -> Done:
        with self.start(*words, **answers) as process:
            said, _ = process.communicate(timeout=60)
        calls = self.calls.read_text().splitlines() if self.calls.exists() else []
        return Done(process.returncode, said.splitlines(), calls, {one.name for one in self.checkout.iterdir()})

    def processes(self) -> list[str]:
        """Those that work in the checkout."""
        found = []
        for one in Path("/proc").glob("[0-9]*"):
            try:
                if Path(os.readlink(one / "cwd")) == self.checkout:
                    found.append((one / "cmdline").read_text())
            except OSError:
                continue
        return found


@pytest.fixture
def system(tmp_path: Path) -> Callable[..., System]:
    def made(python: bool = True, apt: bool = True, nap: str = "1", user: str = "0") -> System:
        found = System(tmp_path / "a checkout", tmp_path / "bin")
        (found.checkout / ".ci").mkdir(parents=True)
        found.bin.mkdir()
        shutil.copy(ROOT / "pyproject.toml", found.checkout)
        script = (ROOT / ".ci/bootstrap").read_text()
        elsewhere = "PATH=$PATH:/usr/sbin:/sbin\n"
        assert elsewhere in script
        files = {found.checkout / ".ci/bootstrap": script.replace(elsewhere, "")}
        files[found.bin / ".python"] = PYTHON
        files[found.bin / "id"] = f"#!/bin/sh\necho {user}\n"
        files[found.bin / "sleep"] = f"#!/bin/sh\nexec {shutil.which('sleep')} {nap}\n"
        if python:
            files[found.bin / "python3"] = PYTHON
        if apt:
            files[found.bin / "apt-get"] = APT_GET
            files[found.bin / "apt-cache"] = '#!/bin/sh\n[ "$1" != policy ] || echo "  Candidate: 3.13.5-1"\n'
        for path, text in files.items():
            path.write_text(text)
            path.chmod(0o755)
        for name in ("cp", "chmod", "mkdir", *TOOLS):
            (found.bin / name).symlink_to(str(shutil.which(name)))
        return found

    return made


def test_a_bare_system_gets_python_and_the_packages_and_runs(system: Callable[..., System]) -> None:
    done = system(python=False).run("conformance", INSTALL=INSTALLS_PYTHON)
    assert done.code == 0, done.said
    assert done.calls == ["update", "install python3 python3-venv mount", "ask", "pip --editable ."]
    assert done.said[-1] == "overlay-conformance run python:refdriver:Driver"
    assert done.said[:4] == [
        "bootstrap: updating the package lists of apt",
        "bootstrap: installing with apt: python3 python3-venv mount",
        "bootstrap: creating a virtual environment in .venv",
        "bootstrap: installing Python packages into .venv",
    ]
    assert done.said[4].startswith("bootstrap: everything is installed, after ")
    assert done.left == {".ci", ".venv", "pyproject.toml"}


def test_what_is_installed_is_asked_for_once(system: Callable[..., System]) -> None:
    found = system()
    assert found.run("conformance", INSTALL='echo "#!/bin/sh" >"$BIN/mount"; chmod 755 "$BIN/mount"').code == 0
    found.calls.unlink()
    again = found.run("conformance", INDEX="exit 1")
    assert (again.calls, again.said) == ([], ["overlay-conformance run python:refdriver:Driver"])


@pytest.mark.parametrize(
    ("words", "packages"),
    [
        ((), "mount"),
        (("python:refdriver:Driver", "--backing", "tmpfs"), "mount"),
        (("containers-storage:vfs",), "mount containers-storage"),
        (("python:refdriver:Driver", "--backing", "all"), "mount e2fsprogs xfsprogs btrfs-progs"),
        (("python:refdriver:Driver", "--backing=xfs-noquota", "--backing", "btrfs"), "mount xfsprogs btrfs-progs"),
        (("python:refdriver:Driver", "--backing", "ext4"), "mount e2fsprogs"),
    ],
)
def test_only_the_packages_that_a_run_needs_are_installed(
    system: Callable[..., System], words: tuple[str, ...], packages: str
) -> None:
    done = system().run("conformance", *words)
    assert f"install {packages}" in done.calls
    assert done.said[-1] == " ".join(["overlay-conformance run", *(words or ["python:refdriver:Driver"])])


def test_a_mirror_without_a_release_file_has_its_reason(system: Callable[..., System]) -> None:
    said = """
        echo "Err:2 http://192.0.2.1/debian trixie Release"
        echo "  Cannot initiate the connection to 192.0.2.1:80 - connect (101: Network is unreachable)"
        echo "E: The repository 'http://192.0.2.1/debian trixie Release' does not have a Release file."
        exit 100
    """
    done = system(python=False).run("conformance", UPDATE=said, INSTALL="exit 100")
    cause = "does not have a Release file: Cannot initiate the connection to 192.0.2.1:80"
    assert cause in done.said[1]
    assert "Err:" not in "".join(done.said), "one line says it"


@pytest.mark.parametrize("lists", ["exit 100", ""], ids=["no lists", "old lists"])
def test_without_network_the_cause_is_one_line(system: Callable[..., System], lists: str) -> None:
    found = system(python=False)
    (found.bin / "apt-cache").write_text(f"#!/bin/sh\n{lists}\n")
    done = found.run("conformance", UPDATE=DEAD, INSTALL=DEAD)
    assert done.code == 2
    advice = done.said.pop()
    assert advice.startswith(
        "bootstrap: needs Python 3.11 or later, which apt cannot install: check the network, the "
    )
    assert done.said[:2] == [
        "bootstrap: updating the package lists of apt",
        f"bootstrap: apt cannot update its package lists: {CAUSE}",
    ]
    # Where there are lists of an earlier update, the packages may be in a source that answers.
    assert done.said[2:] == (
        []
        if lists
        else [
            "bootstrap: installing with apt: python3.11 python3.11-venv mount",
            f"bootstrap: apt cannot install them: {CAUSE}",
        ]
    )
    assert done.left == {".ci", "pyproject.toml"}


def test_one_source_of_several_may_fail(system: Callable[..., System]) -> None:
    done = system(python=False).run("conformance", UPDATE=DEAD, INSTALL=INSTALLS_PYTHON)
    assert done.code == 0, done.said
    assert "apt cannot update" in done.said[1]
    assert done.said[-1].startswith("overlay-conformance run")


def test_a_package_that_cannot_be_installed_is_named_and_the_run_goes_on(system: Callable[..., System]) -> None:
    done = system().run("conformance", INSTALL='echo "dpkg: error"; echo "E: Sub-process dpkg failed"; exit 100')
    assert done.code == 0
    assert "bootstrap: apt cannot install them: Sub-process dpkg failed; continuing without" in done.said
    assert "dpkg: error" in done.said, "a cause that the line does not name is above it"


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (REFUSED, "Failed to establish a new connection: [Errno 111] Connection refused"),
        (UNTRUSTED, "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate"),
        (
            'echo "ERROR: No matching distribution found for hatchling"; exit 1',
            "No matching distribution found for hatchling",
        ),
    ],
    ids=["refused", "certificate", "nothing"],
)
def test_the_index_is_asked_before_apt_changes_anything(
    system: Callable[..., System], answer: str, cause: str
) -> None:
    done = system().run("conformance", INDEX=answer, PIP_INDEX_URL="https://me:secret@index.example/simple")
    assert done.code == 2
    assert done.calls == ["ask"]
    (created, said) = done.said
    assert "virtual environment" in created
    begin = "bootstrap: pip cannot use the package index https://index.example/simple: "
    assert said.startswith(f"{begin}{cause}. Check the network and the proxy (https_proxy), "), said


def test_an_installation_that_fails_is_shown_and_tried_again(system: Callable[..., System]) -> None:
    found = system()
    done = found.run("conformance", PIP='echo "building"; echo "ERROR: Failed building wheel for hatch"; exit 1')
    assert done.code == 2
    assert done.said[-1] == "bootstrap: pip cannot install --editable .: Failed building wheel for hatch"
    assert "building" in done.said
    assert found.run("conformance").code == 0


@pytest.mark.parametrize("apt", [True, False])
def test_an_ordinary_user_learns_what_root_has_to_install(system: Callable[..., System], apt: bool) -> None:
    done = system(python=False, apt=apt, user="1000").run("conformance")
    assert done.code == 2
    assert done.calls == []
    assert "on Debian or Ubuntu, as root: apt-get install python3 python3-venv" in done.said[-1]


def test_a_long_step_shows_progress_with_the_last_line_of_its_output(system: Callable[..., System]) -> None:
    sleep = shutil.which("sleep")
    done = system(python=False, nap="0.02").run(
        "conformance", INSTALL=f'echo "Unpacking python3-minimal ..."; {sleep} 1.5; {INSTALLS_PYTHON}'
    )
    assert done.code == 0, done.said
    assert "bootstrap:   10 s: Unpacking python3-minimal ..." in done.said
    assert "bootstrap:   20 s: Unpacking python3-minimal ..." in done.said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_leaves_no_process_and_no_file(
    system: Callable[..., System], number: signal.Signals
) -> None:
    found = system(python=False)
    sleep = shutil.which("sleep")
    with found.start("conformance", UPDATE=f"exec {sleep} 60") as process:
        while not found.calls.exists() and process.poll() is None:
            time.sleep(0.01)
        os.killpg(process.pid, number)  # as a terminal and a CI system do
        process.communicate(timeout=30)
    assert process.returncode == 128 + number
    deadline = time.monotonic() + 5  # a nap of a second outlives its process
    while (there := found.processes()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert there == []
    assert not list(found.bin.glob("tmp.*"))
