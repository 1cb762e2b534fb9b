"""Mutants of the blocks of an archive: lengths, boundaries of fields, and what does not fit in them."""

from __future__ import annotations

import io
import tarfile
from typing import IO, Final

from conformance.selftest.mutants.basis import Faithful
from conformance.selftest.mutants.mutant import mutant

_BLOCK: Final = 512


@mutant(breaks=("OVL-APPLY-FORMATS",), source="POSIX/utilities/pax: global headers, as ustar readers take them")
class ApplyUnpacksGlobalHeaders(Faithful):
    """A global header becomes a file 'pax_global_header', as with programs that do not know it."""

    def apply_diff(self, layer_id: str, parent: str, archive: IO[bytes]) -> int:
        """Put the file in front."""
        data = archive.read()
        if data[156:157] == b"g":
            first = io.BytesIO()
            with tarfile.open(fileobj=first, mode="w") as tar:
                tar.addfile(tarfile.TarInfo("pax_global_header"))
            data = first.getvalue()[:_BLOCK] + data
        return int(self.inner.apply_diff(layer_id, parent, io.BytesIO(data)))
