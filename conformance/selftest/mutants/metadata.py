"""Mutants of owners, bits, attributes, times and kinds of file, each where one of them is read or set."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from typing import IO, Final

from conformance.selftest.mutants.basis import Faithful
from conformance.selftest.mutants.mutant import mutant
from conformance.selftest.mutants.rewriting import lowers_of, rewritten

_CAPABILITY: Final = "security.capability"


@mutant(breaks=("OVL-META-CAPABILITY",), source="containers/buildah#3294: copied up", hard=True)
class DiffOmitsCapabilitiesOfLowers(Faithful):
    """What was copied up comes without the capability that it has in the layer below."""

    def diff(self, layer_id: str, parent: str = "") -> IO[bytes]:
        """Leave out what the layer did not set itself."""
        lowers = lowers_of(self, layer_id)
        record = f"SCHILY.xattr.{_CAPABILITY}"

        def bare(member: tarfile.TarInfo) -> Iterator[tarfile.TarInfo]:
            if record in member.pax_headers and any(os.path.isfile(f"{one}/{member.name}") for one in lowers):
                member.pax_headers = {key: value for key, value in member.pax_headers.items() if key != record}
            yield member

        with self.inner.diff(layer_id, parent) as stream:
            return rewritten(stream, bare)
