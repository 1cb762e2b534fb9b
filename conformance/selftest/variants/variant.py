"""A variant: a correct driver that makes another choice, why it may, and what the choice can be seen in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar, cast

_Driver = TypeVar("_Driver", bound=type[Any])
# The attribute of a class that holds its registration. A subclass does not inherit it.
VARIANT: Final = "__variant__"


class Registered(Protocol):
    """What the class of a variant says of itself in ``__variant__``; any value with these fields will do."""

    @property
    def source(self) -> str:
        """Who chooses so, or which text leaves the choice."""
        ...

    @property
    def touches(self) -> tuple[str, ...]:
        """Ids of requirements, or beginnings of them, that show the choice. By default these are judged."""
        ...

    @property
    def waives(self) -> tuple[str, ...]:
        """Requirements of level SHOULD that it does not meet, by choice. They have to fail on it."""
        ...

    @property
    def backing(self) -> str:
        """The filesystem that it is judged on."""
        ...

    @property
    def why_not(self) -> Callable[[], str]:
        """What keeps it from working on this host; "" if nothing does."""
        ...

    @property
    def basis(self) -> str:
        """The driver that it is a variant of, as MODULE:CLASS; "" for a wrapper of any driver."""
        ...


@dataclass(frozen=True, slots=True)
class Registration:
    """The fields of :class:`Registered`, for wrappers."""

    source: str
    touches: tuple[str, ...]
    waives: tuple[str, ...]
    backing: str
    why_not: Callable[[], str]
    basis: str


def variant(
    *,
    source: str,
    touches: tuple[str, ...],
    waives: tuple[str, ...] = (),
    backing: str = "host",
    why_not: Callable[[], str] = str,
    basis: str = "",
) -> Callable[[_Driver], _Driver]:
    """Register a class as a variant; :class:`Registered` describes the fields."""

    def registered(driver: _Driver) -> _Driver:
        setattr(driver, VARIANT, Registration(source, touches, waives, backing, why_not, basis))
        return driver

    return registered


@dataclass(frozen=True, slots=True)
class Variant:
    """A class that is registered as a variant, with its registration; the name and the connection string follow."""

    driver: type[Any]
    source: str
    touches: tuple[str, ...]
    waives: tuple[str, ...] = ()
    backing: str = "host"
    why_not: Callable[[], str] = str
    basis: str = ""

    @classmethod
    def of(cls, driver: type[Any]) -> Variant:
        """The variant that a class is; raises KeyError if it is not registered."""
        said = cast(Registered, vars(driver)[VARIANT])
        return cls(driver, said.source, said.touches, said.waives, said.backing, said.why_not, said.basis)

    @property
    def name(self) -> str:
        """The name of the class."""
        return self.driver.__name__

    @property
    def connection(self) -> str:
        """How ``overlay-conformance run`` reaches it."""
        return f"python:{self.driver.__module__}:{self.name}"

    @property
    def chooses(self) -> str:
        """What it does differently, in words: the docstring of the class."""
        return (self.driver.__doc__ or "").strip().splitlines()[0]

    def judged_by(self, requirements: Iterable[str]) -> tuple[str, ...]:
        """Those of the ids that it touches, in their order."""
        return tuple(one for one in requirements if one.startswith(self.touches))
