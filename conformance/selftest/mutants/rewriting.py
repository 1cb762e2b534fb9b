"""What mutants of archives have in common: an archive is read, changed and written again."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterable
from typing import IO, Any, Final

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


def filtered(archive: IO[bytes], change: Callable[[tarfile.TarInfo], tarfile.TarInfo | None]) -> IO[bytes]:
    """The archive with each member as ``change`` gives it back, or without it."""
    out = io.BytesIO()
    data = io.BytesIO(archive.read())
    with (
        tarfile.open(fileobj=data) as source,
        tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as target,
    ):
        for member in source:
            content = source.extractfile(member) if member.isreg() else None
            kept = change(member)
            if kept is not None:
                target.addfile(kept, content)
    out.seek(0)
    return out


class RewritingWrapper(Faithful):
    """Diffs go through Python's tarfile, and :meth:`changed` on the way."""

    def diff(self, layer_id: str, parent: str = "") -> Any:
        """The archive, written again."""
        with self.inner.diff(layer_id, parent) as stream:
            source = tarfile.open(fileobj=io.BytesIO(stream.read()))  # noqa: SIM115 - of memory
        target = io.BytesIO()
        with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for member in source.getmembers():
                changed = self.changed(member)
                if changed is not None:
                    tar.addfile(changed, source.extractfile(member) if member.isreg() else None)
        return io.BytesIO(target.getvalue())

    def changed(self, member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        """What becomes of an entry; None if it is lost."""
        return member
