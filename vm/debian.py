"""Packages of Debian's suites, by the mirror that this system's apt is configured for; nothing of it is changed."""

from __future__ import annotations

import fnmatch
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from conformance.spec.errors import HarnessError

# Releases that are on apt's own configuration for sure, before any that a suite is named for.
_KEYRING: Final = "/usr/share/keyrings/debian-archive-keyring.gpg"


class NoPackage(HarnessError):
    """A package cannot be had; the text says which, from where and why."""


@dataclass(frozen=True, slots=True)
class Package:
    """One version of a package: what apt's lists say of it. ``path`` is relative to the mirror."""

    name: str
    version: str
    path: str
    depends: str


class Suite:
    """The lists of packages of one suite, in a directory of our own: what is chosen of it depends on no other."""

    def __init__(self, directory: Path, name: str) -> None:
        """Prepare the directory; :meth:`update` fills it."""
        self.directory = directory
        self.name = name
        self.mirror, self.security = _mirrors()
        for below in ("lists/partial", "cache/archives/partial", "parts"):
            (directory / below).mkdir(parents=True, exist_ok=True)
        (directory / "sources.list").write_text(f"deb [{_signed()}] {self.base} {name} main\n")
        (directory / "status").touch()  # without what this host has installed, which is of no suite
        (directory / "apt.conf").write_text(
            f'Dir::State::status "{directory}/status";\n'
            f'Dir::Etc::sourcelist "{directory}/sources.list";\nDir::Etc::sourceparts "{directory}/parts";\n'
            f'Dir::State::lists "{directory}/lists";\nDir::Cache "{directory}/cache";\n'
            'Acquire::Languages "none";\nAPT::Sandbox::User "root";\n'
        )

    @property
    def base(self) -> str:
        """The mirror of the suite."""
        return self.security if self.name.endswith("-security") else self.mirror

    def update(self, say: Callable[[str], None]) -> None:
        """Fetch the lists anew; those of before will do where that fails. Raises NoPackage if there are none."""
        try:
            self._apt("apt-get", "update", "-qq")
        except NoPackage as failed:
            if not any((self.directory / "lists").glob("*Packages*")):
                raise
            say(f"going on with the lists of before: {failed}")

    def newest(self, pattern: str) -> Package:
        """The package of the highest version whose name matches; raises NoPackage."""
        names = [name for name in self._names() if fnmatch.fnmatchcase(name, pattern)]
        if not names:
            raise NoPackage(f"no package {pattern} in {self.name} of {self.base}")
        return self.package(max(names, key=_numbers))

    def package(self, name: str) -> Package:
        """The newest version of a package; raises NoPackage."""
        records = self._apt("apt-cache", "show", name, check=False).strip().split("\n\n")
        fields = dict(re.findall(r"^([\w-]+): (.*)$", records[0], re.MULTILINE))
        if "Filename" not in fields:
            raise NoPackage(f"no package {name} in {self.name} of {self.base}")
        depends = ", ".join(fields.get(key, "") for key in ("Pre-Depends", "Depends"))
        return Package(name, fields["Version"], fields["Filename"], depends)

    def download(self, package: Package, to: Path) -> Path:
        """Fetch a package into a directory, unless it is there; its file."""
        file = to / Path(package.path).name
        if not file.exists():
            # Of its own, as several kernels are made at a time and want the same package.
            with tempfile.TemporaryDirectory(dir=to, prefix=f"{file.stem}.") as partial:
                self._apt("apt-get", "download", "-qq", f"{package.name}={package.version}", cwd=Path(partial))
                next(Path(partial).glob("*.deb")).rename(file)
        return file

    def _names(self) -> Iterator[str]:
        return iter(self._apt("apt-cache", "pkgnames", "linux-image-").split())

    def _apt(self, *words: str, check: bool = True, cwd: Path | None = None) -> str:
        env = {**os.environ, "APT_CONFIG": str(self.directory / "apt.conf"), "LC_ALL": "C"}
        done = subprocess.run(words, env=env, cwd=cwd, capture_output=True, text=True, check=False)
        if check and done.returncode:
            raise NoPackage(f"{' '.join(words)}: {done.stderr.strip()[-500:]}")
        return done.stdout


def validity() -> tuple[str, ...]:
    """What this host's apt was told of lists past their date, as a setting for another apt; none by default.

    A mirror that keeps a state of a suite has lists that expire (apt.conf(5), Acquire::Check-Valid-Until).
    """
    done = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=False)
    name = "Acquire::Check-Valid-Until "
    return tuple(line.rstrip(";") for line in done.stdout.splitlines() if line.startswith(name))


def _numbers(name: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", name)))


def _signed() -> str:
    return f"signed-by={_KEYRING}" if Path(_KEYRING).exists() else "trusted=no"


def _mirrors() -> tuple[str, str]:
    """The mirror of Debian and that of its security updates, as apt is configured; Debian's own if it is not."""
    done = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(SITE) $(RELEASE)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=False,
    )
    found = {"debian": "http://deb.debian.org/debian", "security": "http://deb.debian.org/debian-security"}
    for line in done.stdout.splitlines():
        site, _, release = line.partition(" ")
        if "debian" in site.rpartition("/")[2]:
            found["security" if "security" in release else "debian"] = site
    return found["debian"], found["security"]
