"""What machines start from: the box and the kernels, in the cache, with a note of where they are."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from conformance.spec.values import BadValue
from vm import boxes, hosts, kernels, notes, uml
from vm.debian import Suite
from vm.matrix import Kernel, Matrix
from vm.notes import Made, MadeUml

_NOTE: Final = "built.json"
_M = TypeVar("_M", bound=Made)
_AT_A_TIME: Final = 3  # kernels; fetching one and packing another


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
            **known(cache / _NOTE, Made),
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
    notes.write(cache / _NOTE, made)
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
    made = MadeUml(
        image.name,
        {
            **known(cache / uml.NOTE, MadeUml),
            **{
                name: {"root": str(one.initrd.parent), "initrd": str(one.initrd), "release": one.release}
                for name, one in built.items()
            },
        },
        "none",
        str(image),
        str(key),
        matrix.defaults.memory,
    )
    notes.write(cache / uml.NOTE, made)
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


def known(note: Path, kind: type[_M]) -> Mapping[str, Mapping[str, str]]:
    """The kernels that were made before, by their note, as far as their files are still there."""
    try:
        found = notes.read(note, kind).kernels
    except (OSError, ValueError, BadValue):  # the note of another version is as good as none
        return {}
    return {name: files for name, files in found.items() if Path(files.get("initrd", "")).is_file()}


@contextmanager
def _cancelled_on_error(pool: ThreadPoolExecutor) -> Iterator[None]:
    try:
        yield
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
