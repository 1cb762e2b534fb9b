"""How machines of user-mode Linux end, tried on processes that stand for a kernel."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vm import uml
from vm.machines import MARKED, Place

UNMARKED = {name: value for name, value in os.environ.items() if name != "OVERLAY_CONFORMANCE_PREFIX"}


@contextmanager
def machine(place: Place, environment: dict[str, str]) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process that stands for a machine, and the one in its namespace, by its number out here."""
    words = [
        "unshare",
        "--map-root-user",
        "--pid",
        "--fork",
        "--kill-child",
        "sh",
        "-c",
        "echo up; exec sleep 1000",
    ]
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            (inner,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            home = place.cache / uml.DIRECTORY / "k6-1"
            home.mkdir(parents=True)
            (home / "disk").touch()
            (home / "pid").write_text(str(process.pid))
            yield process, int(inner)
        finally:
            process.kill()


def test_a_machine_ends_with_all_of_its_namespace_and_its_disk(tmp_path: Path) -> None:
    place = Place(tmp_path, tmp_path / "consoles", "uml")
    with machine(place, MARKED) as (_, inner):
        uml.destroy("k6-1", place)
        assert not Path(f"/proc/{inner}").exists()
        assert list((tmp_path / uml.DIRECTORY).iterdir()) == []
        uml.destroy("k6-1", place)


def test_a_number_that_is_another_process_by_now_is_not_ended(tmp_path: Path) -> None:
    place = Place(tmp_path, tmp_path / "consoles", "uml")
    with machine(place, UNMARKED) as (process, inner):
        uml.destroy("k6-1", place)
        assert process.poll() is None
        assert Path(f"/proc/{inner}").exists()
