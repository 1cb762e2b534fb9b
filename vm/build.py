"""What machines start from: the box and the kernels, in the cache, with a note of where they are."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from conformance.spec.values import BadValue
from vm import boxes, compiling, hosts, kernels, notes, uml
from vm.common import cache_directory as cache_directory
from vm.debian import Suite
from vm.matrix import Matrix, Root
from vm.notes import Made, MadeUml
from vm.plan import Machine

_NOTE: Final = "built.json"
_M = TypeVar("_M", bound=Made)
_FILES: Final = ("initrd", "image")
_AT_A_TIME: Final = 3  # kernels; fetching one and packing another


def build(matrix: Matrix, wanted: Sequence[Machine], cache: Path, say: Callable[[str], None]) -> Made:
    """Make what is not in the cache; raises NotReady, NoPackage, OSError."""
    hosts.check(matrix.defaults.provider)
    cache.mkdir(parents=True, exist_ok=True)
    if matrix.defaults.provider == "uml":
        return _build_uml(matrix, wanted, cache, say)
    roots, theirs = _roots(matrix, wanted), {one.kernel.name: one.kernel for one in wanted}
    with ThreadPoolExecutor(_AT_A_TIME) as pool, _cancelled_on_error(pool):
        names = [matrix.root.suite, *roots, *(one.suite for one in theirs.values())]
        suites = _suites(names, cache, pool, say)
        tools = suites[matrix.root.suite]
        files = {
            name: pool.submit(kernels.build, one, suites[one.suite], tools, cache, say)
            for name, one in theirs.items()
        }
        made_boxes = {name: boxes.build(one, suites[name], cache, say) for name, one in roots.items()}
        built = {name: job.result() for name, job in files.items()}
    first = next(iter(built.values()))
    hosts.start_libvirt()
    for box in made_boxes.values():
        boxes.add(box, say)
    machines = {
        one.name: {
            "box": made_boxes[one.root or matrix.root.suite].name,
            "vmlinuz": str(built[one.kernel.name].vmlinuz),
            "initrd": str(built[one.kernel.name].initrd),
            "release": built[one.kernel.name].release,
            "version": built[one.kernel.name].version,
        }
        for one in wanted
    }
    accelerator = hosts.accelerator(matrix.defaults.accelerator, first.vmlinuz, first.initrd, cache)
    # Boxes of a system have its name and a digest; a machine that was made before has the new one of its system.
    newest = {box.name.rpartition("-")[0]: box.name for box in made_boxes.values()}
    before = {
        name: {**known_files, "box": newest.get(known_files["box"].rpartition("-")[0], known_files["box"])}
        for name, known_files in known(cache / _NOTE, Made).items()
    }
    made = Made({**before, **machines}, accelerator)
    notes.write(cache / _NOTE, made)
    return made


def _build_uml(matrix: Matrix, wanted: Sequence[Machine], cache: Path, say: Callable[[str], None]) -> Made:
    key = cache / "key"
    if not key.exists():
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "overlay-conformance", "-f", str(key)]
        subprocess.run(words, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    roots = _roots(matrix, wanted)
    theirs = {one.kernel.name: (one.kernel, one.kernel.uml) for one in wanted if one.kernel.uml}
    first = matrix.root.suite
    with ThreadPoolExecutor(_AT_A_TIME) as pool, _cancelled_on_error(pool):
        suites = _suites([first, *roots, *(of.suite for _, of in theirs.values())], cache, pool, say)
        files = {
            name: pool.submit(kernels.build_uml, kernel, suites[of.suite], cache, say)
            for name, (kernel, of) in theirs.items()
            if of.package
        }
        public = key.with_suffix(".pub")
        images = {name: boxes.image(one, public, suites[name], cache, say) for name, one in roots.items()}
        built = {name: job.result() for name, job in files.items()}
    # One after another, as each takes all processors, and in this thread, which a signal interrupts.
    for name, (kernel, of) in theirs.items():
        if of.source:
            built[name] = compiling.build(kernel, of, suites[of.suite], suites[first], cache, say)
    machines = {
        one.name: {
            "image": str(images[one.root or matrix.root.suite]),
            "root": str(built[one.kernel.name].initrd.parent),
            "initrd": str(built[one.kernel.name].initrd),
            "release": built[one.kernel.name].release,
        }
        for one in wanted
    }
    made = MadeUml({**known(cache / uml.NOTE, MadeUml), **machines}, "none", str(key), matrix.defaults.memory)
    notes.write(cache / uml.NOTE, made)
    return made


def _roots(matrix: Matrix, wanted: Sequence[Machine]) -> dict[str, Root]:
    """The systems of machines, by their suites."""
    names = {one.root or matrix.root.suite for one in wanted}
    return {one.suite: one for one in (matrix.root, *matrix.roots) if one.suite in names}


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
    """The machines that were made before, by their note, as far as their files are still there."""
    try:
        found = notes.read(note, kind).machines
    except (OSError, ValueError, BadValue):  # the note of another version is as good as none
        return {}
    return {
        name: files
        for name, files in found.items()
        if all(Path(files[one]).is_file() for one in _FILES if one in files) and "initrd" in files
    }


@contextmanager
def _cancelled_on_error(pool: ThreadPoolExecutor) -> Iterator[None]:
    try:
        yield
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
