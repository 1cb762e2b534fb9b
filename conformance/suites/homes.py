"""What is in a home, before and after."""

from __future__ import annotations

from conformance.workbench import Deviation, Workbench, everything_below


def stays_as_it_was(store: Workbench, before: set[str]) -> None:
    """Nothing came and nothing went in the home but the driver's own hidden files; raises Deviation."""
    changed = {path for path in before ^ everything_below(store.driver.home) if _counts(store, path)}
    if changed:
        raise Deviation(f"expected the home as it was before, but this came or went: {sorted(changed)}")


def _counts(store: Workbench, path: str) -> bool:
    # Locks and books of its own are the driver's business; layers and short links are everybody's.
    first = path.removeprefix(store.driver.home + "/").split("/")[0]
    return not first.startswith(".") and not first.endswith((".lock", ".json"))
