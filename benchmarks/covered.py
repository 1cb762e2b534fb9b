"""The reference driver, with its branches measured in whichever process the suite opens it.

The suite kills the processes of a driver, so what was executed is saved when a driver is closed. The variable
``COVERED`` names the directory for it.
"""

from __future__ import annotations

import atexit
import os
import time
from typing import Final

import coverage

from benchmarks import COVERED

_PAUSE: Final = 0.1  # seconds between two savings

_MEASURED: Final = coverage.Coverage(
    data_file=os.path.join(os.environ[COVERED], "data"),
    data_suffix=True,
    branch=True,
    source_pkgs=["refdriver"],
    config_file=False,
    messages=False,
)
_MEASURED.start()
atexit.register(_MEASURED.save)  # for processes that only open the driver

import refdriver  # noqa: E402  # what its import executes is measured, too


class Driver(refdriver.Driver):
    """Saves what was executed."""

    _saved = 0.0

    def close(self) -> None:
        """Close the driver, and save."""
        super().close()
        if time.monotonic() - Driver._saved > _PAUSE:
            Driver._saved = time.monotonic()
            _MEASURED.save()
