"""The directory in which the command of an unpacker or differ runs, and how it is run there."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from conformance.drivers import commands
from conformance.drivers.protocol import CallLimit, DriverFailed, DriverRefused

_OWN: Final = {"HOME": "own", "TMPDIR": "tmp", "XDG_RUNTIME_DIR": "run"}
_COMPLAINT: Final = 4000  # characters of what a command says that are kept


def make(work: Path) -> None:
    """Make the directory, and in it what the command has for itself; ``own`` is its ``{work}``."""
    for made in (work, *(work / name for name in _OWN.values())):
        made.mkdir(mode=0o700 if made.name == "run" else 0o755)


def words_of(text: str, work: Path, printed: Path | None = None) -> list[str]:
    """The words of a command of sh(1) that runs there; its output goes to the file ``printed``, if one is given."""
    if printed is not None:
        text = f"exec >{shlex.quote(str(printed))}\n{text}"
    variables = [f"{name}={work / directory}" for name, directory in _OWN.items()]
    return ["env", "-C", str(work), *variables, "/bin/sh", "-ec", text]


def run(words: Sequence[str], limit: CallLimit, call: str, *, umask: int | None = None) -> None:
    """Run words to their end.

    Raises DriverRefused if they exit with another status than 0, DriverFailed for a crash, also of what a shell
    ran, and what :func:`conformance.drivers.commands.run` raises.
    """
    done = commands.run(words, limit, call, umask=umask)
    said = (done.stderr + b"\n" + done.stdout).decode("utf-8", "replace").strip()[-_COMPLAINT:]
    if done.status > 128 and done.status - 128 in signal.valid_signals():
        name = signal.Signals(done.status - 128).name
        raise DriverFailed(f"the command, or one that it ran, died of {name} in {call}", said, alone=True)
    if done.status:
        raise DriverRefused(said or f"the command exited with status {done.status}")
