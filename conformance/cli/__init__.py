"""The ``overlay-conformance`` command.

Exit codes of ``run`` and ``compare``: 0 the driver conforms (the drivers agree), 1 it does not (they differ),
2 the harness failed or the command line is wrong, 3 nothing applicable ran.
"""

from __future__ import annotations

from conformance.cli.verbs import main

__all__ = ["main"]
