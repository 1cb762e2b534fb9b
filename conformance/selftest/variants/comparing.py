"""Other ways to the same trees: comparing instead of reading marks, other marks, applying through a mount."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import Any, Final

from conformance.selftest.mutants.basis import Faithful, Patched
from conformance.selftest.variants.different import Different

_TREES: Final = ("OVL-TREE", "OVL-WHITEOUT", "OVL-OPAQUE", "OVL-DIFF", "OVL-APPLY", "OVL-CHANGES", "OVL-SIZE")


class ComparesTrees(Patched):
    """Diffs, changes and sizes come from comparing two mounted trees, never from the upper alone."""

    place = "probes:why_native_diff_is_wrong"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """A reason, whatever the kernel does."""
        del original, args, kwargs
        return "it is not used by choice"


class MarksInUserAttributes(Patched):
    """Overlays are mounted with userxattr, and marked in attributes of users, by root too."""

    place = "probes:in_user_namespace"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """As if it were one."""
        original(*args, **kwargs)
        return True


class AppliesThroughTheMount(Patched):
    """Archives are unpacked into the mounted tree, so that the kernel makes the marks."""

    place = "driver:Driver._unpack"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """As if the parent were another."""
        return original(*args, **{**kwargs, "native": False})


class ListsChangesBackwards(Faithful):
    """Changes are listed from the last path to the first."""

    def changes(self, layer_id: str, parent: str = "") -> list[Any]:
        """The same."""
        return list(reversed(self.inner.changes(layer_id, parent)))


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


DIFFERENT: Final = (
    Different(ComparesTrees, "every driver does so where redirect_dir is on", (*_TREES, "OVL-STATUS")),
    Different(
        MarksInUserAttributes,
        "overlayfs.rst, userxattr; containers/storage without root",
        (*_TREES, "OVL-MOUNT", "OVL-LAYOUT", "OVL-HOSTILE-OVERLAY", "OVL-STATUS", "OVL-META-XATTRS"),
    ),
    Different(AppliesThroughTheMount, "moby's naive diff driver", ("OVL-APPLY", "OVL-HOSTILE", "OVL-OPAQUE")),
    Different(
        ListsChangesBackwards,
        "OVL-CHANGES-ORDER is of level SHOULD",
        ("OVL-CHANGES", "OVL-PARALLEL"),
        forgoes=("OVL-CHANGES-ORDER",),
    ),
    Different(
        ListsAllThatIsGone, "OVL-CHANGES-EXPLAIN: every path, each once and of the right kind", ("OVL-CHANGES",)
    ),
)
