"""Opens a driver that is a Python class and ends: a process to be looked at from outside, or lied to by a lab.

Standard input is a JSON object with ``module``, ``class``, ``home`` and ``words``, the keyword arguments. The exit
code is 0 if the driver opened, 1 if it refused; what it said is on standard error, warnings included. It is started
for each kernel that is pretended, so it imports nothing that it does not need.
"""

from __future__ import annotations

import importlib
import json
import logging
import sys


def main() -> int:
    """Open and close one driver."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="warning: %(message)s")
    task = json.load(sys.stdin)
    factory = getattr(importlib.import_module(task["module"]), task["class"])
    try:
        driver = factory(task["home"], **task["words"])
    except Exception as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    driver.cleanup()
    return 0


if __name__ == "__main__":
    sys.exit(main())
