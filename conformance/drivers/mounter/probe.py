"""What a command that mounts can do, tried once, in namespaces that end with the attempt.

The harness writes and reads upper directories in the format of overlay. A mounter that keeps deletions in a format
of its own is no worse for that, so ``diff`` and ``apply`` are declined then. A mounter that loses deletions is
another matter, which tests judge.

``python -m conformance.drivers.mounter.probe WORDS ENDING`` prints the declined capabilities with their reasons;
all three are JSON.
"""

from __future__ import annotations

import errno
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from conformance.drivers.mounter import marks
from conformance.drivers.mounter.layers import Stack
from conformance.drivers.mounter.mounters import Command, unmount
from conformance.drivers.protocol import CallLimit, DriverFailed, DriverRefused

_LIMIT: Final = 20.0  # seconds for everything


@functools.cache  # a run connects twice, and a command that hangs takes the whole limit
def declined_by_probe(words: tuple[str, ...], ending: tuple[str, ...]) -> Mapping[str, str]:
    """What the command lacks, with reasons; nothing where that cannot be tried, as the preflight says why."""
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    unshare = ["unshare", *user, "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"]
    program = [sys.executable, "-m", "conformance.drivers.mounter.probe", json.dumps(words), json.dumps(ending)]
    if shutil.which(unshare[0]) is None:
        return {}
    with tempfile.TemporaryDirectory(prefix="mounter-", ignore_cleanup_errors=True) as directory:
        environment = os.environ | {"TMPDIR": directory}
        try:
            done = subprocess.run(
                [*unshare, *program], env=environment, capture_output=True, text=True, check=False, timeout=_LIMIT
            )
            found: dict[str, str] = json.loads(done.stdout) if done.returncode == 0 else {}
        except (OSError, ValueError, subprocess.TimeoutExpired):
            return {}
    return found


def probe(command: Command, home: Path) -> dict[str, str]:
    """What the command lacks, tried below an empty directory. Raises DriverRefused, DriverFailed and OSError."""
    for name in ("lower/d", "upper", "work", "merged", "other/d", "upper-2", "work-2"):
        (home / name).mkdir(parents=True)
    for name in ("lower/a", "lower/d/x"):
        (home / name).touch()
    declined: dict[str, str] = {}
    stack = Stack(("lower",), "upper", "work", "merged", read_only=False)
    merged = home / "merged"
    command.mount(home, stack, CallLimit(_LIMIT))
    if not _takes_attributes(merged) and _takes_attributes(home):
        declined["user-xattrs"] = "the mount takes no extended attributes user.* (EOPNOTSUPP)"
    (merged / "a").unlink()
    (merged / "d" / "x").unlink()
    (merged / "d").rmdir()
    (merged / "d").mkdir()
    unmount(merged)
    own = os.path.lexists(home / "upper" / "a") and marks.is_whiteout(os.lstat(home / "upper" / "a"))
    of_aufs = os.path.lexists(home / "upper" / ".wh.a")
    hides = _shows_nothing(command, home, stack)
    if hides and not own and not of_aufs:
        names = ", ".join(sorted(os.listdir(home / "upper"))) or "nothing"
        said = f"the mounter stores deletions in a format other than overlay's: the upper directory has {names}"
        declined |= {"diff": said, "apply": said}
    elif hides and not own:
        marks.make_whiteout(os.fsencode(home / "other" / "a"))
        marks.make_opaque(os.fsencode(home / "other" / "d"), marks.namespace())
        if not _shows_nothing(command, home, Stack(("other", "lower"), "upper-2", "work-2", "merged", False)):
            declined["apply"] = "the mounter does not read the whiteouts of overlay, which the harness unpacks"
    return declined


def _shows_nothing(command: Command, home: Path, stack: Stack) -> bool:
    command.mount(home, stack, CallLimit(_LIMIT))
    merged = home / stack.merged
    try:
        return os.listdir(merged) == ["d"] and not os.listdir(merged / "d")
    finally:
        unmount(merged)


def _takes_attributes(directory: Path) -> bool:
    try:
        os.setxattr(directory, "user.conformance", b"x")
    except OSError as error:
        return error.errno != errno.EOPNOTSUPP
    return True


def main() -> None:
    """Probe in the directory for temporary files."""
    words, ending = (tuple(json.loads(text)) for text in sys.argv[1:])
    home = Path(tempfile.mkdtemp())
    try:
        found = probe(Command(words, ending), home)
    except (DriverRefused, DriverFailed, OSError):
        found = {}
    print(json.dumps(found))  # noqa: T201 # the answer


if __name__ == "__main__":
    main()
