"""Kernels that start a machine without a boot loader: vmlinuz, and an initrd with the modules that we need.

The system of all machines has no kernel and no modules. The initrd loads what reaches the disk, mounts it, lays its
modules on the system's /lib/modules and hands over. So a kernel is added without making the system anew.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vm import registers
from vm.debian import NoPackage, Package, Suite
from vm.matrix import Kernel

# What a machine, a backing filesystem or a test may need; a kernel that has none of a name has it built in, or not
# at all, which the suite says.
_MODULES: Final = (
    *("virtio_pci", "virtio_mmio", "virtio_blk", "virtio_net", "virtio_rng", "virtio_console", "af_packet"),
    *("overlay", "ext4", "xfs", "btrfs", "f2fs", "squashfs", "erofs", "fuse", "loop", "nls_utf8", "quota_v2"),
    *("dm_mod", "dm_flakey", "dm_log_writes", "zstd", "crc32c_generic", "crc32c_intel", "xxhash_generic"),
    # btrfs of 6.17 to 6.19 asks for crc32c by the name of the algorithm, which is no dependency that depmod knows.
    *("blake2b_generic", "sha256_generic", "i6300esb", "crypto-crc32c", "crypto-xxhash64", "crypto-blake2b-256"),
)
_EARLY: Final = ("virtio_pci", "virtio_mmio", "virtio_blk", "virtio_net", "virtio_rng", "ext4")
INIT: Final = f"""#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in {" ".join(_EARLY)}; do modprobe "$module" 2>/dev/null; done
tries=0
while [ ! -b /dev/vda ] && [ $tries -lt 100 ]; do sleep 0.1; tries=$((tries + 1)); done
mount -t ext4 -o rw /dev/vda /root || {{ echo "overlay-conformance: no disk"; poweroff -f; }}
mkdir -p /root/lib/modules
mount -t tmpfs modules /root/lib/modules
cp -a /lib/modules/. /root/lib/modules/
umount /proc /sys
mount --move /dev /root/dev
exec switch_root /root /sbin/init
"""
RECIPE: Final = "3"  # what is made of the same packages changes with this
BUSYBOX: Final = "busybox-static"
UML: Final = "usr/bin/linux.uml"
_UML_NEEDS: Final = ("libc6", BUSYBOX)


@dataclass(frozen=True, slots=True)
class Built:
    """Files that start a kernel: ``release`` is what uname -r says, ``version`` that of the package."""

    release: str
    version: str
    vmlinuz: Path
    initrd: Path


def build(kernel: Kernel, suite: Suite, tools: Suite, cache: Path, say: Callable[[str], None]) -> Built:
    """Fetch a kernel of its suite and make its initrd, unless that is in the cache. Raises NoPackage, OSError.

    ``tools`` is the suite that has what else is in an initrd, as one of security updates has not.
    """
    image = suite.newest(kernel.package)
    recipe = digest_of(RECIPE, INIT, *_MODULES, kernel.modules_sha256)
    made = cache / "kernels" / f"{image.name}_{plain(image.version)}_{recipe}"
    release = image.name.removeprefix("linux-image-")
    built = Built(release, image.version, made / "vmlinuz", made / "initrd")
    if made.is_dir():
        return built
    say(f"{kernel.name}: fetching {image.name}")
    packages = [suite.download(one, directory(cache / "packages")) for one in _needed(image, suite)]
    if kernel.modules_sha256:
        version = image.version.partition(":")[2] or image.version
        name = f"{image.name.replace('linux-image-', 'linux-modules-')}_{version}_amd64.deb"
        packages.append(from_the_pool(kernel, name, kernel.modules_sha256, suite, cache / "packages"))
    work = made.with_name(f"{made.name}.{os.getpid()}")
    shutil.rmtree(work, ignore_errors=True)
    try:
        say(f"{kernel.name}: making its initrd")
        for package in packages:
            run("dpkg-deb", "-x", str(package), str(directory(work / "tree")))
        _vmlinuz(work / "tree", release).rename(work / "vmlinuz")
        busybox = tools.download(tools.package(BUSYBOX), cache / "packages")
        run("dpkg-deb", "-x", str(busybox), str(directory(work / "busybox")))
        initrd(work, release)
        for name in ("tree", "busybox", "initrd.d"):
            shutil.rmtree(work / name)
        work.rename(made)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return built


def build_uml(kernel: Kernel, suite: Suite, cache: Path, say: Callable[[str], None]) -> Built:
    """Fetch a kernel of user-mode Linux, and make its initrd and a root with the C library of its suite.

    Where the processor needs it, the root gets a library (:mod:`vm.registers`). ``suite`` has the suite of that
    kernel only. Raises NoPackage, OSError.
    """
    image = suite.package(kernel.uml.package if kernel.uml else "")
    needed = [image, *(suite.package(name) for name in _UML_NEEDS)]
    recipe = digest_of(RECIPE, INIT, *_MODULES, *(one.path for one in needed))
    made = cache / "kernels" / f"{image.name}_{plain(image.version)}_{recipe}"
    if not made.is_dir():
        say(f"{kernel.name}: fetching {image.name} of {kernel.uml.suite if kernel.uml else ''}")
        packages = [suite.download(one, directory(cache / "packages")) for one in needed]
        work = made.with_name(f"{made.name}.{os.getpid()}")
        shutil.rmtree(work, ignore_errors=True)
        try:
            say(f"{kernel.name}: making its initrd")
            _uml_root(work, packages)
            work.rename(made)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    release = (made / "release").read_text()
    if not release.startswith(f"{kernel.release}."):
        raise NoPackage(f"{kernel.name}: {image.name} is {release} by now, not {kernel.release}; see matrix.yaml")
    registers.complete(made / "root", release)
    return Built(release, image.version, made / "root" / UML, made / "root" / "initrd")


def _uml_root(work: Path, packages: list[Path]) -> None:
    """A directory that the kernel runs in as a process, with nothing but what it needs."""
    root, tree, busybox = (directory(work / name) for name in ("root", "tree", "busybox"))
    for package in packages[:2]:
        run("dpkg-deb", "-x", str(package), str(tree))
    run("dpkg-deb", "-x", str(packages[2]), str(busybox))
    (release,) = (path.name for path in (tree / "usr/lib/uml/modules").iterdir())
    (work / "release").write_text(release)
    for name in ("dev", "proc", "tmp", "machine", "usr/bin", "lib/x86_64-linux-gnu", "lib64"):
        directory(root / name)
    (tree / UML).rename(root / UML)
    # Before trixie the library is in /lib, since then in /usr/lib.
    for path in (*tree.glob("lib/x86_64-linux-gnu/*.so*"), *tree.glob("usr/lib/x86_64-linux-gnu/*.so*")):
        shutil.copy2(path, root / "lib/x86_64-linux-gnu" / path.name, follow_symlinks=False)
    (root / "lib64/ld-linux-x86-64.so.2").symlink_to("../lib/x86_64-linux-gnu/ld-linux-x86-64.so.2")
    shutil.rmtree(tree / "lib", ignore_errors=True)
    directory(tree / "lib/modules")
    (tree / "usr/lib/uml/modules" / release).rename(tree / "lib/modules" / release)
    initrd(work, release, "/dev/ubda")
    (work / "initrd").rename(root / "initrd")
    for name in ("tree", "busybox", "initrd.d"):
        shutil.rmtree(work / name)


def digest_of(*pieces: str) -> str:
    """A short digest of all that a result depends on, for the name of its directory."""
    return hashlib.sha256("\n".join(pieces).encode()).hexdigest()[:12]


def run(*words: str) -> None:
    """Run a command that says nothing, unless it fails: then OSError."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(words)}: {done.stderr.strip()[-500:]}")


