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

from vm.debian import NoPackage, Package, Suites
from vm.matrix import Kernel

# What a machine, a backing filesystem or a test may need; a kernel that has none of a name has it built in, or not
# at all, which the suite says.
_MODULES: Final = (
    *("virtio_pci", "virtio_mmio", "virtio_blk", "virtio_net", "virtio_rng", "virtio_console", "af_packet"),
    *("overlay", "ext4", "xfs", "btrfs", "f2fs", "squashfs", "erofs", "fuse", "loop", "nls_utf8", "quota_v2"),
    *("dm_mod", "dm_flakey", "dm_log_writes", "zstd", "crc32c_generic", "crc32c_intel", "xxhash_generic"),
    *("blake2b_generic", "sha256_generic", "i6300esb"),
)
_EARLY: Final = ("virtio_pci", "virtio_mmio", "virtio_blk", "virtio_net", "virtio_rng", "ext4")
_INIT: Final = f"""#!/bin/busybox sh
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
_RECIPE: Final = "2"  # what is made of the same packages changes with this
_BUSYBOX: Final = "busybox-static"


@dataclass(frozen=True, slots=True)
class Built:
    """Files that start a kernel: ``release`` is what uname -r says, ``version`` that of the package."""

    release: str
    version: str
    vmlinuz: Path
    initrd: Path


def build(kernel: Kernel, suites: Suites, cache: Path, say: Callable[[str], None]) -> Built:
    """Fetch a kernel and make its initrd, unless that is in the cache. Raises NoPackage, OSError."""
    image = suites.newest(kernel.package)
    recipe = hashlib.sha256("\n".join((_RECIPE, _INIT, *_MODULES, kernel.modules_sha256)).encode()).hexdigest()[:12]
    made = cache / "kernels" / f"{image.name}_{_plain(image.version)}_{recipe}"
    release = image.name.removeprefix("linux-image-")
    built = Built(release, image.version, made / "vmlinuz", made / "initrd")
    if made.is_dir():
        return built
    say(f"{kernel.name}: fetching {image.name}")
    packages = [suites.download(one, _directory(cache / "packages")) for one in _needed(image, suites)]
    if kernel.modules_sha256:
        packages.append(_from_the_pool(kernel, image, suites, cache / "packages"))
    work = made.with_name(f"{made.name}.{os.getpid()}")
    shutil.rmtree(work, ignore_errors=True)
    try:
        say(f"{kernel.name}: making its initrd")
        for package in packages:
            _run("dpkg-deb", "-x", str(package), str(_directory(work / "tree")))
        _vmlinuz(work / "tree", release).rename(work / "vmlinuz")
        busybox = suites.download(suites.package(_BUSYBOX), cache / "packages")
        _run("dpkg-deb", "-x", str(busybox), str(_directory(work / "busybox")))
        _initrd(work, release)
        for name in ("tree", "busybox", "initrd.d"):
            shutil.rmtree(work / name)
        work.rename(made)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return built


def _run(*words: str) -> None:
    """Run a command that says nothing, unless it fails: then OSError."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(words)}: {done.stderr.strip()[-500:]}")


def _directory(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def _plain(version: str) -> str:
    return re.sub(r"[^\w.+-]", "-", version)


def _needed(image: Package, suites: Suites) -> list[Package]:
    """The package of the kernel, and since 6.19 those that it consists of, as far as the index has them."""
    found = [image]
    for name in dict.fromkeys(re.findall(r"\blinux-(?:base|binary|modules)-\d[\w.+-]+", image.depends)):
        try:
            found.append(suites.package(name))
        except NoPackage:
            continue  # modules that are in the pool only; without them there is an error below
    return found


def _from_the_pool(kernel: Kernel, image: Package, suites: Suites, to: Path) -> Path:
    """The package of modules that the index has no more; raises NoPackage if it is not the one of the matrix."""
    version = image.version.partition(":")[2] or image.version
    name = f"{image.name.replace('linux-image-', 'linux-modules-')}_{version}_amd64.deb"
    file = to / name
    if not file.exists():
        address = f"{suites.base(kernel.suite)}/pool/main/l/linux/{urllib.parse.quote(name)}"
        partial = file.with_suffix(".partial")
        try:
            with urllib.request.urlopen(address, timeout=60) as answer, partial.open("wb") as out:
                shutil.copyfileobj(answer, out)
        except OSError as error:
            raise NoPackage(
                f"{kernel.name}: the modules are in the pool no more ({error}); take a newer kernel"
            ) from error
        partial.rename(file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    if digest != kernel.modules_sha256:
        file.unlink()
        raise NoPackage(f"{kernel.name}: {name} has the digest {digest}, and matrix.yaml another")
    return file


def _vmlinuz(tree: Path, release: str) -> Path:
    for path in (tree / "boot" / f"vmlinuz-{release}", *tree.glob("usr/lib/modules/*/vmlinuz")):
        if path.exists():
            return path
    raise NoPackage(f"the package of {release} has no vmlinuz where it is known to be")


def _initrd(work: Path, release: str) -> None:
    inside = work / "initrd.d"
    for name in ("bin", "dev", "proc", "root", "sys", f"lib/modules/{release}"):
        (inside / name).mkdir(parents=True)
    busybox = next(path for path in work.glob("busybox/**/bin/busybox"))
    shutil.copy2(busybox, inside / "bin" / "busybox")
    _copy_modules(work / "tree", inside, release)
    (inside / "init").write_text(_INIT)
    (inside / "init").chmod(0o755)
    with (work / "initrd").open("wb") as out:
        words = "find . -print0 | cpio --null --quiet -o -H newc | gzip -1"
        subprocess.run(["sh", "-c", words], cwd=inside, stdout=out, check=True)


def _copy_modules(tree: Path, inside: Path, release: str) -> None:
    """The modules and what they need, unpacked, as busybox knows no compression."""
    if not (tree / "lib").exists():
        (tree / "lib").symlink_to("usr/lib")
    _run("depmod", "-b", str(tree), release)
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
    _run("depmod", "-b", str(inside), release)
