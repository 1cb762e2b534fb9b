"""What several mutants of archives are made of: an archive that is read, changed and written again."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterable
from typing import IO, Final

from conformance.selftest.mutants.basis import Faithful

OPAQUE: Final = ".wh..wh..opq"
Change = Callable[[tarfile.TarInfo], Iterable[tarfile.TarInfo]]


def rewritten(archive: IO[bytes], change: Change) -> IO[bytes]:
    """The archive with what ``change`` makes of each entry; the data of a file goes with what is one."""
    source = tarfile.open(fileobj=io.BytesIO(archive.read()))  # noqa: SIM115 - of memory
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for member in source.getmembers():
            content = source.extractfile(member) if member.isreg() else None
            for one in change(member):
                tar.addfile(one, content if one.isreg() else None)
    target.seek(0)
    return target


def empty(name: str) -> tarfile.TarInfo:
    """An empty file of this name, as whiteouts and opaque whiteouts are."""
    member = tarfile.TarInfo(name)
    member.mode = 0o600
    return member


def lowers_of(driver: Faithful, layer_id: str) -> list[str]:
    """The directories of the layers below, uppermost first."""
    found = driver.inner.metadata(layer_id).get("LowerDir", "")
    return found.split(":") if found else []
