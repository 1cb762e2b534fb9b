"""Runs a script in mounts of its own, of which only a directory is writable, and in processes of its own.

``python -m conformance.lab.confined PARENT DIRECTORY SCRIPT`` runs SCRIPT by /bin/sh with PATH and TMPDIR=DIRECTORY
and no other variable, and exits with its status. All processes that it started end with it (pid_namespaces(7)), and
with PARENT. Where no mount namespace can be made it exits with 2.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from conformance.lab import namespace, readonly


def main() -> None:
    """Enter the namespaces and become unshare(1), as the first process of a PID namespace is another one."""
    parent, directory, script = sys.argv[1:]
    try:
        namespace.enter_private_mounts()
        left = readonly.protect([Path(directory)])
    except (namespace.NoNamespace, OSError) as error:
        print(f"CANNOT TELL: the reproducer was not run: {error}")  # noqa: T201 # what a script would say
        sys.exit(2)
    if left:
        print(f"these mounts stay writable: {', '.join(left)}", flush=True)  # noqa: T201
    namespace.die_with_parent(int(parent))
    os.chdir("/")
    environment = {"PATH": os.environ.get("PATH", os.defpath), "TMPDIR": directory}
    # Daemons look their processes up in /proc. Where it is masked, as in a container, it stays the one of outside.
    begin = 'mount -t proc -o nosuid,nodev,noexec proc /proc 2>/dev/null; exec /bin/sh "$0"'
    words = ["unshare", "--pid", "--fork", "--kill-child", "/bin/sh", "-c", begin, script]
    os.execvpe("unshare", words, environment)


if __name__ == "__main__":
    main()
