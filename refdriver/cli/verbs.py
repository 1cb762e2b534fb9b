"""The verbs: each opens the driver, does one thing and shows the answer."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import click

from refdriver.changes import Change, ChangeKind
from refdriver.cli.text import id_map, one_line, printable
from refdriver.cli.transfer import input_file, output, send, watched
from refdriver.driver import Driver
from refdriver.errors import BadOption, LayerNotFound
from refdriver.idmap import IdMap

JSON_VERSION = 1
_LETTERS = {ChangeKind.ADD: "A", ChangeKind.MODIFY: "M", ChangeKind.DELETE: "D"}


@dataclass(frozen=True, slots=True)
class _Session:
    """What the options before the verb say."""

    home: str
    options: tuple[str, ...]
    uid_maps: tuple[str, ...]
    gid_maps: tuple[str, ...]
    as_json: bool

    @property
    def arguments(self) -> tuple[str, Sequence[str], Sequence[IdMap], Sequence[IdMap]]:
        """Those of the driver's constructor."""
        # Not by click, which would ask for the home even to show the help of a verb.
        if not self.home:
            raise click.UsageError("no home: give --home DIRECTORY before the verb, or set REFDRIVER_HOME")
        maps = [id_map(text) for text in self.uid_maps], [id_map(text) for text in self.gid_maps]
        return self.home, self.options, *maps

    @contextmanager
    def driver(self) -> Iterator[Driver]:
        """The driver, opened."""
        with Driver(*self.arguments) as driver:
            yield driver

    def show(self, text: str | bytes, **fields: object) -> None:
        """Text for people, or the fields for machines."""
        if self.as_json:
            import json

            click.echo(json.dumps({"version": JSON_VERSION, **fields}))
        elif text:
            click.echo(text)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--home",
    default="",
    envvar="REFDRIVER_HOME",
    metavar="DIRECTORY",
    help="The driver's home, created if it does not exist; or set REFDRIVER_HOME.",
)
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="A driver option, overlay.KEY=VALUE.")
@click.option("--uidmap", "uid_maps", multiple=True, metavar="C:H:N", help="Map N container uids from C to H.")
@click.option("--gidmap", "gid_maps", multiple=True, metavar="C:H:N", help="Map N container gids from C to H.")
@click.option("--json", "as_json", is_flag=True, help="Print versioned JSON.")
@click.version_option(package_name="overlay-conformance", prog_name="refdriver")
@click.pass_context
def verbs(
    context: click.Context,
    home: str,
    options: tuple[str, ...],
    uid_maps: tuple[str, ...],
    gid_maps: tuple[str, ...],
    as_json: bool,
) -> None:
    """Manage container layers with the reference overlay driver."""
    context.obj = _Session(home, options, uid_maps, gid_maps, as_json)


def _creating(verb: str, help_text: str, create: Callable[[Driver], Callable[..., None]]) -> None:
    @verbs.command(verb, help=help_text)
    @click.argument("layer")
    @click.option("--parent", default="", help="The parent layer.")
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


_creating("create", "Create an empty image layer.", lambda driver: driver.create)
_creating(
    "create-read-write",
    "Create an empty read-write layer for a container.",
    lambda driver: driver.create_read_write,
)


@verbs.command()
@click.argument("layer")
@click.pass_obj
def remove(session: _Session, layer: str) -> None:
    """Remove a layer; a missing layer is not an error."""
    with session.driver() as driver:
        driver.remove(layer)
        session.show("", layer=layer)


@verbs.command()
@click.argument("layer")
@click.option("--label", default="", help="An SELinux mount label.")
@click.pass_obj
def get(session: _Session, layer: str, label: str) -> None:
    """Mount a layer and print the path of its tree."""
    with session.driver() as driver:
        path = driver.get(layer, label)
    # The bytes themselves, for cd and for $(...).
    session.show(os.fsencode(path), layer=layer, path=_path(path))


@verbs.command()
@click.argument("layer")
@click.pass_obj
def put(session: _Session, layer: str) -> None:
    """Release one get; the last put unmounts the layer."""
    with session.driver() as driver:
        driver.put(layer)
        session.show("", layer=layer)


@verbs.command()
@click.argument("layer")
@click.pass_obj
def exists(session: _Session, layer: str) -> None:
    """Print whether a layer exists; exit status 14 if not."""
    with session.driver() as driver:
        found = driver.exists(layer)
    session.show("yes" if found else "no", layer=layer, exists=found)
    sys.exit(0 if found else LayerNotFound.exit_code)


@verbs.command()
@click.pass_obj
def status(session: _Session) -> None:
    """Print the status of the driver."""
    with session.driver() as driver:
        pairs = driver.status()
    session.show("\n".join(f"{name}: {value}" for name, value in pairs), status=pairs)


