"""The reference driver with functions replaced.

A replacement names the function by the object, not by a string::

    @staticmethod
    @replaces(pack._Packer.whiteout)
    def replacement(original, *args, **kwargs): ...

so that mypy reports a mutant of a function that was renamed or removed, and one whose parameters do not fit.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any, ClassVar, Concatenate, Final, ParamSpec, TypeVar

from refdriver import Driver

_P = ParamSpec("_P")
_R = TypeVar("_R")
_Replacement = TypeVar("_Replacement", bound=Callable[..., Any])
_REPLACES: Final = "__replaces__"
_REPLACED_BY: Final = "__replaced_by__"


def replaces(
    function: Callable[_P, _R],
) -> Callable[[Callable[Concatenate[Callable[_P, _R], _P], Any]], Callable[Concatenate[Callable[_P, _R], _P], Any]]:
    """Mark a static method of a :class:`Patched` as what is called instead of a function, with the original first.

    ``function`` is one of a module of the driver, or of a class in one; raises LookupError if it is neither.
    """
    _where(function)

    def marked(
        replacement: Callable[Concatenate[Callable[_P, _R], _P], Any],
    ) -> Callable[Concatenate[Callable[_P, _R], _P], Any]:
        replacement.__dict__[_REPLACES] = function
        return replacement

    return marked


class Patched:
    """The reference driver, with the functions replaced that its methods are marked for.

    The replacement is for the whole process, which is a worker with this one driver.
    """

    __mutant__: ClassVar[object]
    __variant__: ClassVar[object]

    def __init__(self, home: str, **asked: Any) -> None:
        self.home = home
        for name in dir(type(self)):
            method = inspect.getattr_static(type(self), name)
            if isinstance(method, staticmethod) and _REPLACES in method.__func__.__dict__:
                _replace(type(self), method.__func__.__dict__[_REPLACES], method.__func__)
        self.inner: Any = Driver(home, **asked)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def _where(function: Any) -> tuple[Any, str]:
    """The module or class that holds a function, and its name in there."""
    *holders, name = function.__qualname__.split(".")
    owner: Any = sys.modules[function.__module__]
    for holder in holders:
        owner = getattr(owner, holder)
    if name not in vars(owner) or not function.__module__.startswith("refdriver."):
        raise LookupError(f"{function.__module__}:{function.__qualname__} is no function of the driver")
    return owner, name


def _replace(driver: type[Patched], function: Any, replacement: Callable[..., Any]) -> None:
    """Replace a function, once, also where modules have imported it already."""
    owner, name = _where(function)
    found = vars(owner)[name]
    original = found.__func__ if isinstance(found, (staticmethod, classmethod)) else found
    if hasattr(original, _REPLACED_BY):
        return

    @functools.wraps(original)
    def replaced(*args: Any, **kwargs: Any) -> Any:
        return replacement(original, *args, **kwargs)

    replaced.__dict__[_REPLACED_BY] = driver
    setattr(owner, name, type(found)(replaced) if original is not found else replaced)
    if inspect.ismodule(owner):
        for module in [one for key, one in sys.modules.items() if key.startswith("refdriver.")]:
            for alias in [key for key, value in vars(module).items() if value is original]:
                setattr(module, alias, replaced)
