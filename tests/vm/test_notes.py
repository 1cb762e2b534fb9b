"""The notes of what was made, by which machines are started."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conformance.spec.values import BadValue
from vm import build, notes
from vm.notes import Made, MadeUml


def test_a_note_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = MadeUml({"k6-12": {"initrd": "/i", "image": "/cache/image"}}, "none", "/cache/key", 512)
    notes.write(tmp_path / "uml.json", made)
    assert notes.read(tmp_path / "uml.json", MadeUml) == made
    assert json.loads((tmp_path / "uml.json").read_text()) == {
        "machines": {"k6-12": {"initrd": "/i", "image": "/cache/image"}},
        "accelerator": "none",
        "key": "/cache/key",
        "memory": 512,
    }
    with pytest.raises(BadValue, match="there is no key key"):
        notes.read(tmp_path / "uml.json", Made)


def test_only_machines_whose_files_are_there_are_known(tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    there, gone = str(tmp_path / "there"), str(tmp_path / "gone")
    machines = {
        "box": {"initrd": there, "box": "a"},
        "image": {"initrd": there, "image": there},
        "gone": {"initrd": gone},
        "no-image": {"initrd": there, "image": gone},
        "no": {},
    }
    note = tmp_path / "built.json"
    notes.write(note, Made(machines, "kvm"))
    assert build.known(note, Made).keys() == {"box", "image"}


@pytest.mark.parametrize("text", [None, "", "[]", '{"box": "b"}', '{"machines": 1, "accelerator": ""}'])
def test_a_note_that_cannot_be_read_knows_no_machine(tmp_path: Path, text: str | None) -> None:
    note = tmp_path / "built.json"
    if text is not None:
        note.write_text(text)
    assert build.known(note, Made) == {}
