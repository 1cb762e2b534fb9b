"""How fast the reference driver is and how much memory it takes; run by ``python -m benchmarks``.

Nothing here is asserted in a test: the figures are of the machine that they were measured on.
"""

from typing import Final

COVERED: Final = "OVERLAY_CONFORMANCE_COVERED"  # the directory of what covered.py saves
