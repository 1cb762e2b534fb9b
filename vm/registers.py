"""Kernels of user-mode Linux before 6.13 on a processor with AMX, whose registers they do not know.

``registers.c`` says why they end at their first process, and how a library in their root prevents it.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

_SOURCE: Final = Path(__file__).with_suffix(".c")
_LIBRARY: Final = "lib/registers.so"
_PRELOAD: Final = "etc/ld.so.preload"  # ld.so(8)
_KNOWS_SIZE: Final = (6, 13)  # the kernel that asks the host for the size
REASON: Final = (
    "as user-mode Linux of this kernel does not know all registers of this processor (AMX); install a C compiler"
    " (gcc) and run 'overlay-conformance matrix build' again; 7.2 needs none, and --provider libvirt runs any"
)


def complete(root: Path, release: str, *, cpuinfo: Path = Path("/proc/cpuinfo")) -> None:
    """Add the library to the ``root`` of a kernel that needs it, if there is a compiler. Raises OSError."""
    compiler = shutil.which("cc")
    if compiler is None or not needed(release, cpuinfo=cpuinfo) or (root / _PRELOAD).exists():
        return
    words = ["-O2", "-fPIC", "-ffreestanding", "-fno-stack-protector", "-nostdlib", "-shared"]
    done = subprocess.run(
        [compiler, *words, "-o", str(root / _LIBRARY), str(_SOURCE)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise OSError(f"{compiler} cannot compile {_SOURCE}: {done.stderr.strip()[-500:]}")
    (root / _PRELOAD).parent.mkdir(exist_ok=True)
    (root / _PRELOAD).write_text(f"/{_LIBRARY}\n")


def needed(release: str, *, cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether a kernel of this release (``uname -r``) cannot run on this processor as it is. Raises OSError."""
    major, minor = release.split(".")[:2]
    return (int(major), int(minor)) < _KNOWS_SIZE and " amx_tile" in cpuinfo.read_text()
