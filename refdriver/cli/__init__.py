"""The ``refdriver`` command: one verb for each operation of the driver.

Exit codes: 0 done, 1 the system refused (OSError), 2 the command line is wrong, 10 and up the class of the
driver's refusal (see :mod:`refdriver.errors`), 130 interrupted (Ctrl-C), 143 told to stop (SIGTERM).
"""

from __future__ import annotations

import logging
import os
import signal
import sys

import click

from refdriver.cli.descriptors import open_standard_descriptors
from refdriver.cli.text import one_line
from refdriver.cli.verbs import verbs
from refdriver.errors import DriverError

_INTERRUPTED = 128 + signal.SIGINT
_TOLD_TO_STOP = 128 + signal.SIGTERM


class _Warnings(logging.Handler):
    """Warnings of the driver on standard error, a line each."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        _complain(f"warning: {record.getMessage()}")


def main() -> int:
    """Run the command line of this process; the exit code."""
    open_standard_descriptors()  # before anything opens a file
    # As an exception, so that a half-written file and borrowed mounts are given back.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(_TOLD_TO_STOP))
    logger = logging.getLogger("refdriver")
    logger.propagate = False
    logger.handlers = [_Warnings()]
    try:
        # click ends the process by itself, with 1 and quietly, when whoever read our output has gone.
        verbs.main(prog_name="refdriver", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return _INTERRUPTED
    except DriverError as error:
        _complain(str(error))
        return error.exit_code
    except OSError as error:
        _complain(str(error))
        # What could not be written would be tried again when the process ends, and change its exit code.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


def _complain(message: str) -> None:
    click.echo(f"refdriver: {one_line(message)}", err=True)
