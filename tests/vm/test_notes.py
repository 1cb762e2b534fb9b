"""The notes of what was made, by which machines are started."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conformance.spec.values import BadValue
from vm import build, notes
from vm.notes import Made, MadeUml


def test_a_note_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = MadeUml("image", {"k6-12": {"initrd": "/i", "root": "/"}}, "none", "/cache/image", "/cache/key", 512)
    notes.write(tmp_path / "uml.json", made)
    assert notes.read(tmp_path / "uml.json", MadeUml) == made
    assert json.loads((tmp_path / "uml.json").read_text()) == {
        "box": "image",
        "kernels": {"k6-12": {"initrd": "/i", "root": "/"}},
        "accelerator": "none",
        "image": "/cache/image",
        "key": "/cache/key",
        "memory": 512,
    }
    with pytest.raises(BadValue, match="there is no key image"):
        notes.read(tmp_path / "uml.json", Made)


def test_only_kernels_whose_files_are_there_are_known(tmp_path: Path) -> None:
    (tmp_path / "initrd").touch()
    kernels = {"there": {"initrd": str(tmp_path / "initrd")}, "gone": {"initrd": str(tmp_path / "gone")}, "no": {}}
    note = tmp_path / "built.json"
    notes.write(note, Made("box", kernels, "kvm"))
    assert build.known(note, Made).keys() == {"there"}


@pytest.mark.parametrize("text", [None, "", "[]", '{"box": "b"}', '{"box": "b", "kernels": 1, "accelerator": ""}'])
def test_a_note_that_cannot_be_read_knows_no_kernel(tmp_path: Path, text: str | None) -> None:
    note = tmp_path / "built.json"
    if text is not None:
        note.write_text(text)
    assert build.known(note, Made) == {}
