"""The command in the process of the test: a fifth of a short run would go into starting and importing it.

What becomes of the process of the command (signals, pipes, exit codes) is for tests that start one.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Mapping

from click.testing import CliRunner

from conformance.cli import main
from conformance.harness.interruption import SIGNALS


def command(
    *words: str, env: Mapping[str, str] | None = None, cwd: str | os.PathLike[str] = "."
) -> subprocess.CompletedProcess[str]:
    """What ``overlay-conformance WORDS`` prints and exits with, in the environment ``env``, if one is given.

    A signal that ends it ends the tests.
    """
    changes = {} if env is None else {**dict.fromkeys(os.environ.keys() - env.keys()), **env}
    with contextlib.chdir(cwd):
        told = CliRunner().invoke(main, words, prog_name="overlay-conformance", env=changes)
    if told.exit_code - 128 in SIGNALS:
        raise KeyboardInterrupt
    return subprocess.CompletedProcess(words, told.exit_code, told.stdout, told.stderr)
