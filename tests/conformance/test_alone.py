"""A driver that only one process may use: its tests run in one, however many jobs are asked for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest
import validated
from commanding import command

SUPPORT: Final = Path(validated.__file__).parent
MODULE: Final = """
import os
from pathlib import Path
from conformance.drivers.connection import Kind
from conformance.drivers.protocol import DriverInfo
from conformance.drivers.source import DriverSource
from validated import DECLINED, Good

class Adapter(Good):
    def create(self, layer_id, parent, options=None, *, read_write=True):
        with open(os.environ["CALLERS"], "a") as file:
            print(os.getpid(), file=file)
        super().create(layer_id, parent, options, read_write=read_write)

def source(arguments):
    why = "stores share a daemon" if arguments == "alone" else ""
    info = DriverInfo(f"solitary:{arguments}", "1", DECLINED)
    return DriverSource(info, Adapter, writable=(Path(os.environ["CALLERS"]).parent,), alone=why)

KIND = Kind("solitary", (("HOW", "alone"),), source)
"""


@pytest.mark.mounts
@pytest.mark.parametrize(("how", "alone"), [("alone", True), ("together", False)])
def test_jobs_are_one_for_a_driver_that_one_process_may_use(scratch: Path, how: str, alone: bool) -> None:
    site, stores, callers = scratch / "site", scratch / "stores", scratch / "called" / "callers"
    metadata = site / "solitary-1.0.dist-info"
    metadata.mkdir(parents=True)
    stores.mkdir()
    callers.parent.mkdir()
    (site / "solitary.py").write_text(MODULE)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: solitary\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[overlay_conformance.adapters]\nsolitary = solitary:KIND\n")
    path = os.pathsep.join([str(site), str(SUPPORT), os.environ.get("PYTHONPATH", "")])
    done = command(
        *("run", f"solitary:{how}", "--profile", "smoke", "--jobs", "2", "--no-evidence", "--scratch", str(stores)),
        env={**os.environ, "PYTHONPATH": path, "CALLERS": str(callers)},
    )
    processes = set(callers.read_text().split())
    assert ("one process runs the tests: stores share a daemon" in done.stdout + done.stderr) is alone
    assert len(processes) == (1 if alone else 3), "the preflight is in the first of them"
