"""The command as a person meets it: help, completion, doctor, and what a terminal or a pipe is shown."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from commanding import command as command_here

from conformance.cli import main
from conformance.cli.base import VERBS

pytestmark = pytest.mark.slow  # each test starts the command, some a shell too

NAME = "overlay-conformance"
SHELLS = {"bash": [], "zsh": ["-f"], "fish": ["--no-config"]}
COLOURED = re.compile(r"\x1b\[[0-9;]*(?:3[0-7]|4[0-7]|9[0-7])m")
# One requirement of a few tests.
SHORT = (
    "run",
    "python:refdriver:Driver",
    "--profile",
    "smoke",
    "--requirement",
    "OVL-LIFE-CREATE",
    "--no-evidence",
)


def verbs(command: click.Command = main, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner, name
            yield from verbs(inner, *path, name)


def ran(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return command_here(*words, env={**os.environ, **environment})


@pytest.mark.parametrize("path", [path for path, _ in verbs()], ids=lambda path: " ".join(path) or NAME)
def test_help_is_short_and_complete(path: tuple[str, ...]) -> None:
    command = dict(verbs())[path]
    told = CliRunner(env={"COLUMNS": "100"}).invoke(main, [*path, "--help"], prog_name=NAME)
    assert told.exit_code == 0
    assert told.stderr == ""
    lines = told.stdout.splitlines()
    assert len(lines) <= 45
    assert not [line for line in lines[1:] if line.endswith("...")]  # a sentence that was cut
    for parameter in command.get_params(click.Context(command)):
        names = parameter.opts if isinstance(parameter, click.Option) else [parameter.human_readable_name]
        if isinstance(parameter, click.Option) and parameter.hidden:  # a former name, which still works
            assert not any(name in told.stdout for name in names), parameter.name
            continue
        assert any(name in told.stdout for name in names), parameter.name
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
    if isinstance(command, click.Group):
        for inner in command.list_commands(click.Context(command)):
            assert re.search(rf"^  {inner}  +\S", told.stdout, re.MULTILINE), inner


# What these bring is needed by no verb of the test below.
HEAVY = {"pytest", "_pytest", "hypothesis", "grpc", "tomlkit", "packaging", "yaml", "vagrant", "cattrs", "attr"}
HEAVY |= {f"conformance.{one}" for one in ("selftest", "suites", "machines", "evidence", "drivers.registry")}


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (("--help",), ""),
        (("list",), ""),
        (("explain", "OVL-LIFE-CREATE"), ""),
        (("run", "--help"), ""),
        ((), "overlay-conformance re"),
        ((), "overlay-conformance explain OVL-NA"),
        ((), "overlay-conformance run --family qu"),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, tuple) else one,
)
def test_what_has_to_be_quick_imports_neither_tests_nor_mutants(words: tuple[str, ...], completed: str) -> None:
    variables = {**os.environ, "COLUMNS": "100"}
    if completed:
        number = len(completed.split()) - 1
        variables |= {"_OVERLAY_CONFORMANCE_COMPLETE": "bash_complete", "COMP_WORDS": completed}
        variables["COMP_CWORD"] = str(number)
    start = "from conformance.cli import main; main(prog_name='overlay-conformance')"
    command = [sys.executable, "-X", "importtime", "-c", start, *words]
    told = subprocess.run(command, env=variables, capture_output=True, text=True, check=True, timeout=60)
    assert told.stdout.strip()
    imported = {line.rpartition("|")[2].strip() for line in told.stderr.splitlines()}
    assert "conformance.cli.base" in imported
    assert imported & HEAVY == set()


def test_every_verb_is_of_the_module_that_the_table_names() -> None:
    context = click.Context(main)
    for name, verb in VERBS.items():
        command = main.get_command(context, name)
        assert command, name
        assert command.callback, name
        assert command.callback.__module__ == verb.module
    assert main.list_commands(context) == sorted({*VERBS, "drivers", "matrix"})


def test_every_option_in_use_is_told_of_by_name_when_it_is_mistyped() -> None:
    told = ran("run", "python:refdriver:Driver", "--profil", "smoke")
    assert told.returncode == 2
    assert re.search("Did you mean.*--profile", told.stderr)
    told = ran("ruin")
    assert told.returncode == 2
    assert f"Try '{NAME} --help'" in told.stderr.replace("python -m conformance", NAME)


@pytest.fixture
def on_the_path(tmp_path: Path) -> str:
    """A PATH on which the command is found by its name."""
    wrapper = tmp_path / NAME
    start = "import sys; from conformance.cli import main; main(prog_name=sys.argv.pop(1))"
    wrapper.write_text(f"#!/bin/sh\nexec '{sys.executable}' -c '{start}' {NAME} \"$@\"\n")
    wrapper.chmod(0o755)
    return f"{tmp_path}:{os.environ['PATH']}"


def in_shell(shell: str, script: str, path: str) -> str:
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}; apt-get install {shell}")
    variables = {**os.environ, "PATH": path}
    command = [shell, *SHELLS[shell], "-c", script]
    told = subprocess.run(command, env=variables, capture_output=True, text=True, check=True, timeout=60)
    assert told.stderr == ""
    return told.stdout


# What each shell is asked by the key Tab, without a keyboard: zsh's own functions for that are stood in for.
TAB = {
    "bash": """
        eval "$(overlay-conformance completion bash)"
        COMP_WORDS=(overlay-conformance {before}'{begun}') COMP_CWORD={place}
        _overlay_conformance_completion overlay-conformance '{begun}'
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """,
    "zsh": """
        compdef() {{ :; }}
        compadd() {{ printf '%s\\n' ${{(P)@[-1]}}; }}
        _describe() {{ printf '%s\\n' ${{(P)3}} }}
        eval "$(overlay-conformance completion zsh)"
        words=(overlay-conformance {before}'{begun}') CURRENT=$(({place} + 1))
        _overlay_conformance_completion
    """,
    "fish": """
        overlay-conformance completion fish | source
        complete --do-complete 'overlay-conformance {before}{begun}'
    """,
}


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("before", "begun", "expected"),
    [
        ("", "rep", {"replay", "report"}),
        ("run --profile ", "s", {"smoke", "standard"}),
        ("run --family ", "quo", {"quota"}),
        ("explain ", "ovl-names-h", {"OVL-NAMES-HOME"}),
        ("expect ", "", {"check", "update"}),
    ],
)
def test_completion(shell: str, before: str, begun: str, expected: set[str], on_the_path: str) -> None:
    place = len(before.split()) + 1
    told = in_shell(shell, TAB[shell].format(before=before, begun=begun, place=place), on_the_path)
    assert {re.split(r"[\t:]", line)[0] for line in told.splitlines() if line} == expected


@pytest.mark.mounts
def test_doctor_says_what_is_missing_and_how_to_get_it(tmp_path: Path) -> None:
    for name in ("mount", "umount", "unshare", "losetup", "mkfs.ext4", "sh", "env"):
        if there := shutil.which(name):
            (tmp_path / name).symlink_to(there)
    told = ran("doctor", "--json", PATH=str(tmp_path))
    assert told.returncode == 0
    assert told.stderr == ""
    said = json.loads(told.stdout)
    assert said["format"] == 1
    assert said["smoke"] is True
    found: dict[str, dict[str, object]] = {one["what"]: one for one in said["findings"]}
    assert found["profile smoke, this user"]["works"]
    assert found["--backing ext4"]["works"]
    for what, package in (("containers-storage", "containers-storage"), ("--backing xfs", "xfsprogs")):
        assert not found[what]["works"], what
        assert found[what]["remedy"] == f"apt-get install {package}"
    for_people = ran("doctor", PATH=str(tmp_path))
    assert for_people.returncode == 0
    assert "\x1b" not in for_people.stdout + for_people.stderr
    assert re.search(r"^  no +containers-storage .*-> apt-get install containers-storage$", for_people.stdout, re.M)


@pytest.mark.mounts
def test_doctor_ends_with_1_where_no_overlay_can_be_mounted() -> None:
    # Without the right to mount anything, in a user namespace that may not be made again.
    limit = "echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --bounding-set -sys_admin"
    script = f'{limit} --inh-caps -sys_admin "$@"'
    words = ["unshare", "--user", "--map-root-user", "sh", "-c", script, "sh", sys.executable, "-m", "conformance"]
    told = subprocess.run([*words, "doctor"], capture_output=True, text=True, check=False, timeout=300)
    assert told.returncode == 1, told.stdout + told.stderr
    assert "This host cannot test drivers" in told.stdout
    assert re.search(r"^  no +profile smoke, this user", told.stdout, re.M)


def on_a_terminal(*words: str, **environment: str) -> tuple[int, str]:
    """The exit code, and all that a terminal of 100 columns was sent."""
    process, terminal = pty.fork()
    if process == 0:
        variables = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", **environment}
        os.execvpe(sys.executable, [sys.executable, "-m", "conformance", *words], variables)
    told = b""
    try:
        while piece := os.read(terminal, 65536):
            told += piece
    except OSError:  # EIO: the other side is closed
        pass
    finally:
        os.close(terminal)
        _, status = os.waitpid(process, 0)
    return os.waitstatus_to_exitcode(status), told.decode()


@pytest.mark.mounts
def test_a_terminal_sees_progress_and_colours(scratch: Path) -> None:
    code, told = on_a_terminal(*SHORT, "--scratch", str(scratch))
    assert code == 0, told
    assert COLOURED.search(told)
    assert "test_" in told or "0:00:0" in told


@pytest.mark.mounts
def test_no_color_is_honoured(scratch: Path) -> None:
    code, told = on_a_terminal(*SHORT, "--scratch", str(scratch), NO_COLOR="1")
    assert code == 0, told
    assert not COLOURED.search(told)


@pytest.mark.mounts
def test_a_run_of_nothing_says_where_the_tests_are(scratch: Path) -> None:
    words = ("--profile", "smoke", "--requirement", "OVL-NAMES-HOME", "--scratch", str(scratch))
    told = ran("run", "python:refdriver:Driver", *words)
    assert told.returncode == 3
    assert (
        "note: profile smoke has no test of the selected requirements; try --profile quick, standard or release"
        in told.stdout
    )


@pytest.mark.mounts
def test_a_pipe_sees_neither(scratch: Path) -> None:
    told = ran(*SHORT, "--scratch", str(scratch))
    assert told.returncode == 0
    assert "\x1b" not in told.stdout + told.stderr
    assert "\r" not in told.stdout + told.stderr
    assert told.stderr == ""


@pytest.mark.parametrize(
    "words",
    [
        ["list"],
        ["explain", "OVL-LIFE-CREATE"],
        ["specification"],
        *([verb, "--help"] for verb in ("run", "validate-adapter", "observe", "selftest")),
    ],
    ids=" ".join,
)
def test_a_verb_that_tests_nothing_imports_no_test_tools(words: list[str]) -> None:
    code = """
import sys
from conformance.cli import main
try:
    main()
finally:
    print("modules:", *sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    imported = set(done.stdout.rpartition("modules:")[2].split())
    assert "conformance.cli.base" in imported, done.stderr
    assert not imported & {"hypothesis", "pytest", "conformance.harness.store", "refdriver"}
