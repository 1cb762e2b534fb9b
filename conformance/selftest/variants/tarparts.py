"""An archive in its parts: each entry with all its blocks, so that one can be moved or written anew."""

from __future__ import annotations

import copy
import io
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import IO, Any, Final, Literal

PAX_XATTR: Final = "SCHILY.xattr."
_END: Final = bytes(2 * tarfile.BLOCKSIZE)


@dataclass(frozen=True, slots=True)
class Part:
    """An entry: what its headers say, and the bytes of these and of its content, in whole blocks."""

    member: tarfile.TarInfo
    header: bytes
    content: bytes

    def changed(self, form: Literal[0, 1, 2] = tarfile.PAX_FORMAT, **fields: Any) -> Part:
        """The same with other fields of TarInfo, and its headers written anew in a format of tarfile."""
        member = copy.copy(self.member)
        member.pax_headers = dict(member.pax_headers)
        for name, value in fields.items():
            setattr(member, name, value)
        return Part(member, member.tobuf(form, "utf-8", "surrogateescape"), self.content)


def parts(stream: IO[bytes]) -> list[Part]:
    """The entries of an archive in their order; raises tarfile.TarError."""
    data = stream.read()
    found = []
    with tarfile.open(fileobj=io.BytesIO(data), encoding="utf-8", errors="surrogateescape") as tar:
        for member in tar:
            size = member.size if member.isreg() else 0
            end = member.offset_data + size + -size % tarfile.BLOCKSIZE
            content = data[member.offset_data : end]
            found.append(Part(member, data[member.offset : member.offset_data], content))
    return found


def archive(entries: Iterable[Part], before: bytes = b"") -> IO[bytes]:
    """An archive of these entries, behind a header of the whole."""
    return io.BytesIO(before + b"".join(one.header + one.content for one in entries) + _END)


def without(records: Mapping[str, str], *names: str) -> dict[str, str]:
    """PAX records but for these."""
    return {name: value for name, value in records.items() if name not in names}
