"""What the tests execute of a driver: lines of any of its threads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from conformance.selftest.generated.reach import Marker, Reach

MODULE = """\
import _thread, threading

def work(done):
    done.release()

def below():
    done = _thread.allocate_lock()
    done.acquire()
    _thread.start_new_thread(work, (done,))
    done.acquire()

def rare(number):
    if number == 999:
        return "seldom"
    return ""

def often():
    for number in range(1000):
        rare(number)

def above():
    done = threading.Lock()
    done.acquire()
    threading.Thread(target=work, args=(done,)).start()
    done.acquire()
"""


def reach_of(tmp_path: Path, function: str) -> Reach:
    """What a process executes of the module that calls this function of it."""
    package = tmp_path / "small"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "threads.py").write_text(MODULE)
    recorded = tmp_path / "recorded"
    Marker(recorded).set(1)
    code = (
        "import sys; from pathlib import Path; from conformance.selftest.generated import reach;"
        "reach.record(Path(sys.argv[1]), 'small'); from small import threads; getattr(threads, sys.argv[2])()"
    )
    subprocess.run([sys.executable, "-c", code, recorded, function], cwd=tmp_path, check=True)
    return Reach.read(recorded, ["one"], {"one": 0.1})


@pytest.mark.parametrize("start", ["below", "above"])
def test_a_thread_of_the_driver_is_traced(tmp_path: Path, start: str) -> None:
    assert reach_of(tmp_path, start).of("small.threads", (4, 4)) == {"one"}


def test_what_is_called_often_is_executed_to_the_last_line(tmp_path: Path) -> None:
    """Only the first calls are traced: a branch that a later call takes must count, too."""
    line = MODULE.splitlines().index('        return "seldom"') + 1
    assert reach_of(tmp_path, "often").of("small.threads", (line, line)) == {"one"}
