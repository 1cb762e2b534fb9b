"""The commands of a cell in its machine: what goes before its run, the run, and what brings its results home.

In a user namespace nothing can be mounted from a device, so root makes and mounts the backing filesystem before.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Final

from vm.matrix import Backing
from vm.plan import Cell

_PARAMETERS: Final = "/sys/module/overlay/parameters"
_OUT: Final = "/var/tmp/overlay-conformance-cell"
_OWN: Final = "/var/tmp/overlay-conformance-backing"  # an image, and where it is mounted
_OWN_SIZE: Final = "3G"


def preparing(cell: Cell) -> str:
    """Makes room and sets the parameters of overlay; prints what these were before, one in each line."""
    words = [f"rm -rf {_OUT}", f"mkdir -p {_OUT}"]
    for name, value in cell.overlay.parameters.items():
        file = f"{_PARAMETERS}/{name}"
        words += [f"cat {file}", f"echo {value} >{file}"]
    if cell.privilege != "root":
        words += _own_filesystem(cell.backing)
    return " && ".join(words)


def judging(cell: Cell, options: Sequence[str], first: str = "") -> str:
    """The run; its events go to the standard output, what is for people to the error output.

    ``first`` are commands that go before it, each with its end.
    """
    words = ["overlay-conformance", "run", cell.driver.connection, "--backing", cell.backing.name, *options]
    words += ["--results", f"{_OUT}/results.jsonl", "--evidence", f"{_OUT}/evidence", "--scratch"]
    if cell.privilege == "root":
        words += ["/var/tmp"]
    else:
        words = ["unshare", "--user", "--map-root-user", "--mount", *words, f"{_OWN}/mounted"]
    for one in cell.requirements:
        words += ["--requirement", one]
    # Over ssh the output carries the events, and what is for people goes the other way.
    return f"cd {_OUT} && {first}echo $$ >pid && exec {shlex.join(words)} --events 3 3>&1 1>&2"


def interrupting() -> str:
    """Ends the run as a signal from a terminal does, so that it writes what it has judged."""
    return f"kill -TERM $(cat {_OUT}/pid)"


def fetching(cell: Cell, before: Mapping[str, str]) -> str:
    """Sets parameters of overlay back and prints an archive of results.jsonl, evidence, dmesg and tainted."""
    words = [f"echo {value} >{_PARAMETERS}/{name}" for name, value in before.items()]
    if cell.privilege != "root":
        words += [f"umount {_OWN}/mounted", f"rm -rf {_OWN}"]
    words += [f"cd {_OUT}", "mkdir -p evidence", "dmesg -k -c >dmesg", "cat /proc/sys/kernel/tainted >tainted"]
    return " && ".join([*words, "tar -c results.jsonl evidence dmesg tainted"])


def _own_filesystem(backing: Backing) -> list[str]:
    image, directory = f"{_OWN}/image", f"{_OWN}/mounted"
    words = [f"{{ umount -q {directory}; rm -rf {_OWN}; mkdir -p {directory}; }}"]
    if not backing.mkfs:
        return [*words, f"mount -t {backing.type} none {directory}"]
    made = f"{shlex.join(backing.mkfs)} {image} >/dev/null 2>&1"
    options = ",".join(["loop", backing.mount] if backing.mount else ["loop"])
    mounted = f"mount -t {backing.type} -o {options} {image} {directory}"
    return [*words, f"truncate -s {_OWN_SIZE} {image}", made, mounted]
