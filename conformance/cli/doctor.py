"""``doctor``: what this host can test, what is missing, and the command that installs it."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
from rich.text import Text

from conformance.cli import options
from conformance.cli.base import interruption_of_verb, main
from conformance.cli.completion import connections
from conformance.cli.consoles import console as new_console
from conformance.cli.progress import Progress
from conformance.cli.trying import try_driver
from conformance.drivers.unpacker.tool import presets
from conformance.harness.events import Examined
from conformance.harness.following import follow
from conformance.history.printable import printable
from conformance.lab.scratch import scratch_directory
from conformance.spec import load_capabilities
from conformance.spec.values import as_plain

FORMAT: Final = 1
_NAMESPACE: Final = ("unshare", "--user", "--map-root-user", "--mount")
_COMMANDS: Final = (
    ("containers-storage", "drivers of containers/storage", "apt-get install containers-storage"),
    ("containerd", "snapshotters of containerd", "apt-get install containerd"),
    ("ctr", "reproducers for containerd", "apt-get install containerd"),
    ("fuse-overlayfs", "fuse-overlayfs behind containers-storage", "apt-get install fuse-overlayfs"),
    ("curl", "reproducers for graph-driver plugins", "apt-get install curl"),
    ("unshare", "reproducers", "apt-get install util-linux"),
    ("setfattr", "reproducers with extended attributes", "apt-get install attr"),
)
_MODULES: Final = (
    ("xdist", "concurrent tests of 'pytest -n'", "pip install 'overlay-conformance[parallel]'"),
    ("grpc", "snapshotters of containerd", "pip install 'overlay-conformance[containerd]'"),
)
_HEADINGS: Final = {"lanes": "privilege levels"}  # of groups, where a person reads another word
_COLOURS: Final = {"yes": "green", "no": "yellow"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that this host can do or not; ``remedy`` is what to do, "" if there is nothing to do here."""

    group: str
    what: str
    works: bool
    reason: str = ""
    remedy: str = ""


@main.command()
@click.argument("driver", required=False, shell_complete=connections)
@options.as_json()
@options.SCRATCH
def doctor(driver: str | None, as_json: bool, scratch: Path | None) -> None:
    """Show what this host can test, and what to install for more. Exit status 0 if the profile smoke works.

    With DRIVER, say whether that driver can be judged here, as 'run DRIVER --preflight-only' does.
    """
    if driver:
        if as_json:
            raise click.UsageError("--json is of the host only: leave out DRIVER")
        sys.exit(try_driver(driver, scratch))
    with Progress(new_console(stderr=True), "examining this host") as progress:
        lanes = {"this user": _lane((), scratch, progress)}
        if os.geteuid() == 0 and shutil.which(_NAMESPACE[0]):
            lanes["user namespace"] = _lane(_NAMESPACE, scratch, progress)
    found = [
        *_of_lanes(lanes),
        *_of_the_kernel(lanes["this user"]),
        *_of_filesystems(lanes["this user"]),
        *_of_programs(),
        *_of_tools(),
    ]
    smoke = any("mounts" not in lane.lacking for lane in lanes.values())
    if as_json:
        said = {"format": FORMAT, "smoke": smoke, "findings": as_plain(found)}
        click.echo(json.dumps(said, indent=1))
    else:
        _print(found, smoke)
    sys.exit(0 if smoke else 1)


def _lane(prefix: Sequence[str], scratch: Path | None, progress: Progress) -> Examined:
    from conformance.harness.diagnosis import Diagnosis  # it brings pytest

    if prefix:
        nothing = [*prefix, sys.executable, "-c", ""]
        done = subprocess.run(nothing, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode:
            return Examined("none", {"mounts": done.stderr.strip() or f"{prefix[0]} failed"}, {}, {})
    with scratch_directory(scratch) as directory:
        # A prefix that forks would be another process's parent; unshare without --fork becomes the command.
        told = follow(
            "conformance.harness.diagnosis",
            Diagnosis(str(directory), os.getpid()),
            progress,
            prefix,
            interruption=interruption_of_verb(),
        )
    if told.failure or not told.examined:
        failure = (told.failure or "no output").strip().splitlines()[-1]
        return Examined("none", {"mounts": failure}, {}, {})
    return told.examined


def _of_lanes(lanes: Mapping[str, Examined]) -> Iterator[Finding]:
    for who, lane in lanes.items():
        lacking = lane.lacking
        yield Finding("lanes", f"profile smoke, {who}", "mounts" not in lacking, lacking.get("mounts", ""))
        if who == "this user":
            root = lane.lane == "root"
            reason = "" if root else "device nodes, foreign owners, file capabilities and quota are not tested"
            remedy = "" if os.geteuid() == 0 else "run it with sudo"
            yield Finding("lanes", "everything that needs real root", root, reason, remedy)


def _of_the_kernel(lane: Examined) -> Iterator[Finding]:
    for one in load_capabilities().values():
        if one.of == "host" and one.name not in ("mounts", "root", "loop"):
            reason = lane.lacking.get(one.name, "")
            yield Finding("kernel", one.name, not reason, reason or one.meaning)


def _of_filesystems(lane: Examined) -> Iterator[Finding]:
    for name, unfit in lane.made.items():
        yield Finding(
            "filesystems",
            f"--backing {name}",
            True,
            f"only requirements about this filesystem: {unfit}" if unfit else "",
        )
    for name, reason in lane.missing.items():
        before, _, remedy = reason.partition("; ")
        if reason == lane.lacking.get("mounts"):
            yield Finding("filesystems", f"--backing {name}", False, "nothing can be mounted, see privilege levels")
        elif "apt-get" in remedy or "sudo" in remedy:
            yield Finding("filesystems", f"--backing {name}", False, before, remedy.removeprefix("on Debian: "))
        else:
            yield Finding("filesystems", f"--backing {name}", False, reason)


def _of_programs() -> Iterator[Finding]:
    for name, use, remedy in _COMMANDS:
        there = shutil.which(name) is not None
        yield Finding("programs", name, there, use, "" if there else remedy)
    for name, use, remedy in _MODULES:
        there = importlib.util.find_spec(name) is not None
        yield Finding("programs", f"Python's {name}", there, use, "" if there else remedy)


def _of_tools() -> Iterator[Finding]:
    for kind in ("unpacker", "lister", "differ"):
        for name, tool in presets(f"conformance.drivers.{kind}").items():
            there = all(map(shutil.which, tool.needs))
            remedy = "" if there else tool.install
            yield Finding(f"{kind}s", f"{kind}:{name}", there, ", ".join(tool.needs), remedy)


def _print(found: Sequence[Finding], smoke: bool) -> None:
    console = new_console(highlight=False, soft_wrap=True)
    for group, findings in itertools.groupby(found, lambda one: one.group):
        console.print(f"[bold]{_HEADINGS.get(group, group)}[/bold]")
        for one in findings:
            works = "yes" if one.works else "no"
            line = Text(f"  {works:4}", style=_COLOURS[works]).append(f"{one.what:32}", style="default")
            line.append(f" {printable(' '.join(one.reason.split()))}", style="default")
            if one.remedy:
                line.append(f"  -> {printable(one.remedy)}", style="bold")
            line.rstrip()
            console.print(line)
    if smoke:
        click.echo("\nThis host can test drivers: overlay-conformance run python:refdriver:Driver --profile smoke")
    else:
        click.echo("\nThis host cannot test drivers: no overlay can be mounted. The first line says why.")
