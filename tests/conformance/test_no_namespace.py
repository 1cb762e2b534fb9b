"""Where no mount namespace can be made, and where the suite is below a directory that its user cannot list."""

from __future__ import annotations

import errno
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conformance.lab.nonamespace import Confinement, confinement, remedy

ROOT = Path(__file__).parents[2]
ON = {
    "kernel.unprivileged_userns_clone": "1",
    "user.max_user_namespaces": "95000",
    "kernel.apparmor_restrict_unprivileged_userns": "0",
}


@pytest.mark.parametrize(
    ("found", "helps"),
    [
        (Confinement(root=True, chroot=True), "mount --bind DIRECTORY DIRECTORY"),
        (
            Confinement(root=True),
            "root may not mount here, as in a container: start the container with --privileged",
        ),
        (Confinement(root=False, chroot=True), "the kernel allows no user namespaces in a chroot: run as root"),
        (Confinement(root=False, settings=ON), "run as root (sudo); if this is a chroot"),
        (Confinement(root=False, filtered=True, settings=ON), "run as root (sudo); a seccomp filter is active"),
        *(
            (Confinement(False, filtered=True, settings=ON | {name: value}), f"run as root (sudo), or {what}")
            for name, value, what in (
                ("kernel.unprivileged_userns_clone", "0", "allow user namespaces: sysctl kernel.unprivileged"),
                ("user.max_user_namespaces", "0", "allow user namespaces: sysctl user.max_user_namespaces=10000"),
                ("kernel.apparmor_restrict_unprivileged_userns", "1", "allow user namespaces: sysctl kernel.app"),
            )
        ),
    ],
)
def test_the_remedy_is_for_the_cause(found: Confinement, helps: str) -> None:
    assert helps in remedy(found, errno.EPERM)


def test_root_is_not_advised_to_run_as_root() -> None:
    for chroot in (True, False):
        assert "sudo" not in remedy(Confinement(root=True, chroot=chroot), errno.EINVAL)


def test_another_error_has_no_advice_about_a_chroot() -> None:
    assert remedy(Confinement(root=False), errno.ENOSPC) == "run as root (sudo)"


def test_an_ordinary_process_is_in_no_chroot() -> None:
    assert not confinement().chroot


def in_chroot(scratch: Path, *command: str, before: str = "true") -> subprocess.CompletedProcess[str]:
    """A command in a copy of this root that is made of binds, below a directory that is no mount point."""
    script = f"""
        set -eu
        mount --make-rprivate /
        mkdir "$0/new"
        for top in /*; do
            if [ -L "$top" ]; then cp -P "$top" "$0/new"
            elif [ -d "$top" ]; then mkdir "$0/new$top"; mount --rbind "$top" "$0/new$top"
            fi
        done
        {before}
        exec chroot "$@"
    """
    words = ["unshare", "--mount", "sh", "-c", script, str(scratch), *command]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=300, cwd=ROOT)


@pytest.mark.mounts
def test_doctor_in_a_chroot_says_what_to_do(scratch: Path) -> None:
    done = in_chroot(scratch, f"{scratch}/new", sys.executable, "-m", "conformance", "doctor")
    assert done.returncode == 1, done.stdout + done.stderr
    (line,) = re.findall(r"^  no +profile smoke, this user +(.*)$", done.stdout, re.M)
    assert line.startswith("cannot make a mount namespace: Invalid argument; this is a chroot"), line
    assert done.stdout.count("cannot make a mount namespace") == 1, "the cause is said once"
    assert "sudo" not in done.stdout.partition("kernel\n")[0], "this is root"
    assert "the worker exited" not in done.stdout
    assert done.stderr == ""


@pytest.mark.mounts
def test_doctor_in_a_chroot_that_is_a_mount_point_works(scratch: Path) -> None:
    """What the advice leads to."""
    again = 'mount --rbind "$0/new" "$0/new"'
    command = (f"{scratch}/new", sys.executable, "-m", "conformance", "doctor")
    done = in_chroot(scratch, *command, before=again)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.mounts
def test_a_user_in_a_chroot_is_not_advised_to_set_a_sysctl(scratch: Path) -> None:
    become_a_user = "import os; from conformance.lab.nonamespace import *; os.setuid(65534)"
    code = f"{become_a_user}; print(remedy(confinement(), 1))"
    done = in_chroot(scratch, f"{scratch}/new", sys.executable, "-c", code)
    assert done.stdout.startswith("the kernel allows no user namespaces in a chroot: run as root (sudo)"), done


@pytest.mark.mounts
def test_the_suite_works_below_a_directory_that_its_user_cannot_list(scratch: Path) -> None:
    """As an ordinary user whose packages are in the home of somebody else, of mode 0711."""
    hidden, packages = scratch / "hidden", scratch / "hidden/packages"
    for package in ("conformance", "refdriver"):
        shutil.copytree(ROOT / package, packages / package, ignore=shutil.ignore_patterns("__pycache__"))
    # In a user namespace that has no name for the owner, root there has no rights beyond those of the mode.
    subprocess.run(["chown", "12345:12345", hidden], check=True)
    hidden.chmod(0o711)
    script = """
        ! ls "$1" 2>/dev/null || exit 9
        shift
        exec "$@"
    """
    words = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", str(hidden)]
    command = ["-m", "conformance", "run", "python:refdriver:Driver", "--requirement", "OVL-LIFE-CREATE"]
    done = subprocess.run(
        [*words, "env", f"PYTHONPATH={packages}", sys.executable, "-P", *command, "--no-evidence"],
        capture_output=True,
        text=True,
        check=False,
        cwd=scratch,
    )
    assert done.returncode == 0, done.stdout + done.stderr
