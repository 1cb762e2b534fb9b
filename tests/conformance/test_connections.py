"""Connection strings: one parser for all kinds, and what it refuses."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance import drivers
from conformance.cli.completion import connections
from conformance.drivers.connection import (
    BadConnection,
    Connection,
    Key,
    Kind,
    checked,
    checked_declined,
    format_connection,
    parse,
)
from conformance.drivers.protocol import DriverInfo
from conformance.drivers.registry import GROUP, KINDS, UnknownDriver, connect, keys_of, writable_of
from conformance.drivers.source import DriverSource
from conformance.spec import load_capabilities

KNOWN = (Key("binary", "a command"), Key("storage-opt", "an option", repeatable=True))
PAIRS = st.lists(st.tuples(st.text(min_size=1), st.text()), max_size=5)
CONNECTIONS = st.builds(
    Connection,
    st.text().filter(lambda kind: ":" not in kind),
    st.text().filter(lambda name: "?" not in name),
    PAIRS.map(tuple),
)


@given(CONNECTIONS)
def test_what_is_formatted_is_parsed_as_it_was(connection: Connection) -> None:
    assert parse(format_connection(connection)) == connection


@given(st.text())
def test_any_text_is_parsed_or_refused(text: str) -> None:
    _, mark, query = text.partition(":")[2].partition("?")
    if not mark or all(part.partition("=")[0] and "=" in part for part in query.split("&")):
        found = parse(text)
        assert parse(format_connection(found)) == found
    else:
        with pytest.raises(BadConnection, match="KEY=VALUE"):
            parse(text)


@given(PAIRS)
def test_options_that_are_unknown_repeated_or_empty_are_refused(options: list[tuple[str, str]]) -> None:
    known = {key.name for key in KNOWN} | {"decline", "writable"}
    names = [name for name, _ in options]
    right = set(names) <= known and names.count("binary") <= 1 and all(value for _, value in options)
    right = right and not {"decline", "writable"} & set(names)  # their values have a form of their own
    connection = Connection("kind", "name", tuple(options))
    if right:
        assert checked(connection, KNOWN) == connection
    else:
        with pytest.raises(BadConnection):
            checked(connection, KNOWN)


def test_a_kind_of_this_package_has_the_name_of_its_folder() -> None:
    assert [kind.name for kind in KINDS.values()] == list(KINDS)
    folders = [path.parent.name for path in Path(drivers.__file__).parent.glob("*/adapter.py")]
    assert sorted(one.replace("_", "-") for one in folders if one != "command") == sorted(KINDS)


def test_only_the_adapter_of_a_connection_is_imported() -> None:
    code = (
        "import sys; from conformance.drivers.registry import connect; connect('python:refdriver:Driver').close();"
        " print(*(one for one in sys.modules if one.endswith('.adapter')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["conformance.drivers.python.adapter"]


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("binray=./my-build", "no option 'binray'"),
        ("declien=diff:it has none", "did you mean 'decline'?"),
        ("decline=chages:it lists none", "no capability 'chages' of a driver (did you mean 'changes'?)"),
        ("decline=mounts:none here", "no capability 'mounts' of a driver"),  # the host has it, or has not
        ("decline=changes", "needs a reason"),
        ("decline=changes: ", "needs a reason"),
        ("decline=changes:a&decline=changes:b", "declined twice"),
        ("decline=", "'decline' has no value"),
        ("writable=", "'writable' has no value"),
        ("writable=var/lib", "writable=var/lib is relative"),
        ("writable=/no/such/directory", "writable=/no/such/directory is not there"),
        ("", "write KEY=VALUE"),
        ("binary", "write KEY=VALUE"),
        ("=value", "write KEY=VALUE"),
        ("writable=/&", "write KEY=VALUE"),
    ],
)
def test_every_kind_refuses_what_it_does_not_take(kind: str, query: str, said: str) -> None:
    with pytest.raises(UnknownDriver, match=re.escape(said)) as refusal:
        connect(f"{kind}:{'refdriver:Driver' if kind == 'python' else 'x'}?{query}")
    if "no option" in said:
        assert all(key.name in str(refusal.value) for key in keys_of(kind))


@pytest.mark.parametrize(
    "connection",
    [
        "containers-storage:overlay?binary=/bin/true&binary=/bin/false",
        "graphdriver:?command=a {socket}&command=b {socket}",
        "containerd:overlayfs?proxy=/a&proxy=/b",
    ],
)
def test_a_key_is_there_once(connection: str) -> None:
    with pytest.raises(UnknownDriver, match="is there 2 times"):
        connect(connection)


@pytest.mark.parametrize(
    ("connection", "said"),
    [
        ("graphdriver:?command=/bin/false", "the command lacks {socket}"),
        ("graphdriver:?command=/no/such/plugin {socket}", "there is no command '/no/such/plugin'"),
        ("unpacker:umcoi", "(did you mean 'umoci'?)"),
    ],
)
def test_what_is_wrong_with_a_command_is_said(connection: str, said: str) -> None:
    with pytest.raises(UnknownDriver, match=re.escape(said)):
        connect(connection)


def test_a_misspelt_key_is_not_the_systems_command() -> None:
    with pytest.raises(
        UnknownDriver, match=re.escape("(did you mean 'binary'?); containers-storage takes: binary")
    ):
        connect("containers-storage:overlay?binray=./my-build")


def test_a_misspelt_kind_is_refused_with_the_right_one() -> None:
    with pytest.raises(UnknownDriver, match=re.escape("did you mean 'containerd'?")):
        connect("contianerd:overlayfs")


def test_a_python_class_declines_by_its_connection_string_too() -> None:
    source = connect("python:refdriver:Driver?decline=changes:it is%26 was slow&decline=diff-size:it+is+not+exact")
    source.close()
    assert source.info.declined == {"changes": "it is& was slow", "diff-size": "it is not exact"}


def test_writable_paths_are_those_of_the_connection_string(scratch: Path) -> None:
    (scratch / "a b&c").mkdir()
    said = str(scratch / "a b&c").replace("&", "%26")
    assert writable_of(f"python:refdriver:Driver?writable={scratch}&writable={said}") == (
        scratch,
        scratch / "a b&c",
    )
    assert writable_of("containers-storage:overlay") == ()
    for wrong in ("relative", str(scratch / "missing")):
        with pytest.raises(UnknownDriver, match="writable="):
            writable_of(f"graphdriver:/a.sock?writable={wrong}")


@pytest.mark.parametrize(
    ("declined", "said"),
    [
        (["changes"], "is a mapping of capabilities to reasons, not list"),
        ("changes", "not str"),
        (None, "not NoneType"),
        ({"chages": "none"}, "did you mean 'changes'?"),
        ({1: "none"}, "no capability 1"),
        ({"changes": None}, "needs a reason"),
        ({"changes": ""}, "needs a reason"),
    ],
)
def test_declined_capabilities_are_names_with_reasons(declined: object, said: str) -> None:
    with pytest.raises(BadConnection, match=re.escape(said)):
        checked_declined(declined, "declined_capabilities")


@given(
    st.dictionaries(
        st.sampled_from([one.name for one in load_capabilities().values() if one.of == "driver"]),
        st.text(min_size=1).filter(str.strip),
    )
)
def test_every_capability_of_a_driver_may_be_declined(declined: dict[str, str]) -> None:
    assert checked_declined(declined, "here") == declined


CLASSES = """
class Lists:
    declined_capabilities = ["changes"]

