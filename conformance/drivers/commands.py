"""A command of a driver: run within the limit of a call, with bounds to what it prints."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Final

from conformance.drivers.protocol import CallLimit, DriverFailed
from conformance.lab.supervised import as_the_kernel_knows, how_it_ended

_MOST: Final = 64 << 20  # bytes of an answer
_BLOCK: Final = 64 << 10
_POLL: Final = 0.05  # seconds
_PANIC: Final = (b"panic: ", b"fatal error: ")  # what Go's runtime prints, before it exits with status 2


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended that ended by itself, and what it printed."""

    status: int
    stdout: bytes
    stderr: bytes


def run(words: Sequence[str], limit: CallLimit, call: str, *, umask: int | None = None) -> Done:
    """Run a command to its end; raises DriverFailed for a crash, too long a time or too long an output, and TimeUp.

    It has a process group of its own, which is killed when the limit is exceeded. What it starts may go on, as the
    mount programs of containers/storage do.
    """
    deadline = time.monotonic() + limit.left()
    with subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        umask=-1 if umask is None else umask,
    ) as process:
        try:
            stdout, stderr = _outputs(process, call, deadline)
        except TimeoutError:
            stack = f"{' '.join(words)}\n{as_the_kernel_knows(process.pid)}"
            _kill(process.pid)
            raise limit.exceeded(call, stack) from None
        except BaseException:
            _kill(process.pid)
            raise
    said = stderr.decode("utf-8", "replace").strip()[-_BLOCK:]
    if process.returncode < 0:
        raise DriverFailed(f"the command {how_it_ended(process.returncode)} in {call}", said)
    if process.returncode and b"goroutine " in stderr and any(one in stderr for one in _PANIC):
        first = next(line for line in said.splitlines() if line.startswith(("panic: ", "fatal error: ")))
        raise DriverFailed(f"the command crashed in {call}: {first}", said, alone=True)
    return Done(process.returncode, stdout, stderr)


def _outputs(process: subprocess.Popen[bytes], call: str, deadline: float) -> tuple[bytes, bytes]:
    """Standard output and error up to the end of the process, and not of what it leaves that has them open.

    Raises TimeoutError at the deadline.
    """
    assert process.stdout is not None, "it was opened with a pipe"
    assert process.stderr is not None, "it was opened with a pipe"
    found: dict[IO[bytes], bytearray] = {process.stdout: bytearray(), process.stderr: bytearray()}
    with selectors.DefaultSelector() as selector:
        for stream in found:
            os.set_blocking(stream.fileno(), False)
            selector.register(stream, selectors.EVENT_READ, found[stream])
        while True:
            ended = process.poll() is not None
            ready = selector.select(0 if ended else _POLL)
            for key, _ in ready:
                data = os.read(key.fd, _BLOCK)
                key.data.extend(data)
                if not data:
                    selector.unregister(key.fileobj)
            if sum(map(len, found.values())) > _MOST:
                raise DriverFailed(f"the command printed more than {_MOST} bytes in {call}")
            if ended and not ready:
                return bytes(found[process.stdout]), bytes(found[process.stderr])
            if not ended and not selector.get_map():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_POLL)
            if time.monotonic() > deadline:
                raise TimeoutError


def _kill(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