def directory(path: Path) -> Path:
    """The same path, as a directory that is there."""
    path.mkdir(parents=True, exist_ok=True)
    return path


def plain(version: str) -> str:
    """A version of a package as a part of a file name."""
    return re.sub(r"[^\w.+-]", "-", version)


def _needed(image: Package, suite: Suite) -> list[Package]:
    """The package of the kernel, and since 6.19 those that it consists of, as far as the index has them."""
    found = [image]
    for name in dict.fromkeys(re.findall(r"\blinux-(?:base|binary|modules)-\d[\w.+-]+", image.depends)):
        try:
            found.append(suite.package(name))
        except NoPackage:
            continue  # modules that are in the pool only; without them there is an error below
    return found


def from_the_pool(kernel: Kernel, name: str, sha256: str, suite: Suite, to: Path) -> Path:
    """A package of Linux that the index no longer lists; raises NoPackage if its digest is another."""
    file = to / name
    if not file.exists():
        address = f"{suite.base}/pool/main/l/linux/{urllib.parse.quote(name)}"
        partial = file.with_suffix(".partial")
        try:
            with urllib.request.urlopen(address, timeout=60) as answer, partial.open("wb") as out:
                shutil.copyfileobj(answer, out)
        except OSError as error:
            raise NoPackage(
                f"{kernel.name}: {name} is in the pool no more ({error}); take a newer kernel"
            ) from error
        partial.rename(file)
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    if digest != sha256:
        file.unlink()
        raise NoPackage(f"{kernel.name}: {name} has the digest {digest}, and matrix.yaml another")
    return file


