"""Other ways to the same trees: comparing instead of reading marks, other marks, applying through a mount."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from conformance.selftest.mutants.basis import Faithful
from conformance.selftest.variants.variant import variant


@variant(
    source="OVL-CHANGES-ORDER is of level SHOULD",
    touches=("OVL-CHANGES", "OVL-PARALLEL"),
    waives=("OVL-CHANGES-ORDER",),
)
class ListsChangesBackwards(Faithful):
    """Changes are listed from the last path to the first."""

    def changes(self, layer_id: str, parent: str = "") -> list[Any]:
        """The same."""
        return list(reversed(self.inner.changes(layer_id, parent)))


@variant(source="OVL-CHANGES-EXPLAIN: every path, each once and of the right kind", touches=("OVL-CHANGES",))
class ListsAllThatIsGone(Faithful):
    """Of a directory that was deleted, everything that was in it is listed as deleted too."""

    def changes(self, layer_id: str, parent: str = "") -> list[Any]:
        """Each directory followed by what it held, as the parent shows it."""
        found = self.inner.changes(layer_id, parent)
        if not any(one.kind.name == "DELETE" for one in found):
            return list(found)
        root = os.fsencode(self.inner.get(parent))
        try:
            return [one for change in found for one in (change, *_held(root, change))]
        finally:
            self.inner.put(parent)


def _held(root: bytes, change: Any) -> list[Any]:
    if change.kind.name != "DELETE" or os.path.islink(root + change.path):
        return []
    names = [
        os.path.join(above, name)[len(root) :]
        for above, directories, files in os.walk(root + change.path)
        for name in (*directories, *files)
    ]
    return [dataclasses.replace(change, path=name) for name in sorted(names, key=lambda name: name.split(b"/"))]
