"""Opens a driver that is a Python class and ends: a process to be looked at from outside, or lied to by a lab.

The argument is a JSON object with ``module``, ``class``, ``home`` and ``words``, the keyword arguments. The exit
code is 0 if the driver opened, 1 if it refused, 3 for an error in its code; what it said is on standard error,
warnings included. It is started for each simulated kernel, so it imports nothing that it does not need.
"""

from __future__ import annotations

import importlib
import json
import logging
import sys
import traceback
from typing import Final

from conformance.drivers.python.defects import is_refusal

FAILED: Final = 3


def main() -> int:
    """Open and close one driver."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="warning: %(message)s")
    task = json.loads(sys.argv[1])
    factory = getattr(importlib.import_module(task["module"]), task["class"])
    try:
        driver = factory(task["home"], **task["words"])
    except BaseException as error:
        if not is_refusal(error):
            traceback.print_exc()
            return FAILED
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    driver.cleanup()
    return 0


if __name__ == "__main__":
    sys.exit(main())
