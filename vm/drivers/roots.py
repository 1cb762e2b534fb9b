"""Roots: a package of a suite with the libraries that it depends on, unpacked without a change of the host.

A root of PyPI is an environment of Python with the distribution and what it requires.


A binary of another suite needs the C library of that suite. patchelf(1) writes into each binary where the loader
and the libraries of its own root are. LD_LIBRARY_PATH would reach every command that the driver starts. Where the
loader is started with the binary as its argument, /proc/self/exe is the loader, and drivers in Go start that again.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from vm.debian import NoPackage, Package, Suite
from vm.drivers.builds import PYPI, Root

_DONE: Final = ".unpacked"  # its text is the digest of the package
_ELF: Final = b"\x7fELF"
_COMMANDS: Final = ("usr/bin", "usr/sbin", "bin", "sbin")


def lacking(found: Iterable[Root], directory: Path) -> str:
    """What to do for the first of these roots that is not here, "" if all are."""
    missing = next((one.name for one in found if not is_here(one, directory)), "")
    return f"{missing} is not here; run 'overlay-conformance drivers fetch'" if missing else ""


def is_here(root: Root, directory: Path) -> bool:
    """Whether a root is unpacked in this directory of roots, of the package that the file of builds names."""
    note = directory / root.name / _DONE
    return note.exists() and note.read_text().strip() == root.sha256


def paths_of(root: Root, directory: Path) -> list[str]:
    """The directories of commands of a root."""
    return [str(place) for name in _COMMANDS if (place := directory / root.name / name).is_dir()]


def fetch(root: Root, directory: Path, cache: Path, say: Callable[[str], None]) -> None:
    """Unpack a root, unless it is there; raises NoPackage, OSError."""
    if is_here(root, directory):
        return
    if root.suite == PYPI:
        _install(root, directory / root.name, cache)
        return
    if not shutil.which("patchelf"):
        raise NoPackage(f"{root.name} needs the command patchelf; install it: apt-get install patchelf")
    suites = _suites(root, cache, say)
    found = suites[0].package(root.package)
    if found.version != root.version:
        raise NoPackage(
            f"{root.name}: {suites[0].base} has {root.package} {found.version} in {root.suite}, and the file of"
            f" builds {root.version}; use a mirror of that day (snapshot.debian.org), or write the new version and"
            " digest into the file of builds and judge its builds again"
        )
    debs = cache / "packages"
    debs.mkdir(parents=True, exist_ok=True)
    made = directory / f".{root.name}.part"
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    also = [suites[0].package(name) for name in root.also]
    for suite, package in _closure([found, *also], suites):
        say(f"{root.name}: {package.name} {package.version}")
        file = suite.download(package, debs)
        if package == found:
            _check(root, file)
        _run("dpkg-deb", "-x", str(file), str(made))
    _relocate(made, directory / root.name)
    (made / _DONE).write_text(f"{root.sha256}\n")
    shutil.rmtree(directory / root.name, ignore_errors=True)
    made.rename(directory / root.name)


def _install(root: Root, target: Path, cache: Path) -> None:
    """Install a distribution of PyPI where its root will be, as its commands name their Python."""
    wanted = f"{root.package}=={root.version}"
    made = cache / "packages" / f".{root.name}.part"
    for old in (made, target):
        shutil.rmtree(old, ignore_errors=True)
    made.mkdir(parents=True)
    try:
        python = str(target / "bin/python3")
        _run(sys.executable, "-m", "venv", str(target))
        _run(python, "-m", "pip", "download", "-q", "--no-deps", "-d", str(made), wanted)
        (file,) = made.iterdir()
        _check(root, file)
        _run(python, "-m", "pip", "install", "-q", str(file))
    finally:
        shutil.rmtree(made, ignore_errors=True)
    (target / _DONE).write_text(f"{root.sha256}\n")


def _suites(root: Root, cache: Path, say: Callable[[str], None]) -> list[Suite]:
    """The suite of a root; for one of backports, then the suite that it adds to."""
    found = []
    for name in dict.fromkeys([root.suite, root.suite.removesuffix("-backports")]):
        suite = Suite(cache / "suites" / name, name)
        suite.update(say)
        found.append(suite)
    return found


def _closure(first: list[Package], suites: list[Suite]) -> Iterator[tuple[Suite, Package]]:
    """Packages and the libraries that they depend on, each with its suite; other packages are left out."""
    wanted, seen = [one.name for one in first], set[str]()
    while wanted:
        name = wanted.pop()
        if name in seen:
            continue
        seen.add(name)
        suite, package = _package(name, suites)
        yield suite, package
        alternatives = (one.partition("|")[0].strip() for one in package.depends.split(","))
        names = (match[0] for one in alternatives if (match := re.match(r"[\w.+-]+", one)))
        wanted += [one for one in names if one.startswith("lib")]


def _package(name: str, suites: list[Suite]) -> tuple[Suite, Package]:
    for suite in suites[:-1]:
        try:
            return suite, suite.package(name)
        except NoPackage:
            continue
    return suites[-1], suites[-1].package(name)


def _check(root: Root, file: Path) -> None:
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    if digest != root.sha256:
        file.unlink()
        raise NoPackage(
            f"{root.name}: {file.name} has the digest {digest}, and the file of builds {root.sha256}: this is not"
            " what was judged; take another mirror"
        )


def _relocate(made: Path, target: Path) -> None:
    """Make the commands of a root use its loader and its libraries, where it will be."""
    libraries = sorted({path.parent for path in made.rglob("*.so.*") if path.parent.name.endswith("-linux-gnu")})
    path = ":".join(str(target / one.relative_to(made)) for one in libraries)
    for command in sorted(one for name in _COMMANDS for one in (made / name).glob("*")):
        if command.is_symlink() or not command.is_file() or not _is_elf(command):
            continue
        asked = subprocess.run(
            ["patchelf", "--print-interpreter", str(command)], capture_output=True, text=True, check=False
        )
        if asked.returncode:  # it is linked statically
            continue
        name = Path(asked.stdout.strip()).name
        loader = next((one / name for one in libraries if (one / name).exists()), None)
        if loader is None:
            raise NoPackage(f"{target.name}: {command.name} needs the loader {name}, which no package of it has")
        words = ("--set-interpreter", str(target / loader.relative_to(made)), "--force-rpath", "--set-rpath", path)
        _run("patchelf", *words, str(command))


def _is_elf(file: Path) -> bool:
    with file.open("rb") as content:
        return content.read(len(_ELF)) == _ELF


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(words)}: {done.stderr.strip()[-500:]}")
