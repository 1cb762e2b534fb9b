"""A tool in Python that is forked for each command: most of the time of some hundred commands would be starts.

The command of the tool is a shell script that asks a server by a FIFO. The server is this file, run by a Python
without site-packages, and has imported what the tools of these tests import. It is confined as a run is: everything
but the directory of the test is read-only. A tool that is judged for what it does wrong is no tool for this.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

_IMPORTED = ("base64", "decimal", "json", "pathlib", "runpy", "shutil", "tarfile", "tempfile")
_PLACE = "served"
# The words end with a line of their own, so that an empty one is seen.
_COMMAND = """\
#!/bin/sh
cd "${0%/*}"
printf '%s\\n' "$@" . >ask
read -r status <answer
[ ! -s said ] || cat said
[ ! -s complained ] || cat complained >&2
exit "$status"
"""
_CONFINED = """\
import os, sys
from pathlib import Path
from conformance.harness.host import confine
confine([Path(sys.argv[1])])
os.chdir(sys.argv[1])  # in the mount that can be written to
os.execv(sys.executable, [sys.executable, "-IS", *sys.argv[2:]])
"""


@contextlib.contextmanager
def served(program: Path, directory: Path) -> Iterator[Path]:
    """The command of a program, in a new directory below ``directory``; its words are absolute paths and names."""
    from refdriver import trees  # which the server has not

    place = directory / _PLACE
    place.mkdir()
    command = place / "command"
    command.write_text(_COMMAND)
    command.chmod(0o755)
    for name in ("ask", "answer"):
        os.mkfifo(place / name)
    words = [sys.executable, "-c", _CONFINED, str(directory), __file__, str(program)]
    server = subprocess.Popen(words, stdin=subprocess.DEVNULL)
    try:
        yield command
    finally:
        server.kill()
        server.wait()
        trees.remove_tree(str(directory / "tmp"))  # what a tool leaves there may be too deep for pytest


def _serve(program: str) -> None:
    """Run the program for each request, until this process is killed."""
    for name in _IMPORTED:
        importlib.import_module(name)
    os.chdir(_PLACE)
    code = compile(Path(program).read_text(), program, "exec")
    gc.freeze()
    sys.setrecursionlimit(sys.getrecursionlimit() + 10)  # for the frames of this file
    while True:
        words = Path("ask").read_text().splitlines()[:-1]
        child = os.fork()
        if not child:
            _run(code, [program, *words])
        _, status = os.waitpid(child, 0)
        Path("answer").write_text(f"{os.waitstatus_to_exitcode(status)}\n")


def _run(code: CodeType, words: list[str]) -> None:
    """Be the program, as Python is when it runs one, but for what it does at the end of a process."""
    for descriptor, name in ((1, "said"), (2, "complained")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), descriptor)
    sys.argv, status = words, 0
    try:
        exec(code, {"__name__": "__main__", "__file__": words[0]})
    except SystemExit as refused:
        sys.stderr.write(f"{refused}\n")
        status = 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    _serve(sys.argv[1])
