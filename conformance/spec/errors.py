"""Every way in which the harness itself gives up, one class each; what a driver does wrong is no error here.

A message names the thing, the reason and the next step. ``exit_status`` is that of the command that cannot go on
(docs/exit-codes.md); the classes are where they are raised, and derive from the base here.
"""

from __future__ import annotations


class HarnessError(Exception):
    """Something that the harness cannot do, or refuses; the base of all the others."""

    exit_status = 2


class BadFile(HarnessError):
    """A file that the harness was given cannot be used; it was not changed."""

    exit_status = 1
