"""A correct lister in few lines: ``python naive_lister.py LAYOUT TAG names|json``.

It unpacks by the naive unpacker and lists what is there. tests/conformance/test_listers.py breaks it.
"""

from __future__ import annotations

import base64
import json
import os
import runpy
import stat
import sys
import tempfile

layout, tag, form = sys.argv[1:]
KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFCHR: "character",
    stat.S_IFBLK: "block",
}
ESCAPED = {7: b"a", 8: b"b", 9: b"t", 10: b"n", 11: b"v", 12: b"f", 13: b"r", 92: b"\\"}


def line(path: bytes, kind: str) -> bytes:
    if form == "json":
        return json.dumps({"path_base64": base64.b64encode(path).decode(), "type": kind}).encode()
    name = b"".join(b"\\" + ESCAPED[byte] if byte in ESCAPED else bytes([byte]) for byte in path)
    return name + (b"/" if kind == "directory" else b"")


with tempfile.TemporaryDirectory() as tree:
    os.chmod(tree, 0o755)
    sys.argv = ["naive_unpacker", layout, tag, tree]
    runpy.run_path(os.path.join(os.path.dirname(__file__), "naive_unpacker.py"), run_name="__main__")
    root = os.fsencode(tree)
    for above, directories, files in os.walk(root):
        for name in [*directories, *files]:
            path = os.path.join(above, name)
            kind = KINDS[stat.S_IFMT(os.lstat(path).st_mode)]
            sys.stdout.buffer.write(line(os.path.relpath(path, root), kind) + b"\n")
