"""A directory ``.refdriver`` as the reference driver up to version 0.3 kept it in a home.

It holds uses of mounts, mount points, and what a killed process left. Others find a directory of another program.
"""

from __future__ import annotations

from typing import Final

from conformance.operations import ops

USES: Final = (b"1", b"2")  # what it says of layer-2

_DIRECTORIES: Final = (
    b".refdriver",
    b".refdriver/staging",
    b".refdriver/staging/0123456789abcdef",
    b".refdriver/staging/0123456789abcdef/layers",
    b".refdriver/staging/0123456789abcdef/layers/layer-3",
    b".refdriver/counts",
    b".refdriver/merged",
    b".refdriver/merged/image",
)
_FILES: Final = {
    b".refdriver/lock": b"",
    b".refdriver/counts/layer-0": b"3",  # which is not mounted
    b".refdriver/counts/layer-1": b"words",
    b".refdriver/staging/0123456789abcdef/layers/layer-3/link": b"A" * 26,
}


def files(uses: bytes) -> list[ops.Operation]:
    """What puts the directory there, with so many uses of layer-2."""
    return [
        *(ops.MakeDirectory(path, 0o700) for path in _DIRECTORIES),
        *(ops.CreateFile(path, content, 0o600) for path, content in _FILES.items()),
        ops.CreateFile(b".refdriver/counts/layer-2", uses, 0o600),
        *([ops.CreateFile(b".refdriver/unknown", b"", 0o600)] if uses == b"2" else []),
    ]
