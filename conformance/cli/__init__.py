"""The ``overlay-conformance`` command. Exit codes are in docs/exit-codes.md."""

from conformance.cli.base import main

__all__ = ["main"]