class Misspells:
    declined_capabilities = {"chages": "it lists none"}

class Numbers:
    declined_capabilities = {"changes": 3}

NOT_A_CLASS = 3
"""


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a_module:Lists", "a_module.Lists.declined_capabilities is a mapping"),
        ("a_module:Numbers", "a_module.Numbers.declined_capabilities: expected a mapping of str to str, got int"),
        ("a_module:Misspells", "did you mean 'changes'?"),
        ("a_module:NOT_A_CLASS", "is int, not a class"),
        ("a_module:Listss", "did you mean 'Lists'?"),
        ("no_such_module:Driver", "No module named 'no_such_module'; install the package, or name the directory"),
        ("imports_another:Driver", "No module named 'another_missing', which imports_another imports"),
        ("raises:Driver", "importing raises failed: NameError: name 'undefined' is not defined"),
        ("exits:Driver", "importing exits failed: SystemExit: 3"),
        ("broken:Driver", "importing broken failed: SyntaxError"),
    ],
)
def test_a_class_that_cannot_be_used_is_refused_with_the_reason(
    scratch: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    modules = {
        "a_module": CLASSES,
        "imports_another": "import another_missing",
        "raises": "undefined",
        "exits": "raise SystemExit(3)",
        "broken": "def (:",
    }
    for module, text in modules.items():
        (scratch / f"{module}.py").write_text(text)
    monkeypatch.syspath_prepend(str(scratch))
    try:
        with pytest.raises(UnknownDriver, match=re.escape(said)):
            connect(f"python:{name}")
    finally:
        for module in modules:
            sys.modules.pop(module, None)


def command(path: Path, says: str) -> None:
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_a_relative_binary_is_the_one_that_is_run(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its version too, and not that of the command of the same name on the PATH."""
    command(scratch / "containers-storage", "containers-storage version 9.8.7")
    (scratch / "path").mkdir()
    command(scratch / "path" / "containers-storage", "containers-storage version 1.2.3")
    monkeypatch.chdir(scratch)
    monkeypatch.setenv("PATH", f"{scratch / 'path'}:/usr/bin:/bin")
    ours, theirs = (
        connect("containers-storage:overlay?binary=./containers-storage"),
        connect("containers-storage:vfs"),
    )
    assert (ours.info.version, theirs.info.version) == ("9.8.7", "1.2.3")
    # A script of a failure is run from anywhere, so it names the command by its whole path.
    assert ours.dialect is not None
    assert list(ours.dialect.needs) == [str(scratch / "containers-storage")]


