"""Other answers: more words, other refusals, callers one after another, a store that is mended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from refdriver import options
from refdriver.mutants.basis import Patched, replaces
from refdriver.mutants.registration import variant


@variant(source="docker/go-units, and containers-storage 1.64 with it", touches=("OVL-OPTION-SIZE", "OVL-QUOTA-U"))
class ReadsScientificSizes(Patched):
    """A size is whatever reads as a number: 1e3 too."""

    @staticmethod
    @replaces(options.parse_size)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """By the rules of Go's ParseFloat, for plain bytes."""
        return int(float(args[0])) if _is_number(args[0]) else original(*args, **kwargs)


def _is_number(text: str) -> bool:
    try:
        return float(text) >= 0
    except ValueError:
        return False
