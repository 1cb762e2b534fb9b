"""The ``refdriver`` command: one verb for each operation of the driver.

Exit codes: 0 done, 1 the system refused (OSError), 2 the command line is wrong, 10 and up the class of the
driver's refusal (see :mod:`refdriver.errors`), 130 interrupted.
"""

from __future__ import annotations

import io
import json
import logging
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, NoReturn

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn, TransferSpeedColumn

from refdriver.changes import Change, ChangeKind
from refdriver.driver import Driver
from refdriver.errors import BadOption, DriverError, LayerNotFound
from refdriver.idmap import IdMap

JSON_VERSION = 1
_BLOCK = 1 << 20
_LETTERS = {ChangeKind.ADD: "A", ChangeKind.MODIFY: "M", ChangeKind.DELETE: "D"}


@dataclass(frozen=True, slots=True)
class _Session:
    """What the options before the verb say."""

    home: str
    options: tuple[str, ...]
    uid_maps: tuple[str, ...]
    gid_maps: tuple[str, ...]
    as_json: bool

    @contextmanager
    def driver(self) -> Iterator[Driver]:
        """The driver, opened; its refusals, and those of the system, end the command."""
        try:
            maps = [IdMap.parse(text) for text in self.uid_maps], [IdMap.parse(text) for text in self.gid_maps]
            with Driver(self.home, self.options, *maps) as driver:
                yield driver
        except DriverError as error:
            _fail(str(error), error.exit_code)
        except BrokenPipeError:
            # Whoever read our output has gone; there is nobody to tell.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        except OSError as error:
            _fail(str(error), 1)

    def show(self, text: str, **fields: object) -> None:
        """Text for people, or the fields for machines."""
        if self.as_json:
            click.echo(json.dumps({"version": JSON_VERSION, **fields}))
        elif text:
            click.echo(text)


class _OneLine(logging.Handler):
    """Warnings of the driver on standard error, a line each."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        click.echo(f"refdriver: warning: {record.getMessage()}", err=True)


def _fail(message: str, code: int) -> NoReturn:
    click.echo(f"refdriver: {message}", err=True)
    sys.exit(code)


def printable(path: bytes) -> str:
    r"""A path as text: UTF-8 as it is, other bytes and control characters as ``\xNN``, a backslash doubled."""
    text = path.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")
    return "".join(
        c if c.isprintable() else f"\\x{ord(c):02x}" if ord(c) < 256 else f"\\u{ord(c):04x}" for c in text
    )


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--home", required=True, envvar="REFDRIVER_HOME", help="The driver's home directory.")
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="A driver option, overlay.KEY=VALUE.")
@click.option("--uidmap", "uid_maps", multiple=True, metavar="C:H:N", help="Map N container uids from C to H.")
@click.option("--gidmap", "gid_maps", multiple=True, metavar="C:H:N", help="Map N container gids from C to H.")
@click.option("--json", "as_json", is_flag=True, help="Print versioned JSON.")
@click.version_option(package_name="overlay-conformance", prog_name="refdriver")
@click.pass_context
def main(
    context: click.Context,
    home: str,
    options: tuple[str, ...],
    uid_maps: tuple[str, ...],
    gid_maps: tuple[str, ...],
    as_json: bool,
) -> None:
    """Keep container layers with the reference overlay driver."""
    logger = logging.getLogger("refdriver")
    logger.propagate = False
    logger.handlers = [_OneLine()]
    context.obj = _Session(home, options, uid_maps, gid_maps, as_json)


def _creating(verb: str, help_text: str, create: Callable[[Driver], Callable[..., None]]) -> None:
    @main.command(verb, help=help_text)
    @click.argument("layer")
    @click.option("--parent", default="", help="The layer that it is built on.")
    @click.option("--storage-opt", multiple=True, metavar="KEY=VALUE", help="An option of this layer (size=10G).")
    @click.pass_obj
    def command(session: _Session, layer: str, parent: str, storage_opt: tuple[str, ...]) -> None:
        with session.driver() as driver:
            create(driver)(layer, parent, dict(_pair(word) for word in storage_opt))
            session.show("", layer=layer, parent=parent)


def _pair(word: str) -> tuple[str, str]:
    key, equals, value = word.partition("=")
    if not equals:
        raise BadOption(f"storage option {word!r} has no '='; write KEY=VALUE")
    return key, value


_creating("create", "Make an empty layer for an image.", lambda driver: driver.create)
_creating("create-read-write", "Make an empty layer for a container.", lambda driver: driver.create_read_write)


@main.command()
@click.argument("layer")
@click.pass_obj
def remove(session: _Session, layer: str) -> None:
    """Remove a layer; one that is not there is no error."""
    with session.driver() as driver:
        driver.remove(layer)
        session.show("", layer=layer)


@main.command()
@click.argument("layer")
@click.option("--label", default="", help="An SELinux mount label.")
@click.pass_obj
def get(session: _Session, layer: str, label: str) -> None:
    """Mount a layer and print the path of its tree."""
    with session.driver() as driver:
        path = driver.get(layer, label)
        session.show(path, layer=layer, path=path)


@main.command()
@click.argument("layer")
@click.pass_obj
def put(session: _Session, layer: str) -> None:
    """Undo one get; the last one unmounts."""
    with session.driver() as driver:
        driver.put(layer)
        session.show("", layer=layer)


@main.command()
@click.argument("layer")
@click.pass_obj
def exists(session: _Session, layer: str) -> None:
    """Say whether there is such a layer; exit code 14 if not."""
    with session.driver() as driver:
        found = driver.exists(layer)
    session.show("yes" if found else "no", layer=layer, exists=found)
    sys.exit(0 if found else LayerNotFound.exit_code)


@main.command()
@click.pass_obj
def status(session: _Session) -> None:
    """Print what there is to know about the driver here."""
    with session.driver() as driver:
        pairs = driver.status()
    session.show("\n".join(f"{name}: {value}" for name, value in pairs), status=pairs)


@main.command()
@click.argument("layer")
@click.pass_obj
def metadata(session: _Session, layer: str) -> None:
    """Print the directories of a layer."""
    with session.driver() as driver:
        paths = driver.metadata(layer)
    session.show("\n".join(f"{name}: {value}" for name, value in paths.items()), layer=layer, metadata=paths)


@main.command()
@click.pass_obj
def stores(session: _Session) -> None:
    """Print the additional image stores."""
    with session.driver() as driver:
        paths = driver.additional_image_stores()
    session.show("\n".join(paths), stores=paths)


@main.command()
@click.pass_obj
def cleanup(session: _Session) -> None:
    """Unmount the home's own private mount, when no layer is mounted."""
    with session.driver() as driver:
        driver.cleanup()
        session.show("")


