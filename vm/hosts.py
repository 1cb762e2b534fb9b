"""What a host needs to run machines: libvirt where no systemd starts it, and whether KVM truly works.

On a machine with systemd, libvirt is the system's and nothing here touches it. In a container without, its daemon
is started by us, with the little of a configuration that it needs there, and ended by ``stop``.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Final

from conformance.spec.errors import HarnessError

NETWORK: Final = "overlay-conformance"
_POOL: Final = "default"
_URI: Final = "qemu:///system"
_PID_FILE: Final = Path("/run/overlay-conformance-libvirtd.pid")
_QEMU_CONF: Final = Path("/etc/libvirt/qemu.conf")
_MARK: Final = "# For virtual machines without systemd, by overlay-conformance matrix.\n"
_SETTINGS: Final = """\
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
cgroup_controllers = [ ]
namespaces = [ ]
stdio_handler = "file"
"""
_PACKAGES: Final = (
    *("vagrant", "vagrant-libvirt", "libvirt-daemon", "libvirt-daemon-driver-qemu", "libvirt-clients"),
    *("dnsmasq-base", "mmdebstrap", "kmod", "qemu-system-x86", "qemu-utils", "cpio", "rsync", "iptables"),
    *("openssh-client", "e2fsprogs"),
)
_COMMANDS: Final = {
    "vagrant": "vagrant",
    "virsh": "libvirt-clients",
    "libvirtd": "libvirt-daemon",
    "mmdebstrap": "mmdebstrap",
    "qemu-img": "qemu-utils",
    "qemu-system-x86_64": "qemu-system-x86",
    "cpio": "cpio",
    "depmod": "kmod",
    "mke2fs": "e2fsprogs",
    "rsync": "rsync",
    "ssh": "openssh-client",
    "dnsmasq": "dnsmasq-base",
}
_UML_PACKAGES: Final = (*("mmdebstrap", "kmod", "cpio", "openssh-client", "e2fsprogs", "iproute2", "util-linux"),)
_UML_COMMANDS: Final = (
    *("mmdebstrap", "cpio", "depmod", "mke2fs", "ssh", "ssh-keygen", "ip", "unshare", "nsenter"),
)
_COMPILER: Final = {
    "cc": "gcc libc6-dev",
    "ld": "binutils",
    "make": "make",
    "flex": "flex",
    "bison": "bison",
    "bc": "bc",
    "xz": "xz-utils",
}
_BOOT_LIMIT: Final = 20  # seconds; a guest that works says so in two


class NotReady(HarnessError):
    """This host cannot run machines; the text says what is missing and how to get it."""


def check(provider: str) -> None:
    """Raise NotReady if a program is missing, or with user-mode Linux the device that its network takes."""
    commands, packages = (_UML_COMMANDS, _UML_PACKAGES) if provider == "uml" else (_COMMANDS, _PACKAGES)
    missing = [name for name in commands if shutil.which(name) is None]
    if missing:
        raise NotReady(
            f"there is no {', '.join(missing)}; on Debian: apt-get install --no-install-recommends"
            f" {' '.join(packages)}"
        )
    if provider == "uml" and not Path("/dev/net/tun").exists():
        raise NotReady("there is no /dev/net/tun, which the network of user-mode Linux takes; modprobe tun")


def check_compiler(kernel: str) -> None:
    """Raise NotReady if a program is missing that compiles a kernel."""
    missing = [name for name in _COMPILER if shutil.which(name) is None]
    if missing:
        raise NotReady(
            f"{kernel} is compiled, and there is no {', '.join(missing)}; on Debian: apt-get install"
            f" --no-install-recommends {' '.join(_COMPILER[name] for name in missing)}"
        )


def start_libvirt() -> None:
    """See to it that libvirt answers; raises NotReady."""
    if _answers():
        return
    if Path("/run/systemd/system").is_dir():
        raise NotReady(
            f"libvirt does not answer at {_URI}; systemctl start libvirtd, and be root or of the group libvirt"
        )
    if os.geteuid() != 0:
        raise NotReady(f"libvirt does not answer at {_URI}, and only root can start it; use sudo")
    _prepare()
    subprocess.run(["libvirtd", "-d", "-p", str(_PID_FILE)], check=True, capture_output=True)
    deadline = time.monotonic() + 30
    while not _answers():
        if time.monotonic() > deadline:
            raise NotReady("libvirtd was started and does not answer; see /var/log/libvirt")
        time.sleep(0.1)


def stop_libvirt() -> bool:
    """End the daemon if it was started by us, unless a machine was started by hand; whether it was ended."""
    if machines(f"{NETWORK}-"):
        return False
    try:
        number = int(_PID_FILE.read_text())
        command = Path(f"/proc/{number}/cmdline").read_bytes()
    except (OSError, ValueError):
        return False
    if b"libvirtd" not in command:
        return False
    os.kill(number, signal.SIGTERM)
    deadline = time.monotonic() + 15
    while Path(f"/proc/{number}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    _PID_FILE.unlink(missing_ok=True)
    return True


def remove_network() -> bool:
    """Remove our network, unless a machine is on it; whether it was there."""
    if NETWORK not in _virsh("net-list", "--all", "--name").split():
        return False
    if any(name.startswith(f"{NETWORK}-") for name in _virsh("list", "--name").split()):
        return False
    _virsh("net-destroy", NETWORK)
    _virsh("net-undefine", NETWORK)
    return True


def machines(prefix: str) -> list[str]:
    """Names of machines, running or not, that begin with ``prefix``."""
    return [name for name in _virsh("list", "--all", "--name").split() if name.startswith(prefix)]


def volumes(prefix: str) -> list[str]:
    """Names of volumes in the pool of Vagrant that begin with ``prefix``."""
    names = (line.split()[0] for line in _virsh("vol-list", _POOL).splitlines() if line.split())
    return [name for name in names if name.startswith(prefix)]


def delete_volume(name: str) -> None:
    """Remove a volume from the pool of Vagrant."""
    _virsh("vol-delete", "--pool", _POOL, name)


def delete_machine(name: str) -> None:
    """End a machine at once, and let libvirt forget it."""
    _virsh("destroy", name)
    _virsh("undefine", name, "--snapshots-metadata")


def _virsh(*words: str) -> str:
    if shutil.which("virsh") is None:
        return ""
    done = subprocess.run(["virsh", "-q", "-c", _URI, *words], capture_output=True, text=True, check=False)
    return done.stdout


def _answers() -> bool:
    return subprocess.run(["virsh", "-q", "-c", _URI, "version"], capture_output=True, check=False).returncode == 0


def _prepare() -> None:
    """What packages leave to systemd: users that the daemon looks up, its directories, and its settings."""
    for group, number in (("libvirt", None), ("libvirt-qemu", "64055")):
        words = ["groupadd", "--system", *(["--gid", number] if number else []), group]
        _unless("group", group, words)
    _unless(
        "passwd",
        "libvirt-qemu",
        ["useradd", "--system", "--uid", "64055", "--gid", "64055", "--no-create-home", "libvirt-qemu"],
    )
    for directory in ("/var/log/libvirt", "/run/libvirt"):
        Path(directory).mkdir(parents=True, exist_ok=True)
    said = _QEMU_CONF.read_text() if _QEMU_CONF.exists() else ""
    if _MARK not in said:
        _QEMU_CONF.write_text(f"{said}\n{_MARK}{_SETTINGS}")


def _unless(database: str, name: str, words: list[str]) -> None:
    if subprocess.run(["getent", database, name], capture_output=True, check=False).returncode:
        subprocess.run(words, check=True, capture_output=True)


def accelerator(wanted: str, kernel: Path, initrd: Path, cache: Path) -> str:
    """``kvm`` or ``tcg``: what was asked for, or with ``auto`` what a guest truly boots with on this host.

    A node /dev/kvm that opens says little: guests may hang. So one is booted, once for each boot of this host.
    """
    if wanted != "auto":
        return wanted
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    remembered = cache / f"accelerator-{boot}"
    if not remembered.exists():
        remembered.write_text("kvm" if _boots_with_kvm(kernel, initrd) else "tcg")
    return remembered.read_text()


def _boots_with_kvm(kernel: Path, initrd: Path) -> bool:
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    words = ["qemu-system-x86_64", "-machine", "q35", "-accel", "kvm", "-cpu", "host", "-m", "256", "-nographic"]
    words += ["-no-reboot", "-kernel", str(kernel), "-initrd", str(initrd), "-append", "console=ttyS0 panic=-1"]
    # Without a disk our initrd says so and powers off.
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, timeout=_BOOT_LIMIT, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return b"overlay-conformance: no disk" in done.stdout
