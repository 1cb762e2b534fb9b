"""A file of containerd's configuration that a user adds to the adapter's own (``config=FILE``)."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Final

# Where a daemon keeps things and listens (containerd-config.toml(5)): the adapter says that for each store.
_OWN: Final = frozenset({"root", "state", "temp", "grpc", "ttrpc", "debug", "metrics", "imports"})


def read_configuration(file: str) -> str:
    """The text of a file, "" for no file; raises OSError, and ValueError for what cannot be added."""
    if not file:
        return ""
    text = Path(file).read_text("utf-8")
    try:
        said = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"config={file} is no TOML: {error}") from error
    own = sorted(said.keys() & _OWN)
    if own:
        raise ValueError(
            f"config={file} sets {', '.join(own)}, which the adapter sets for each store;"
            " leave only what the snapshotter needs, such as [plugins.'io.containerd.snapshotter.v1.NAME']"
        )
    return text
