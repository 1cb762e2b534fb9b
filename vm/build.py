"""What machines start from: the box and the kernels, in the cache, with a note of where they are."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vm import boxes, hosts, kernels, uml
from vm.debian import Suite
from vm.matrix import Kernel, Matrix

_NOTE: Final = "built.json"
_AT_A_TIME: Final = 3  # kernels; fetching one and packing another


@dataclass(frozen=True, slots=True)
class Made:
    """What the Vagrantfile reads: the box, each kernel's files and release, and the accelerator."""

    box: str
    kernels: dict[str, dict[str, str]]
    accelerator: str

    def as_json(self) -> dict[str, Any]:
        """As an object of JSON."""
        return {"box": self.box, "kernels": self.kernels, "accelerator": self.accelerator}


def cache_directory() -> Path:
    """Where everything is kept: ``OVERLAY_CONFORMANCE_CACHE``, or the user's cache directory."""
    own = os.environ.get("OVERLAY_CONFORMANCE_CACHE")
    if own:
        return Path(own).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "overlay-conformance"


def build(matrix: Matrix, wanted: Sequence[Kernel], cache: Path, say: Callable[[str], None]) -> Made:
    """Make what is not in the cache; raises NotReady, NoPackage, OSError."""
    hosts.check(matrix.defaults.provider)
    cache.mkdir(parents=True, exist_ok=True)
    if matrix.defaults.provider == "uml":
        return _build_uml(matrix, wanted, cache, say)
    with ThreadPoolExecutor(_AT_A_TIME) as pool, _cancelled_on_error(pool):
        suites = _suites([matrix.root.suite, *(one.suite for one in wanted)], cache, pool, say)
        tools = suites[matrix.root.suite]
        files = {one.name: pool.submit(kernels.build, one, suites[one.suite], tools, cache, say) for one in wanted}
        box = boxes.build(matrix.root, tools, cache, say)
        built = {name: job.result() for name, job in files.items()}
    first = next(iter(built.values()))
    hosts.start_libvirt()
    boxes.add(box, say)
    made = Made(
        box.name,
        {
            **known(cache / _NOTE),
            **{
                name: {
                    "vmlinuz": str(one.vmlinuz),
                    "initrd": str(one.initrd),
                    "release": one.release,
                    "version": one.version,
                }
                for name, one in built.items()
            },
        },
        hosts.accelerator(matrix.defaults.accelerator, first.vmlinuz, first.initrd, cache),
    )
    _note(cache / _NOTE, made.as_json())
    return made


def _build_uml(matrix: Matrix, wanted: Sequence[Kernel], cache: Path, say: Callable[[str], None]) -> Made:
    key = cache / "key"
    if not key.exists():
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "overlay-conformance", "-f", str(key)]
        subprocess.run(words, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    with ThreadPoolExecutor(_AT_A_TIME) as pool, _cancelled_on_error(pool):
        theirs = {one.name: one.uml.suite for one in wanted if one.uml}
        suites = _suites([matrix.root.suite, *theirs.values()], cache, pool, say)
        files = {
            one.name: pool.submit(kernels.build_uml, one, suites[theirs[one.name]], cache, say)
            for one in wanted
            if one.uml
        }
        image = boxes.image(matrix.root, key.with_suffix(".pub"), suites[matrix.root.suite], cache, say)
        built = {name: job.result() for name, job in files.items()}
    made = Made(
        image.name,
        known(cache / uml.NOTE)
        | {
            name: {"root": str(one.initrd.parent), "initrd": str(one.initrd), "release": one.release}
            for name, one in built.items()
        },
        "none",
    )
    own = {"image": str(image), "key": str(key), "memory": matrix.defaults.memory}
    _note(cache / uml.NOTE, {**made.as_json(), **own})
    return made


def _suites(
    names: Sequence[str], cache: Path, pool: ThreadPoolExecutor, say: Callable[[str], None]
) -> dict[str, Suite]:
    """Suites by their names, with lists of now."""
    say("reading the lists of packages")
    suites = {name: Suite(cache / "apt" / name, name) for name in names}
    for job in [pool.submit(one.update, say) for one in suites.values()]:
        job.result()
    return suites


def _note(file: Path, what: dict[str, Any]) -> None:
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(what, indent=1) + "\n")
    partial.rename(file)


def known(note: Path) -> dict[str, dict[str, str]]:
    """The kernels that were made before, by their note, as far as their files are still there."""
    try:
        found = json.loads(note.read_text())["kernels"]
    except (OSError, ValueError, KeyError):
        return {}
    return {name: files for name, files in found.items() if Path(files["initrd"]).exists()}


@contextmanager
def _cancelled_on_error(pool: ThreadPoolExecutor) -> Iterator[None]:
    try:
        yield
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
