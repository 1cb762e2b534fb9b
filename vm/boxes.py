"""The box: one Debian system for all kernels, with the harness and the drivers under test in it.

Made of packages only, by mmdebstrap and mke2fs, without a loop device, a partition or a boot loader. Each part is
in the cache under a name that is a digest of what it is made of, so it is made once: the system of its packages
and settings, the image of the system and the harness.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement

from vm.debian import Suite, validity
from vm.hosts import NotReady
from vm.matrix import Root

_DISTRIBUTION: Final = "overlay-conformance"
_EXTRAS: Final = ("containerd",)
_RECIPE: Final = b"5"  # what is made of the same packages and settings changes with this
_PARTS: Final = ("conformance", "refdriver")
_GROUPS: Final = ("overlay_conformance.mutants", "overlay_conformance.variants")  # of entry points
_HARNESS: Final = "opt/overlay-conformance"
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_DISK: Final = 16 << 30  # bytes that a machine sees; the file is sparse
_SETTINGS: Final = Path(__file__).with_name("guest")
# Without these files a system of packages alone is the same, and the smaller for it.
_NEEDLESS: Final = ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/cache/apt", "var/lib/apt/lists")
# Vagrant's own key pair: anybody has it, as any box is made with it. Machines are reached from their host only.
_KEYS: Final = "keys/vagrant.pub"


@dataclass(frozen=True, slots=True)
class Box:
    """A box by its name in Vagrant, which says what is in it, and its file."""

    name: str
    file: Path


def build(root: Root, suite: Suite, cache: Path, say: Callable[[str], None]) -> Box:
    """The box, from the cache or made; needs root. Raises NotReady, OSError."""
    system = _system(root, suite, cache, say)
    key = _digest([system.name.encode(), *_harness()])
    box = Box(f"{_DISTRIBUTION}-{root.name}-{key}", cache / "boxes" / f"{root.name}-{key}.box")
    if not box.file.exists():
        _pack(system, cache, box.file, say)
    return box


def image(root: Root, public_key: Path, suite: Suite, cache: Path, say: Callable[[str], None]) -> Path:
    """The same as a file of a filesystem, for who has a key; needs root. Raises NotReady, OSError."""
    system = _system(root, suite, cache, say)
    may_enter = public_key.read_bytes()
    key = _digest([system.name.encode(), may_enter, *_harness()])
    made = cache / "images" / f"{root.name}-{key}.raw"
    if not made.exists():
        made.parent.mkdir(parents=True, exist_ok=True)
        work = made.with_suffix(f".{os.getpid()}")
        try:
            work.mkdir()
            _image(system, may_enter, cache, work, say).rename(made)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        for other in made.parent.glob(f"{root.name}-*.raw"):
            if other != made:
                other.unlink()
    return made


def add(box: Box, say: Callable[[str], None]) -> None:
    """Tell Vagrant of a box, unless it knows it; boxes of its system with other contents go, and their files."""
    known = [line.split()[0] for line in _said("vagrant", "box", "list").splitlines() if line.split()]
    if box.name in known:
        return
    say("telling Vagrant of the box")
    _run("vagrant", "box", "add", "--no-tty", "--name", box.name, "--provider", "libvirt", str(box.file))
    for name in known:
        # One that a machine by hand is made of stays: Vagrant refuses, as nobody is asked.
        if name.startswith(box.name.rpartition("-")[0] + "-"):
            subprocess.run(
                ["vagrant", "box", "remove", name], capture_output=True, stdin=subprocess.DEVNULL, check=False
            )
    for file in box.file.parent.glob(f"{box.file.name.rpartition('-')[0]}-*.box"):
        if file != box.file:
            file.unlink()


def _system(root: Root, suite: Suite, cache: Path, say: Callable[[str], None]) -> Path:
    """A directory with the system: the packages of the matrix and the settings of a machine."""
    if os.geteuid() != 0:
        raise NotReady("making a system of packages takes root; use sudo")
    guest = [path.read_bytes() for path in sorted(_SETTINGS.iterdir())]
    key = _digest([_RECIPE, root.suite.encode(), *(one.encode() for one in root.packages), *guest])
    made = cache / "systems" / key
    if made.is_dir():
        return made
    made.parent.mkdir(parents=True, exist_ok=True)
    work = made.with_name(f"{key}.{os.getpid()}")
    try:
        say(f"making a system of {root.suite} with {len(root.packages)} packages")
        packages = f"--include={','.join(root.packages)}"
        source = suite.directory / "sources.list"
        settings = [f"--aptopt={one}" for one in validity()]
        words = ["--quiet", "--variant=minbase", packages, *settings]
        _run("mmdebstrap", *words, root.suite, str(work), str(source))
        _settle(work)
        work.rename(made)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return made


def _settle(system: Path) -> None:
    own = system / "etc" / _DISTRIBUTION
    own.mkdir()
    for name, target in {
        "boot": own / "boot",
        "dhcp": own / "dhcp",
        "inittab": system / "etc/inittab",
        "sshd_config": system / "etc/ssh/sshd_config",
        _DISTRIBUTION: system / "usr/local/bin" / _DISTRIBUTION,
    }.items():
        shutil.copyfile(_SETTINGS / name, target)
        target.chmod(0o755 if target.parent == own or target.parent.name == "bin" else 0o644)
    for name in ("init", "poweroff", "halt", "reboot"):
        link = system / "sbin" / name
        link.unlink(missing_ok=True)
        link.symlink_to("/bin/busybox")
    _run("chroot", str(system), "useradd", "--create-home", "--shell", "/bin/bash", "vagrant")
    # No password, and yet not locked: sshd lets nobody into an account that is.
    _run("chroot", str(system), "usermod", "--password", "*", "vagrant")
    (system / "etc/hosts").write_text(f"127.0.0.1 localhost {_DISTRIBUTION}\n")  # sudo looks up where it is
    # Newer systems' sudo does not look for commands in /usr/local.
    (system / "etc/sudoers.d/vagrant").write_text(
        f'Defaults secure_path="{_PATH}"\nvagrant ALL=(ALL) NOPASSWD: ALL\n'
    )
    for key in system.glob("etc/ssh/ssh_host_*"):
        if "ed25519" not in key.name:
            key.unlink()
    for name in _NEEDLESS:
        shutil.rmtree(system / name, ignore_errors=True)


def _allow(system: Path, public_key: bytes) -> None:
    for home, owner in (("root", 0), ("home/vagrant", 1000)):
        keys = system / home / ".ssh"
        keys.mkdir(mode=0o700, exist_ok=True)  # newer systems have that of root
        (keys / "authorized_keys").write_bytes(public_key)
        for path in (keys, keys / "authorized_keys"):
            os.chown(path, owner, owner)


def _vagrants_key() -> bytes:
    places = ("/usr/share/rubygems-integration", "/opt/vagrant/embedded/gems", "/usr/share/vagrant")
    for place in places:
        for path in sorted(Path(place).glob(f"**/{_KEYS}")):
            return path.read_bytes()
    raise NotReady(f"Vagrant's public key ({_KEYS}) is in none of {', '.join(places)}; install vagrant")


def _pack(system: Path, cache: Path, file: Path, say: Callable[[str], None]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    work = file.with_suffix(f".{os.getpid()}")
    try:
        work.mkdir()
        raw = _image(system, _vagrants_key(), cache, work, say)
        _run("qemu-img", "convert", "-O", "qcow2", str(raw), str(work / "box.img"))
        raw.unlink()
        about = {"provider": "libvirt", "format": "qcow2", "virtual_size": _DISK >> 30}
        (work / "metadata.json").write_text(json.dumps(about))
        (work / "Vagrantfile").write_text('Vagrant.configure("2") { |config| }\n')
        with tarfile.open(work / "box", "w") as box:
            for name in ("metadata.json", "Vagrantfile", "box.img"):
                box.add(work / name, name)
        (work / "box").rename(file)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _image(system: Path, public_key: bytes, cache: Path, work: Path, say: Callable[[str], None]) -> Path:
    """A filesystem of the system, the harness and the key, in a file below ``work``."""
    say("laying the harness on the system")
    _run("cp", "-a", "--reflink=auto", str(system), str(work / "system"))
    _lay_harness(work / "system", cache)
    _allow(work / "system", public_key)
    say("making the image")
    raw = work / "box.raw"
    _run("mke2fs", "-q", "-t", "ext4", "-d", str(work / "system"), str(raw), str(_DISK >> 10))
    return raw


def _lay_harness(system: Path, cache: Path) -> None:
    """Our packages and what they need, for the Python of the system."""
    target = system / _HARNESS
    version = os.readlink(system / "usr/bin/python3").removeprefix("python")
    wheels = ["--python-version", version, "--only-binary=:all:", "--target", str(target)]
    cached = ["--cache-dir", str(cache / "pip")]
    _run(sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", *cached, *wheels, *_dependencies())
    for name in _PARTS:
        source = Path(str(importlib.util.find_spec(name).submodule_search_locations[0]))  # type: ignore[union-attr,index]
        shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    about = target / f"overlay_conformance-{_version()}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {_DISTRIBUTION}\nVersion: {_version()}\n")
    (about / "entry_points.txt").write_text(_entry_points())
    _run("chroot", str(system), "python3", "-m", "compileall", "-q", f"/{_HARNESS}")


def _dependencies() -> list[str]:
    found = (Requirement(one) for one in importlib.metadata.requires(_DISTRIBUTION) or ())
    contexts = [{"extra": extra} for extra in ("", *_EXTRAS)]
    return [
        f"{one.name}{one.specifier}"
        for one in found
        if one.marker is None or any(one.marker.evaluate(context) for context in contexts)
    ]


def _version() -> str:
    return importlib.metadata.version(_DISTRIBUTION)


def _entry_points() -> str:
    """Those of mutants and variants, in the form of entry_points.txt; the others are of parts that are left out."""
    found = importlib.metadata.distribution(_DISTRIBUTION).entry_points
    groups = sorted({one.group for one in found if one.group in _GROUPS})
    return "".join(
        f"[{group}]\n" + "".join(f"{one.name} = {one.value}\n" for one in found if one.group == group) + "\n"
        for group in groups
    )


def _harness() -> Iterator[bytes]:
    """All that is laid on the system, for the key of what is made of it."""
    yield _entry_points().encode()
    yield from (path.read_bytes() for path in _harness_files())


def _harness_files() -> Iterator[Path]:
    for name in _PARTS:
        source = Path(str(importlib.util.find_spec(name).submodule_search_locations[0]))  # type: ignore[union-attr,index]
        yield from sorted(path for path in source.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def _digest(pieces: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(len(piece).to_bytes(8, "big") + piece)
    return digest.hexdigest()[:12]


def _said(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise OSError(f"{' '.join(words[:6])}: {(done.stderr + done.stdout).strip()[-1500:]}")
