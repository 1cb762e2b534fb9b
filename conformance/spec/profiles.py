"""The profiles of a run: which tests run, and with how many examples.

``smoke`` asks whether the adapter is right: at most twenty tests, which call everything of a driver. ``quick`` is
the cheap half of the tests, which still kills most mutants. ``standard`` and ``release`` have tests of every
requirement.
"""

from __future__ import annotations

from typing import Final

# Examples for each property, from the fewest tests to all.
EXAMPLES: Final = {"smoke": 2, "quick": 2, "standard": 10, "release": 150}
PROFILES: Final = tuple(EXAMPLES)
PARTIAL: Final = ("smoke", "quick")  # a choice of tests, so what it leaves out is not a finding
