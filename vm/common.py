"""What the verbs of ``matrix`` share: options that choose cells, one run at a time, and refusals in words."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vm.matrix import Matrix
    from vm.plan import Cell, Choice

OUTPUT: Final = "overlay-conformance-matrix"
_ADVICE: Final = "pip install 'overlay-conformance[vm]'"
_LOCKS: Final = "/run/lock"
_LOCK: Final = "overlay-conformance-matrix.lock"
_INTERRUPTED: Final = 130
_OVERHEAD: Final = 300  # MiB that a machine takes above its own memory
_F = TypeVar("_F", bound=Callable[..., Any])


def cache_directory() -> Path:
    """Where everything is kept: ``OVERLAY_CONFORMANCE_CACHE``, or the user's cache directory."""
    own = os.environ.get("OVERLAY_CONFORMANCE_CACHE")
    if own:
        return Path(own).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "overlay-conformance"


def choosing(command: _F) -> _F:
    """The options that choose cells."""
    for name, what in (
        ("privilege", "privilege levels: root, user-namespace"),
        ("driver", "drivers"),
        ("overlay", "parameters of overlay"),
        ("backing", "backing filesystems"),
        ("kernel", "kernels, by name or release, such as '6.*'"),
    ):
        command = click.option(f"--{name}", f"{name}s", multiple=True, help=f"Only these {what} (repeatable).")(
            command
        )
    command = click.option(
        "--provider",
        type=click.Choice(["libvirt", "uml"]),
        help="Provider of the machines (default: from the matrix).",
    )(command)
    return click.option(
        "--file",
        "matrix_file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Matrix file (default: the project's).",
    )(command)


@contextmanager
def daemon(provider: str) -> Iterator[None]:
    """Afterwards our network is gone, and libvirt's daemon if it was started by us."""
    from vm import hosts

    try:
        yield
    finally:
        if provider != "uml":
            hosts.remove_network()
            hosts.stop_libvirt()


def chosen_cells(
    matrix_file: Path | None, provider: str | None, choice: dict[str, tuple[str, ...]], shard: str = ""
) -> tuple[Matrix, list[Cell]]:
    """The matrix and its cells, by the options of a command line; raises BadMatrix, NothingChosen."""
    from conformance.spec import load_requirements
    from vm.matrix import FILE, load
    from vm.plan import cells_of

    found = load(matrix_file or FILE).under(provider or "")
    return found, cells_of(found, choice_of(choice, shard), load_requirements())


def choice_of(words: dict[str, tuple[str, ...]], shard: str = "") -> Choice:
    """The same words as a choice."""
    from vm.plan import Choice

    return Choice(
        words["kernels"], words["backings"], words["overlays"], words["drivers"], words["privileges"], shard
    )


def alone(cache: Path) -> None:
    """See to it that no other run is under way on this host, until this process ends; raises UsageError.

    Names of machines are the same whatever the cache, so two runs would take one another's.
    """
    cache.mkdir(parents=True, exist_ok=True)
    shared = Path(_LOCKS if os.access(_LOCKS, os.W_OK) else tempfile.gettempdir())
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    # Not made where it is: in a directory of everybody's, another user's file must not be opened so (proc(5)).
    there = (shared / _LOCK).exists()
    lock = os.open(shared / _LOCK, flags if there else flags | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise click.UsageError(
            f"another 'matrix' is under way on this host ({shared / _LOCK}); wait for it, or end it"
        ) from error


def room(memory: int) -> int:
    """How many machines this host has room for: one for each core, as far as memory goes."""
    available = next(
        int(line.split()[1]) // 1024
        for line in Path("/proc/meminfo").read_text().splitlines()
        if line.startswith("MemAvailable:")
    )
    return max(1, min(os.cpu_count() or 1, available // (memory + _OVERHEAD)))


def say(what: str) -> None:
    """Tell what is being done, on the error output."""
    click.echo(f"matrix: {what}", err=True)


@contextmanager
def refusals() -> Iterator[None]:
    """What is wrong with the matrix, the choice or the host, as a message and exit code 2."""
    try:
        from conformance.report.killfile import BadKills
        from conformance.report.records import BadResults
        from vm.debian import NoPackage
        from vm.hosts import NotReady
        from vm.machines import MachineFailed
        from vm.matrix import BadMatrix
        from vm.plan import NothingChosen
    except ImportError as error:
        raise click.UsageError(f"matrix needs more Python packages ({error}): {_ADVICE}") from error
    for one in (signal.SIGINT, signal.SIGTERM):  # as CI systems end a job
        if signal.getsignal(one) is not signal.SIG_IGN:
            signal.signal(one, signal.default_int_handler)
    try:
        yield
    except BrokenPipeError:  # the reader of the output has enough; the command itself says so
        raise
    except (BadKills, BadResults, BadMatrix, NothingChosen, NotReady, NoPackage, MachineFailed, OSError) as error:
        raise click.UsageError(str(error)) from error
    except KeyboardInterrupt:
        say("ended; the same command goes on where this one stopped")
        sys.exit(_INTERRUPTED)
