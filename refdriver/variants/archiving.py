"""Other archives of the same layer: in another order, with other names of links, in other formats."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from refdriver.archive import pack
from refdriver.mutants.basis import Patched, replaces
from refdriver.mutants.registration import variant


@variant(
    source="OVL-NAMES-WHITEOUT-PREFIX: the diff fails, or leaves it out",
    touches=("OVL-NAMES", "OVL-WHITEOUT", "OVL-CHANGES-DIFF"),
)
class LeavesReservedNamesOut(Patched):
    """A file of a layer whose name says in archives what is deleted is left out of the diff."""

    @staticmethod
    @replaces(pack._Packer.entry)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Nothing at all for these."""
        nothing: Iterable[bytes] = iter(())
        return nothing if args[2].startswith(b".wh.") else original(*args, **kwargs)