@verbs.command()
@click.argument("layer")
@click.pass_obj
def metadata(session: _Session, layer: str) -> None:
    """Print the directories of a layer."""
    with session.driver() as driver:
        paths = {name: _path(value) for name, value in driver.metadata(layer).items()}
    session.show("\n".join(f"{name}: {value}" for name, value in paths.items()), layer=layer, metadata=paths)


@verbs.command()
@click.pass_obj
def stores(session: _Session) -> None:
    """Print the additional image stores."""
    with session.driver() as driver:
        paths = [_path(store) for store in driver.additional_image_stores()]
    session.show("\n".join(paths), stores=paths)


@verbs.command()
@click.pass_obj
def cleanup(session: _Session) -> None:
    """Unmount the home's own private mount, when no layer is mounted."""
    with session.driver() as driver:
        driver.cleanup()
        session.show("")


@verbs.command()
@click.argument("layer")
@click.option("--parent", default="", help="Compare with this layer (default: list everything).")
@click.pass_obj
def changes(session: _Session, layer: str, parent: str) -> None:
    """List what a layer adds (A), modifies (M) and deletes (D)."""
    with session.driver() as driver:
        found = driver.changes(layer, parent)
    lines = "\n".join(f"{_LETTERS[change.kind]} {printable(change.path)}" for change in found)
    session.show(lines, layer=layer, parent=parent, changes=[_change_fields(change) for change in found])


def _change_fields(change: Change) -> dict[str, str]:
    return {"kind": change.kind.name.lower(), "path": printable(change.path)}


@verbs.command("diff-size")
@click.argument("layer")
@click.option("--parent", default="", help="Compare with this layer (default: count everything).")
@click.pass_obj
def diff_size(session: _Session, layer: str, parent: str) -> None:
    """Print the size in bytes of what a layer changes."""
    with session.driver() as driver:
        size = driver.diff_size(layer, parent)
    session.show(str(size), layer=layer, parent=parent, size=size)


@verbs.command()
@click.argument("layer")
@click.option("--parent", default="", help="Write the difference from this layer (default: the whole tree).")
@click.option(
    "-o", "--output", "target", default="-", metavar="FILE", help="Output file; - is standard output, the default."
)
@click.pass_obj
def diff(session: _Session, layer: str, parent: str, target: str) -> None:
    """Write a layer as a tar archive; the file appears only when it is complete."""
    if session.as_json and target == "-":
        raise click.UsageError("with --json standard output is for the answer; give -o FILE for the archive")
    with session.driver() as driver:
        with output(target) as fd, driver.diff(layer, parent) as archive:
            count = send(archive, fd, f"diff {one_line(layer)}")
        session.show("", layer=layer, parent=parent, output=_path(target), bytes=count)


@verbs.command("apply-diff")
@click.argument("layer")
@click.option("--parent", default="", help="The layer's parent, if it has one.")
@click.option(
    "-i", "--input", "source", default="-", metavar="FILE", help="The archive; - is standard input, the default."
)
@click.pass_obj
def apply_diff(session: _Session, layer: str, parent: str, source: str) -> None:
    """Apply a tar archive to a layer, completely or not at all; print its size in bytes."""
    with (
        input_file(source) as file,
        session.driver() as driver,
        watched(file, f"apply-diff {one_line(layer)}") as archive,
    ):
        size = driver.apply_diff(layer, parent, archive)
    session.show(str(size), layer=layer, parent=parent, size=size)


@verbs.command()
@click.option(
    "--graphdriver",
    "socket",
    required=True,
    metavar="SOCKET",
    help="The socket of the Docker graph-driver protocol.",
)
@click.option(
    "--driver",
    "other",
    metavar="MODULE:CLASS",
    default="refdriver:Driver",
    show_default=True,
    help="The Python class to serve.",
)
@click.pass_obj
def serve(session: _Session, socket: str, other: str) -> None:
    """Serve the driver until SIGTERM or Ctrl-C.

    The first call of a client (Init) names the home. A server that replaces another one under a running engine
    needs --home, because the engine does not send Init again.
    """
    from refdriver.plugin import PluginServer  # the other verbs need no server

    chosen = session.arguments if session.home or session.options or session.uid_maps or session.gid_maps else None
    server = PluginServer(socket, _class_named(other))
    if chosen:
        try:
            server.open_home(*chosen)
        except BaseException:
            server.stop()
            server.run()  # removes the socket
            raise
    # Python runs a handler between two steps of its own. One that is due just before the wait for callers ends it.
    signal.set_wakeup_fd(server.waker, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    click.echo(f"refdriver: serving the Docker graph-driver protocol on {socket}", err=True)
    server.run()


def _class_named(name: str) -> Callable[..., Driver]:
    module, _, class_name = name.partition(":")
    try:
        found: Callable[..., Driver] = getattr(importlib.import_module(module), class_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise click.BadParameter(
            f"{name!r} names no class: {error}; write MODULE:CLASS", param_hint="--driver"
        ) from None
    return found


def _path(path: str) -> str:
    return printable(os.fsencode(path))
