"""Claims that do not hold, and what is declined."""

from __future__ import annotations

import io
import re
from typing import Any

from conformance.selftest.mutants.basis import Faithful
from conformance.selftest.mutants.mutant import mutant


@mutant(breaks=("OVL-CLAIM-HOLDS",), source="kubernetes-csi/csi-test#565")
class DiffTruncatesClaimedTimes(Faithful):
    """Declines metadata, and claims by silence that times keep their nanoseconds."""

    declared_reason = "there is none"
    declined_capabilities = {"metadata": declared_reason}  # noqa: RUF012 - read only, as a class says it

    def diff(self, layer_id: str, parent: str = "") -> Any:
        """Cut times to whole seconds, keeping the length of every record."""
        with self.inner.diff(layer_id, parent) as stream:
            data = re.sub(rb"( mtime=\d+\.)(\d+)", lambda one: one[1] + b"0" * len(one[2]), stream.read())
        return io.BytesIO(data)
