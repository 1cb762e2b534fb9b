"""Mutants of mounts: option data at the page's end, escapes, labels, lowers and where the caller stands."""

from __future__ import annotations

from conformance.selftest.mutants.basis import Faithful
from conformance.selftest.mutants.mutant import mutant


@mutant(breaks=("OVL-MOUNT-LABEL-REFUSED",), source="behaviour#labels", hard=True)
class SecondGetDropsLabel(Faithful):
    """A label that could not be set is left out when the layer is asked for again."""

    def get(self, layer_id: str, label: str = "") -> str:
        """With the label, once."""
        tried = self.__dict__.setdefault("tried", set())
        asked = (layer_id, label)
        if asked in tried:
            return str(self.inner.get(layer_id))
        tried.add(asked)
        return str(self.inner.get(layer_id, label))
