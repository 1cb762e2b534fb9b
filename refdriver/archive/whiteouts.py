"""The names by which an archive deletes: AUFS whiteouts, as the OCI image specification has them (layer.md)."""

from __future__ import annotations

from typing import Final

from refdriver.errors import BadArchive

PREFIX: Final = b".wh."
META_PREFIX: Final = b".wh..wh."
OPAQUE: Final = b".wh..wh..opq"
LINK_TARGETS: Final = b".wh..wh.plnk"


def whited_out_name(name: bytes) -> bytes | None:
    """What the whiteout ``name`` deletes in its directory; None if it is no whiteout.

    Raises BadArchive for a whiteout of nothing, of the directory itself or of its parent.
    """
    if not name.startswith(PREFIX) or name.startswith(META_PREFIX):
        return None
    target = name[len(PREFIX) :]
    if target in (b"", b".", b".."):
        raise BadArchive(f"the archive holds a whiteout {name!r} that names no entry of its directory")
    return target
