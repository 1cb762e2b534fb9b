"""The profiles of a run: which tests run, and with how many examples."""

from __future__ import annotations

from typing import Final

# Examples for each property, from the fewest tests to all.
EXAMPLES: Final = {"smoke": 2, "standard": 10, "release": 150}
PROFILES: Final = tuple(EXAMPLES)
