"""What a layer hides of the layers below it is gone also for those who know its names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from conformance.harness.deviation import Deviation
from conformance.history.findings import TreeDiffers, Unreadable
from conformance.history.steps import History
from conformance.operations.comparing import Difference, shown
from conformance.operations.observe import found_again, hidden
from conformance.operations.trees import Node


class StillFound(Deviation):
    """What a layer deleted can be looked up; the test went on after that, and nothing else failed it."""

    requirements = ("OVL-WHITEOUT-HIDES",)


class Lookups:
    """Looks up hidden names in mounted trees.

    A listing shows most of what is wrong with a tree, and tests go on after it: a name that can be looked up and is
    not listed is kept, and fails a test that nothing else failed. Its history then ends at that look.
    """

    def __init__(self, history: History) -> None:
        self._history = history
        self._found: StillFound | None = None
        self._steps = 0  # of the history, when it was found

    def look(self, layer_id: str, root: str, nodes: Mapping[bytes, Node], below: Iterable[bytes]) -> None:
        """Look up which names ``below`` a tree should not have; raises Deviation for one that is listed.

        ``nodes`` are the tree's, by paths that are relative to ``root``.
        """
        try:
            found = found_again(root, hidden(nodes, below))
        except OSError as error:
            raise Deviation(f"the tree of {layer_id} cannot be read: {error}", Unreadable()) from error
        listed = [path for path, is_listed in found.items() if is_listed]
        if listed:
            differ = tuple(Difference(path, "unexpected", f"unexpected: {shown(path)}") for path in listed)
            raise Deviation(_said(layer_id, differ), TreeDiffers(differ))
        if found and self._found is None:
            differ = tuple(
                Difference(path, "unlisted", f"found by lstat, and not listed by readdir: {shown(path)}")
                for path in found
            )
            self._found = StillFound(_said(layer_id, differ), TreeDiffers(differ))
            self._steps = len(self._history.steps)

    def report(self) -> None:
        """Raise what was found, if anything was."""
        if self._found:
            del self._history.steps[self._steps :]
            raise self._found


def _said(layer_id: str, differ: Iterable[Difference]) -> str:
    return "\n".join([f"{layer_id} has names that were deleted:", *[one.text for one in differ]])
