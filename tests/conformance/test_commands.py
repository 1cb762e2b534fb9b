"""Drivers that are commands: what their adapter makes of what they print, and the words of their scripts."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from conformance.drivers.command.adapter import source_of
from conformance.drivers.command.script import CommandScript
from conformance.drivers.command.words import Command, CommandStore, Unsupported
from conformance.drivers.connection import Kind
from conformance.drivers.protocol import (
    Change,
    DriverFailed,
    DriverInfo,
    DriverRefused,
    DriverUnderTest,
    OpenRequest,
)
from conformance.drivers.registry import GROUP, UnknownDriver, connect, kinds
from conformance.history.calls import (
    ApplyDiff,
    Call,
    Changes,
    Close,
    Create,
    Diff,
    DiffSize,
    Exists,
    Get,
    Reopen,
)
from conformance.history.steps import Called, Opened
from conformance.operations.shell import NoScript


def says(text: str, status: int = 0) -> list[str]:
    """A command that prints something and exits with a status."""
    return ["sh", "-c", f'printf %s "$0"; exit {status}', text]


def opened(scratch: Path, words: Sequence[str], **more: object) -> DriverUnderTest:
    command = Command("sh", lambda _: ["true"], lambda _, __: words, **more)  # type: ignore[arg-type]
    return source_of(DriverInfo("c", "1"), command).open(OpenRequest(scratch))


def test_answers_are_read_from_what_a_command_prints(scratch: Path) -> None:
    assert opened(scratch, says("/a tree\n")).get("a") == "/a tree"
    assert opened(scratch, says("17\n")).diff_size("a", "") == 17
    assert opened(scratch, says("size 17")).apply_diff("a", "", scratch) == 17
    assert opened(scratch, says("")).apply_diff("a", "", scratch) is None
    assert opened(scratch, says("a: b\nnothing\nc: d: e")).status() == {"a": "b", "c": "d: e"}
    listed = opened(scratch, says("A /a\nModify /b c\nchange /d\ndelete /e\n")).changes("a", "")
    assert listed == [
        Change(b"/a", "add"),
        Change(b"/b c", "modify"),
        Change(b"/d", "modify"),
        Change(b"/e", "delete"),
    ]
    assert opened(scratch, says("A /a"), path_of=lambda text: text.upper().encode()).changes("a", "") == [
        Change(b"/A", "add")
    ]
    assert opened(scratch, []).home == f"{scratch}/"
    assert opened(scratch, [], home="layers").home == f"{scratch}/layers"
    opened(scratch, []).close()


def test_exists_is_an_exit_status(scratch: Path) -> None:
    assert opened(scratch, says("", 0)).exists("a") is True
    assert opened(scratch, says("", 1)).exists("a") is False
    assert opened(scratch, says("", 14), absent=14).exists("a") is False
    with pytest.raises(DriverRefused, match="busy"):
        opened(scratch, says("busy", 1), absent=14).exists("a")


def test_a_status_is_a_refusal_and_an_answer_without_sense_is_none(scratch: Path) -> None:
    with pytest.raises(DriverRefused, match="there is no layer"):
        opened(scratch, says("there is no layer", 3)).get("a")
    with pytest.raises(DriverRefused, match="put exited with status 3"):
        opened(scratch, says("", 3)).put("a")
    for text in ("", "many", "17 bytes"):
        with pytest.raises(DriverFailed, match="printed no size"):
            opened(scratch, says(text)).diff_size("a", "")
    for text in ("/a", "X /a", "A a"):
        with pytest.raises(DriverFailed, match="no KIND /PATH"):
            opened(scratch, says(text)).changes("a", "")
    with pytest.raises(DriverFailed, match="SIGKILL"):
        opened(scratch, ["sh", "-c", "kill -9 $$"]).put("a")
    with pytest.raises(OSError, match="no command 'no-such-command'"):
        source_of(DriverInfo("c", "1"), Command("no-such-command", lambda _: [], lambda _, __: []))


def words(store: CommandStore, call: Call) -> list[str]:
    match call:
        case Get(label=label) if label:
            raise Unsupported("it takes no label")
        case Close():
            return []
        case Diff(layer, _, archive) | ApplyDiff(layer, _, archive):
            return ["driver", store.directory, layer, archive]
        case _:
            return ["driver", store.directory, type(call).__name__, str(getattr(call, "layer", "")), *store.options]


def test_what_a_command_cannot_do_is_refused_and_is_in_no_script(scratch: Path) -> None:
    driver = source_of(DriverInfo("c", "1"), Command("sh", lambda _: ["true"], words)).open(OpenRequest(scratch))
    with pytest.raises(DriverRefused, match="it takes no label"):
        driver.get("a", "label")
    script = CommandScript(Command("driver", lambda store: ["driver", store.directory], words))
    script.opened(Opened("store"))
    for call in (Get("a", "label"), Diff("a", "", "x", piece=3)):
        with pytest.raises(NoScript):
            script.called(Called("store", call))


def test_a_script_has_the_words_of_the_adapter() -> None:
    command = Command("driver", lambda store: ["driver", store.directory, *store.image_stores], words, absent=14)
    script = CommandScript(command)
    assert script.needs == ("driver",)
    assert script.opened(Opened("other", "a b", image_stores=("store/x",))) == (
        "driver ''\"$work\"'/other/a b' \"$work\"/store/x"
    )
    script.opened(Opened("store", options=("size=1", "it's=2")))
    lines: dict[Call, str] = {
        Create("-a", "b"): 'driver "$work"/store Create -a size=1 "$(printf \'it\\047s=2\')"',
        Diff("a", "", "store-a.tar"): 'driver "$work"/store a "$work"/store-a.tar',
        Reopen(): "# every command opens the store anew",
        Close(): "# nothing to do",
    }
    assert {call: script.called(Called("store", call)) for call in lines} == lines
    assert script.called(Called("store", Exists("a"))).startswith("command_exists 14 driver ")
    assert script.called(Called("store", DiffSize("a", ""))).startswith("command_size driver ")
    assert script.called(Called("store", Changes("a", ""))).startswith("command_changes driver ")
    assert (script.home("store", ""), script.home("store", "b")) == ("$work/store", "$work/store/b")


@pytest.mark.parametrize(
    ("call", "said", "status"),
    [
        ("command_exists 1 true", "yes\n", 0),
        ("command_exists 1 false", "no\n", 0),
        ("command_exists 14 false", "\n", 1),
        ("command_size echo 'size 17'", "17\n", 0),
        ("command_size false", "", 1),
        (
            r"command_changes printf 'A /a b\nM /m\nC /c\nDelete /d\n'",
            "add /a b\nmodify /m\nmodify /c\ndelete /d\n",
            0,
        ),
        ("command_changes true", "", 0),
        ("command_changes false", "", 1),
    ],
)
def test_the_functions_of_a_script_answer_in_its_form(call: str, said: str, status: int) -> None:
    prologue = CommandScript(Command("driver", lambda _: [], lambda _, __: [])).prologue()
    done = subprocess.run(["sh", "-c", f"{prologue}\n{call}"], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode, done.stderr) == (said, status, "")


def test_kinds_of_others_are_in_messages_and_one_that_cannot_be_imported_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    theirs = Kind("refcommand", (("COMMAND", "refdriver"),), lambda arguments: connect(arguments))

    class Entry:
        def __init__(self, name: str, found: object) -> None:
            self.name, self.value, self._found = name, f"{name}:KIND", found

        def load(self) -> object:
            if isinstance(self._found, Exception):
                raise self._found
            return self._found

    entries = [Entry("refcommand", theirs), Entry("broken", ImportError("No module named 'gone'"))]
    monkeypatch.setattr(
        importlib.metadata,
        "entry_points",
        lambda *, group, name="": [one for one in entries if group == GROUP and name in ("", one.name)],
    )
    assert list(kinds())[-1] == "refcommand"
    with pytest.raises(UnknownDriver, match=r"did you mean 'refcommand'\?.*refcommand:COMMAND \(such as"):
        connect("refcomand:x")
    with pytest.raises(UnknownDriver, match=r"'broken' \(broken:KIND\) cannot be imported: ImportError: No module"):
        connect("broken:x")


def test_a_call_is_ended_at_its_limit_and_behind_the_prefix_of_the_request(scratch: Path) -> None:
    source = source_of(DriverInfo("c", "1"), Command("sh", lambda _: ["sh", "-c", "umask"], words))
    assert source.attempt is not None
    assert source.attempt(OpenRequest(scratch), ["env", "-C", os.sep]).opened
    failing = Command("sh", lambda _: says("no", 1), words)
    attempt = source_of(DriverInfo("c", "1"), failing).attempt
    assert attempt is not None
    assert not attempt(OpenRequest(scratch), []).opened