def _vmlinuz(tree: Path, release: str) -> Path:
    for path in (tree / "boot" / f"vmlinuz-{release}", *tree.glob("usr/lib/modules/*/vmlinuz")):
        if path.exists():
            return path
    raise NoPackage(f"the package of {release} has no vmlinuz where it is known to be")


def initrd(work: Path, release: str, disk: str = "/dev/vda", *, modules: bool = True) -> None:
    """Make ``work``/initrd of ``work``/busybox and the modules in ``work``/tree. Raises NoPackage, OSError."""
    inside = work / "initrd.d"
    for name in ("bin", "dev", "proc", "root", "sys", f"lib/modules/{release}"):
        (inside / name).mkdir(parents=True)
    busybox = next(path for path in work.glob("busybox/**/bin/busybox"))
    shutil.copy2(busybox, inside / "bin" / "busybox")
    if modules:
        _copy_modules(work / "tree", inside, release)
    (inside / "init").write_text(INIT.replace("/dev/vda", disk))
    (inside / "init").chmod(0o755)
    with (work / "initrd").open("wb") as out:
        words = "find . -print0 | cpio --null --quiet -o -H newc | gzip -1"
        subprocess.run(["sh", "-c", words], cwd=inside, stdout=out, check=True)


def _copy_modules(tree: Path, inside: Path, release: str) -> None:
    """The modules and what they need, unpacked, as busybox knows no compression."""
    if not (tree / "lib").exists():
        (tree / "lib").symlink_to("usr/lib")
    run("depmod", "-b", str(tree), release)
    wanted = set()
    for module in _MODULES:
        words = ["modprobe", "-d", str(tree), "-S", release, "--show-depends", module]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        wanted |= {Path(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("insmod ")}
    if not any(path.name.startswith("overlay.ko") for path in wanted):
        raise NoPackage(f"the packages of {release} have no module overlay")
    home = tree / "lib" / "modules" / release
    target = inside / "lib" / "modules" / release
    for path in wanted:
        below = Path(os.path.realpath(path)).relative_to(home.resolve())
        copy = target / below.with_suffix("" if below.suffix == ".xz" else below.suffix)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes())
    for path in home.glob("modules.*"):
        if path.name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
            shutil.copy2(path, target)
    run("depmod", "-b", str(inside), release)
