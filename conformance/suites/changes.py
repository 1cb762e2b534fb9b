"""What the changes of a layer say of a path."""

from __future__ import annotations

from collections import Counter

from conformance.harness.assertions import equal, nothing
from conformance.harness.bench import Store
from conformance.history.calls import Changes
from conformance.history.findings import WrongAnswer, WrongChange


def changes_of(store: Store, layer_id: str, parent: str | None = None) -> dict[bytes, str]:
    """The kind of change by relative path; raises Deviation for a path that is listed twice."""
    against = store.parent_of(layer_id) if parent is None else parent
    found = store.do(Changes(layer_id, against))
    twice = [path for path, count in Counter(change.path for change in found).items() if count > 1]
    nothing(f"paths that the changes of {layer_id} list more than once", twice, WrongAnswer())
    return {change.path.lstrip(b"/"): change.kind for change in found if change.path != b"/"}


def says(layer_id: str, path: bytes, kind: str, changes: dict[bytes, str]) -> None:
    """The changes say this of one path, "" for nothing; raises Deviation."""
    found = changes.get(path, "")
    what = f"what the changes of {layer_id} say of {path!r}"
    equal(what, found or "nothing", kind or "nothing", WrongChange(path, kind, found))
