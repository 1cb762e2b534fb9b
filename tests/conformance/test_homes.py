"""What is in a home, and what is only mounted there."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.lab import namespace
from conformance.suites.homes import everything_below


@pytest.mark.mounts
def test_what_is_mounted_in_a_home_is_not_of_the_home(scratch: Path) -> None:
    (scratch / "layer" / "merged").mkdir(parents=True)
    (scratch / "layer" / "diff").touch()
    before = everything_below(str(scratch))
    assert before == {f"{scratch}/layer", f"{scratch}/layer/merged", f"{scratch}/layer/diff"}
    namespace.mount_tmpfs(scratch / "layer" / "merged")
    (scratch / "layer" / "merged" / "file").touch()
    assert everything_below(str(scratch)) == before
    namespace.unmount(scratch / "layer" / "merged")
