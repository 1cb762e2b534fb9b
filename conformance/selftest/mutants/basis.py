"""The correct driver that the wrong ones wrap, or have a function replaced in."""

from __future__ import annotations

import functools
import importlib
import os
import sys
from collections.abc import Callable
from typing import Any, Final

BASIS: Final = "CONFORMANCE_FAULTY_BASIS"  # MODULE:CLASS


class Faithful:
    """Wraps the driver that ``CONFORMANCE_FAULTY_BASIS`` names and changes nothing; the basis of the others."""

    def __init__(self, home: str, **asked: Any) -> None:
        self.home = home
        self.inner: Any = basis()(home, **asked)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def basis() -> Any:
    """The class of the correct driver."""
    module, _, name = os.environ[BASIS].partition(":")
    return getattr(importlib.import_module(module), name)


class Patched(Faithful):
    """Wraps the correct driver with one function of its package replaced, where no wrapper could be as wrong.

    ``place`` names the function, as MODULE:NAME or MODULE:CLASS.NAME within the package of the correct driver;
    :meth:`wrong` is called in its stead, with the original first. The replacement is for the whole process, which
    is a worker with this one driver. Where one error sits in two functions, a writer and its reader, ``also`` names
    the second one and :meth:`wrong_too` stands for it.
    """

    place: str
    also: str = ""

    def __init__(self, home: str, **asked: Any) -> None:
        _patch(type(self), self.place, self.wrong)
        if self.also:
            _patch(type(self), self.also, self.wrong_too)
        super().__init__(home, **asked)

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """What is called instead; nothing is wrong yet."""
        return original(*args, **kwargs)

    @staticmethod
    def wrong_too(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """What is called instead of the second function."""
        return original(*args, **kwargs)


def _patch(fault: type[Patched], place: str, wrong: Callable[..., Any]) -> None:
    """Replace the function, once, also where modules have it by its name already."""
    package = os.environ[BASIS].partition(":")[0].partition(".")[0]
    module_name, _, path = place.partition(":")
    owner: Any = importlib.import_module(f"{package}.{module_name}")
    *holders, name = path.split(".")
    for holder in holders:
        owner = getattr(owner, holder)
    found = owner.__dict__[name]
    original = found.__func__ if isinstance(found, (staticmethod, classmethod)) else found
    if getattr(original, "fault", None):
        return

    @functools.wraps(original)
    def replaced(*args: Any, **kwargs: Any) -> Any:
        return wrong(original, *args, **kwargs)

    replaced.__dict__["fault"] = fault
    setattr(owner, name, type(found)(replaced) if original is not found else replaced)
    if not holders:
        for other in list(sys.modules.values()):
            if getattr(other, "__name__", "").startswith(f"{package}.") and getattr(other, name, None) is original:
                setattr(other, name, replaced)
