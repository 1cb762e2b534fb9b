"""Does one call of a driver, the class NAME of MODULE, for each line on standard input, and answers with one line.

Reproducers carry this file as it is. People who doubt a report read it, so it is short.
"""

import base64
import importlib
import json
import os
import sys
import types
from typing import Any

out = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what the driver prints is no answer
factory = getattr(importlib.import_module(sys.argv[1]), sys.argv[2])
drivers: dict[str, Any] = {}
asked: dict[str, Any] = {}


def copy(stream: Any, file: Any, piece: int, left: int) -> None:
    """Read in pieces of so many bytes, up to the end or until as many were read as are left."""
    while left and (block := stream.read(min(piece, left) if left > 0 else piece)):
        file.write(block)
        left = max(0, left - len(block)) if left > 0 else left


def reader(file: Any, piece: int) -> Any:
    """What has nothing but read, which gives so many bytes at most."""
    return types.SimpleNamespace(read=lambda size=-1: file.read(min(size, piece) if size and size > 0 else size))


def do(store: str, verb: str, words: dict[str, Any]) -> object:
    """One call, on the driver of a store."""
    if verb == "open":
        asked[store] = words
        drivers[store] = factory(words["home"], **words["options"])
        return ""
    driver = drivers[store]
    if verb == "reopen":
        if hasattr(driver, "close"):
            driver.close()
        return do(store, "open", asked[store])
    if verb == "close":
        driver.cleanup()
        return driver.close() if hasattr(driver, "close") else ""
    layer, parent = words.get("layer", ""), words.get("parent", "")
    if verb == "create" and words.get("options") is not None:
        read_write = words.get("read_write", True)
        create = getattr(driver, "create_read_write", driver.create) if read_write else driver.create
        return create(layer, parent, *([words["options"]] if words["options"] or not read_write else []))
    if verb == "create":
        return driver.create(layer, parent)
    if verb == "get":
        return driver.get(layer, words["label"]) if words.get("label") else driver.get(layer)
    if verb == "diff":
        with driver.diff(layer, parent) as stream, open(words["archive"], "wb") as file:
            copy(stream, file, words.get("piece") or 65536, words.get("most", -1))
        return ""
    if verb == "apply":
        with open(words["archive"], "rb", buffering=0) as file:
            return driver.apply_diff(layer, parent, reader(file, words["piece"]) if "piece" in words else file)
    if verb == "changes":
        found = driver.changes(layer, parent)
        return "\n".join(f"{one.kind.name.lower()} {one.path.decode(errors='backslashreplace')}" for one in found)
    if verb == "exists":
        return "yes" if driver.exists(layer) else "no"
    if verb == "diff-size":
        return driver.diff_size(layer, parent)
    if verb in ("status", "metadata"):
        return dict(driver.status() if verb == "status" else driver.metadata(layer))
    return getattr(driver, verb)(layer)


for line in sys.stdin:
    call = json.loads(line)
    try:
        said, status = do(call.pop("store"), call.pop("verb"), call), 0
    except Exception as error:
        said, status = f"{type(error).__name__}: {error}", 1
    text = "" if said is None else str(said)
    if text.isascii() and text.isprintable() and text == text.strip():
        print(status, "text", text, file=out, flush=True)
    else:
        print(
            status, "base64", base64.b64encode(text.encode(errors="surrogateescape")).decode(), file=out, flush=True
        )