def test_a_kind_of_others_reads_its_arguments_itself(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []

    def source(arguments: str) -> DriverSource:
        heard.append(arguments)
        return DriverSource(DriverInfo("theirs", "1"), lambda _: None)  # type: ignore[arg-type,return-value]

    class Entry:
        @staticmethod
        def load() -> object:
            return source

    def entries(*, group: str, name: str) -> list[type[Entry]]:
        return [Entry] if (group, name) == (GROUP, "theirs") else []

    monkeypatch.setattr(importlib.metadata, "entry_points", entries)
    for arguments in ("a?b&c", "a?b=c&b=c&d", "?", "", "a?b=%26"):
        connect(f"theirs:{arguments}")
        assert heard[-1] == arguments
        assert writable_of(f"theirs:{arguments}") == ()
    connect(f"theirs:a?b&writable={scratch}&c")
    connect(f"theirs:a?writable={scratch}")
    assert heard[-2:] == ["a?b&c", "a"]
    assert writable_of(f"theirs:a?b&writable={scratch}") == (scratch,)
    with pytest.raises(UnknownDriver, match="is relative"):
        connect("theirs:a?writable=b")


def test_a_kind_of_others_is_registered_as_ours_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def source(arguments: str) -> DriverSource:
        return DriverSource(DriverInfo(f"theirs:{arguments}", "1"), lambda _: None)  # type: ignore[arg-type,return-value]

    theirs = Kind("theirs", (("NAME", "example"),), source, (Key("binary", "its command"),))

    class Entry:
        @staticmethod
        def load() -> object:
            return theirs

    monkeypatch.setattr(
        importlib.metadata,
        "entry_points",
        lambda *, group, name: [Entry] if (group, name) == (GROUP, "theirs") else [],
    )
    assert connect("theirs:a?binary=x").info.name == "theirs:a?binary=x"
    with pytest.raises(UnknownDriver, match=r"there is no option 'binray' \(did you mean 'binary'\?\)"):
        connect("theirs:a?binray=x")


def test_a_string_that_names_no_driver_is_answered_with_every_form() -> None:
    with pytest.raises(UnknownDriver) as refused:
        connect("pythons:refdriver:Driver")
    assert "did you mean 'python'" in str(refused.value)
    for kind in KINDS.values():
        for form, example in kind.forms:
            assert f"{kind.name}:{form} (such as {kind.name}:{example})" in str(refused.value)


@pytest.mark.parametrize(
    ("begun", "wanted"),
    [
        (
            "",
            [
                "python:",
                "containers-storage:",
                "graphdriver:",
                "graphdriver:",
                "containerd:",
                "mounter:",
                "mounter:",
                "unpacker:",
                "unpacker:",
                "lister:",
                "lister:",
                "differ:",
                "differ:",
            ],
        ),
        ("cont", ["containers-storage:", "containerd:"]),
        ("containerd:overlayfs?b", ["containerd:overlayfs?binary="]),
        ("containerd:overlayfs?binary=x&wri", ["containerd:overlayfs?binary=x&writable="]),
        ("python:a:B", []),
    ],
)
def test_a_connection_string_is_completed(begun: str, wanted: list[str]) -> None:
    context: Any = None
    assert [one.value for one in connections(context, context, begun)] == wanted


def test_the_page_lists_every_key_of_every_kind() -> None:
    text = (Path(__file__).parents[2] / "docs" / "adapters.md").read_text()
    rows = {tuple(cell.strip(" `") for cell in line.split("|")[1:3]) for line in text.splitlines() if "|" in line}
    wanted = {(kind.name, key.name) for kind in KINDS.values() for key in kind.keys or ()}
    assert wanted | {("every kind", "decline"), ("every kind", "writable")} <= rows


@pytest.mark.mounts
@pytest.mark.skipif(not shutil.which("containers-storage"), reason="needs the package containers-storage")
def test_asking_for_a_version_leaves_no_mount_on_the_host() -> None:
    """The command opens a store for it; 1.43 mounts the directory of the system's own."""
    before = Path("/proc/self/mountinfo").read_text()
    connect("containers-storage:overlay").close()
    assert Path("/proc/self/mountinfo").read_text() == before