@main.command()
@click.argument("layer")
@click.option("--parent", default="", help="Compare with this layer; without one, list everything.")
@click.pass_obj
def changes(session: _Session, layer: str, parent: str) -> None:
    """List what a layer adds (A), modifies (M) and deletes (D)."""
    with session.driver() as driver:
        found = driver.changes(layer, parent)
    lines = "\n".join(f"{_LETTERS[change.kind]} {printable(change.path)}" for change in found)
    session.show(lines, layer=layer, parent=parent, changes=[_change_fields(change) for change in found])


def _change_fields(change: Change) -> dict[str, str]:
    return {"kind": change.kind.name.lower(), "path": printable(change.path)}


@main.command("diff-size")
@click.argument("layer")
@click.option("--parent", default="", help="Compare with this layer; without one, count everything.")
@click.pass_obj
def diff_size(session: _Session, layer: str, parent: str) -> None:
    """Print the size in bytes of what a layer changes."""
    with session.driver() as driver:
        size = driver.diff_size(layer, parent)
    session.show(str(size), layer=layer, parent=parent, size=size)


@main.command()
@click.argument("layer")
@click.option("--parent", default="", help="Only what the layer changes in this one; without, the whole tree.")
@click.option("-o", "--output", default="-", help="The file to write; - for standard output, the default.")
@click.pass_obj
def diff(session: _Session, layer: str, parent: str, output: str) -> None:
    """Write a layer as a tar archive."""
    if output == "-" and sys.stdout.isatty():
        raise click.UsageError("the archive is binary and standard output is a terminal; give -o FILE or a pipe")
    with session.driver() as driver, _output(output) as file, driver.diff(layer, parent) as archive:
        if not sys.stderr.isatty():
            archive.copy_to(file.fileno())
            return
        with _progress(f"diff {layer}", None) as advance:
            while block := archive.read(_BLOCK):
                file.write(block)
                advance(len(block))


@main.command("apply-diff")
@click.argument("layer")
@click.option("--parent", default="", help="The layer's parent, if it has one.")
@click.option("-i", "--input", "source", default="-", help="The archive; - for standard input, the default.")
@click.pass_obj
def apply_diff(session: _Session, layer: str, parent: str, source: str) -> None:
    """Unpack a tar archive into a layer, wholly or not at all."""
    with session.driver() as driver, _input(source) as file:
        mode = os.fstat(file.fileno())
        total = mode.st_size if stat.S_ISREG(mode.st_mode) else None
        if sys.stderr.isatty():
            with _progress(f"apply {layer}", total) as advance:
                size = driver.apply_diff(layer, parent, _Counted(file, advance))
        else:
            size = driver.apply_diff(layer, parent, file)
        session.show(str(size), layer=layer, parent=parent, size=size)


class _Counted:
    """A file whose reader tells how far it is."""

    def __init__(self, file: IO[bytes] | io.FileIO, advance: Callable[[int], None]) -> None:
        self._file = file
        self._advance = advance

    def read(self, size: int, /) -> bytes:
        """Up to ``size`` bytes."""
        block = self._file.read(size) or b""
        self._advance(len(block))
        return block


@contextmanager
def _input(source: str) -> Iterator[io.FileIO]:
    # Unbuffered, so that the driver may let the kernel move the data.
    with io.FileIO(sys.stdin.fileno() if source == "-" else source, "rb", closefd=source != "-") as file:
        yield file


@contextmanager
def _output(target: str) -> Iterator[IO[bytes]]:
    """Standard output, or a file that appears only when it is whole."""
    if target == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if os.path.exists(target) and not os.path.isfile(target):  # a fifo, or /dev/null
        with open(target, "wb") as file:
            yield file
        return
    directory, name = os.path.split(os.path.abspath(target))
    fd, temporary = tempfile.mkstemp(prefix=f".{name[:200]}.", dir=directory)
    try:
        with os.fdopen(fd, "wb") as file:
            yield file
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.rename(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise


@contextmanager
def _progress(description: str, total: int | None) -> Iterator[Callable[[int], None]]:
    columns: tuple[Any, ...] = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(description, total=total)
        yield lambda count: progress.advance(task, count)
