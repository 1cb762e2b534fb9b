"""Section 9: the driver in a user namespace, in a process of its own that has one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.mounts

WORK = """
import io, os, sys
from pathlib import Path
from refdriver import Driver, errors

with Driver(sys.argv[1]) as driver:
    print("status", dict(driver.status()).get("User Namespace"))
    driver.create("base")
    Path(driver.get("base"), "gone").write_text("below")
    os.makedirs(driver.get("base") + "/directory/below")
    driver.create("child", "base")
    root = Path(driver.get("child"))
    (root / "gone").unlink()
    (root / "directory" / "below").rmdir()
    (root / "directory").rmdir()
    (root / "directory").mkdir()
    (root / "new").write_text("above")
    driver.put("child")
    print("changes", [(change.kind.name, change.path.decode()) for change in driver.changes("child", "base")])
    with driver.diff("child", "base") as archive:
        data = archive.read()
    driver.create("copy", "base")
    driver.apply_diff("copy", "base", io.BytesIO(data))
    print("copy", sorted(os.listdir(driver.get("copy"))), os.listdir(driver.get("copy") + "/directory"))
    driver.put("copy")
    driver.put("copy")
    try:
        driver.create_read_write("limited", "base", {"size": "1M"})
    except errors.DriverError as error:
        print("quota", type(error).__name__)
    driver.cleanup()
"""


def run_in_user_namespace(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", *command], capture_output=True, text=True, check=False
    )


def test_a_user_namespace_can_do_all_but_what_needs_root(scratch: Path) -> None:
    done = run_in_user_namespace(sys.executable, "-c", WORK, str(scratch / "home"))
    assert done.returncode == 0, done.stderr
    lines = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert "userxattr" in lines["status"]
    assert lines["changes"] == (
        "[('MODIFY', '/directory'), ('DELETE', '/directory/below'), ('DELETE', '/gone'), ('ADD', '/new')]"
    )
    assert lines["copy"] == "['directory', 'new'] []"
    assert lines["quota"] == "QuotaFailed"


def test_a_filesystem_without_attributes_of_users_is_refused(scratch: Path) -> None:
    """tmpfs before Linux 6.6 is one; ramfs is one on every kernel."""
    script = 'mount -t ramfs none "$1" && cd / && exec "$2" -c "$3" "$1/home"'
    done = run_in_user_namespace("sh", "-c", script, "sh", str(scratch), sys.executable, WORK)
    assert done.returncode == 1
    assert "NotSupported: the filesystem of the home does not take the extended attribute user.overlay.opaque" in (
        done.stderr
    )
    assert "status" not in done.stdout


def test_without_a_namespace_of_its_own_the_driver_says_what_to_do(scratch: Path) -> None:
    scratch.chmod(0o777)
    code = "import sys, os; from refdriver import Driver; os.setuid(65534); Driver(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(scratch / "home")], capture_output=True, text=True, check=False
    )
    assert "NotSupported" in done.stderr
    assert "unshare" in done.stderr
    assert not (scratch / "home").exists()
