"""The correct driver that the wrong ones wrap."""

from __future__ import annotations

import importlib
import os
from typing import Any, Final

_BASIS: Final = "CONFORMANCE_FAULTY_BASIS"  # MODULE:CLASS


class Faithful:
    """Wraps the driver that ``CONFORMANCE_FAULTY_BASIS`` names and changes nothing; the basis of the others."""

    def __init__(self, home: str, **asked: Any) -> None:
        self.home = home
        self.inner: Any = basis()(home, **asked)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def basis() -> Any:
    """The class of the correct driver."""
    module, _, name = os.environ[_BASIS].partition(":")
    return getattr(importlib.import_module(module), name)
