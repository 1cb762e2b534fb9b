"""Kernels of user-mode Linux that Debian has no package of, compiled from its packages ``linux-source-X.Y``.

The source is that of Debian's kernel, with its patches; ``uml.config`` is the configuration. The tree stays in the
cache until the kernel is complete, so a build that was ended continues.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from vm import hosts, kernels
from vm.debian import NoPackage, Suite
from vm.kernels import BUSYBOX, INIT, RECIPE, UML, Built
from vm.machines import MARKED
from vm.matrix import Kernel, Uml

TREES: Final = "sources"  # below the cache
_CONFIG: Final = Path(__file__).with_name("uml.config")
_LIMIT: Final = 2 * 3600  # seconds; a build takes 20 minutes of one processor
_SAID_EVERY: Final = 30  # seconds
_FILES: Final = 1150  # that are compiled, about; 1,139 in 6.18
_NICE: Final = 5
# Files that no kernel of user-mode Linux is made of, nearly half of the source; their Kconfig is read.
_LEFT_OUT: Final = (
    *(
        "drivers/gpu/drm/*.[ch]",
        "drivers/media/*.[ch]",
        "drivers/net/ethernet/*.[ch]",
        "drivers/net/wireless/*.[ch]",
    ),
    *("sound/*.[ch]", "Documentation/*/*", "tools/testing/*"),
)


class NotCompiled(NoPackage):
    """A kernel could not be compiled; the text says why and where its log is."""


def build(
    kernel: Kernel, source: Uml, suite: Suite, tools: Suite, cache: Path, say: Callable[[str], None]
) -> Built:
    """Compile a kernel, and make its initrd and a root with this host's C library, unless that is in the cache.

    ``tools`` is the suite of what else is in an initrd. Raises NotReady, NoPackage, NotCompiled, OSError.
    """
    version = source.version or suite.package(source.source).version
    busybox = tools.package(BUSYBOX)
    recipe = kernels.digest_of(RECIPE, INIT, _CONFIG.read_text(), *_LEFT_OUT, busybox.path, source.sha256)
    name = f"{source.source}_{kernels.plain(version)}_{recipe}"
    made = cache / "kernels" / name
    if not made.is_dir():
        hosts.check_compiler(kernel.name)
        with _alone(kernel, kernels.directory(cache / TREES) / f"{name}.lock", say) as lock:
            tree = _unpacked(kernel, source, suite, version, cache, cache / TREES / name, say)
            _configure(kernel, tree)
            compile_in(kernel, tree, lock, say)
            work = made.with_name(f"{name}.{os.getpid()}")
            try:
                _root(tree, tools.download(busybox, kernels.directory(cache / "packages")), work)
                work.rename(made)
            finally:
                shutil.rmtree(work, ignore_errors=True)
            shutil.rmtree(tree)
    release = (made / "release").read_text()
    if not release.startswith(f"{kernel.release}."):
        raise NoPackage(f"{kernel.name}: {source.source} is {release}, not {kernel.release}; see matrix.yaml")
    return Built(release, version, made / "root" / UML, made / "root" / "initrd")


def _alone(kernel: Kernel, lock: Path, say: Callable[[str], None]) -> _Lock:
    """A lock that what compiles holds too: a make whose parent was killed is waited for."""
    file = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say(f"{kernel.name}: waiting for the make of a run that was killed")
        fcntl.flock(file, fcntl.LOCK_EX)
    return _Lock(file)


class _Lock:
    def __init__(self, file: int) -> None:
        self._file = file

    def __enter__(self) -> int:
        return self._file

    def __exit__(self, *_: object) -> None:
        os.close(self._file)


def _unpacked(
    kernel: Kernel, source: Uml, suite: Suite, version: str, cache: Path, tree: Path, say: Callable[[str], None]
) -> Path:
    """The tree of a source, as before if there is one."""
    if tree.is_dir():
        say(f"{kernel.name}: going on with the source in {tree}")
        return tree
    say(f"{kernel.name}: fetching {source.source} {version}")
    packages = kernels.directory(cache / "packages")
    if source.sha256:
        file = f"{source.source}_{version.partition(':')[2] or version}_all.deb"
        package = kernels.from_the_pool(kernel, file, source.sha256, suite, packages)
    else:
        package = suite.download(suite.package(source.source), packages)
    beside = tree.with_name(f"{tree.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    say(f"{kernel.name}: unpacking it")
    kernels.run("dpkg-deb", "-x", str(package), str(kernels.directory(beside)))
    (archive,) = (beside / "usr/src").glob("linux-source-*.tar.xz")
    without = [f"--exclude=*/{pattern}" for pattern in _LEFT_OUT]
    unpacked = kernels.directory(beside / "tree")
    kernels.run("tar", "-xJf", str(archive), "-C", str(unpacked), "--strip-components=1", *without)
    unpacked.rename(tree)
    shutil.rmtree(beside)
    package.unlink()  # 160 MB that the kernel in the cache stands for
    return tree


def _configure(kernel: Kernel, tree: Path) -> None:
    """Make .config; raises NotCompiled for an option that this kernel does not take."""
    wanted = tree / "wanted.config"
    if (tree / ".config").exists() and wanted.exists():
        return  # make would compile much of it once more
    wanted.write_text(_CONFIG.read_text())
    kernels.run("make", "-s", "-C", str(tree), "ARCH=um", f"KCONFIG_ALLCONFIG={wanted}", "allnoconfig")
    lacking = lacks(_CONFIG.read_text(), (tree / ".config").read_text())
    if lacking:
        (tree / ".config").unlink()
        raise NotCompiled(f"{kernel.name} does not take {', '.join(lacking)} of {_CONFIG}")


def lacks(wanted: str, config: str) -> list[str]:
    """The options that a configuration has not, of those that are wanted."""
    there = set(config.splitlines())
    return [line for line in wanted.splitlines() if line.startswith("CONFIG_") and line not in there]


def compile_in(kernel: Kernel, tree: Path, lock: int, say: Callable[[str], None], limit: float = _LIMIT) -> None:
    """Run make, and say how far it is; ends all of it at the limit, and when this process is interrupted."""
    log = tree.with_name(f"{tree.name}.log")
    jobs = len(os.sched_getaffinity(0))
    words = ["nice", "-n", str(_NICE), "make", "-C", str(tree), "ARCH=um", f"-j{jobs}", "linux"]
    began = time.monotonic()
    say(f"{kernel.name}: compiling, {jobs} jobs; the log is {log}")
    with log.open("wb") as out:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=MARKED,
            start_new_session=True,
            pass_fds=(lock,),
        )
        try:
            while process.poll() is None:
                took = time.monotonic() - began
                if took > limit:
                    raise NotCompiled(f"{kernel.name} was not compiled within {limit:.0f} s; see {log}")
                try:
                    process.wait(min(_SAID_EVERY, max(0.1, limit - took)))
                except subprocess.TimeoutExpired:
                    took = time.monotonic() - began
                    say(f"{kernel.name}: {compiled(tree)} of about {_FILES} files, {took:.0f} s")
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait()
    if process.returncode:
        wrong = [line for line in log.read_text(errors="replace").splitlines() if re.search(r"\b[Ee]rror\b", line)]
        raise NotCompiled(f"{kernel.name} could not be compiled: {' / '.join(wrong[:2])[:400]}; see {log}")
    say(f"{kernel.name}: compiled in {time.monotonic() - began:.0f} s")


def compiled(tree: Path) -> int:
    """How many files of a tree are compiled."""
    return sum(name.endswith(".o") for _, _, names in os.walk(tree) for name in names)


def _root(tree: Path, busybox: Path, work: Path) -> None:
    """A directory that the kernel runs in as a process: itself, its initrd and its shared libraries."""
    shutil.rmtree(work, ignore_errors=True)
    root = work / "root"
    for name in ("dev", "proc", "tmp", "machine", "usr/bin"):
        kernels.directory(root / name)
    kernels.run("strip", "-o", str(root / UML), str(tree / "linux"))
    for library in _libraries(root / UML):
        shutil.copy2(library, kernels.directory(root / library.parent.relative_to("/")) / library.name)
    release = (tree / "include/config/kernel.release").read_text().strip()
    (work / "release").write_text(release)
    kernels.run("dpkg-deb", "-x", str(busybox), str(kernels.directory(work / "busybox")))
    kernels.initrd(work, release, "/dev/ubda", modules=False)
    (work / "initrd").rename(root / "initrd")
    for name in ("busybox", "initrd.d"):
        shutil.rmtree(work / name)


def _libraries(program: Path) -> list[Path]:
    """The files of ldd(1), by the names that the program looks for."""
    done = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=True)
    return [Path(found) for found in re.findall(r"(/\S+) \(0x", done.stdout)]
