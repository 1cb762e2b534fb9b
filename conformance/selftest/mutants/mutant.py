"""A mutant: one deliberate error, what it breaks and where it was seen. It is registered where it is defined."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar, cast

_Driver = TypeVar("_Driver", bound=type[Any])
# The attribute of a class that holds its registration. A subclass does not inherit it.
MUTANT: Final = "__mutant__"


class Registered(Protocol):
    """What the class of a mutant says of itself in ``__mutant__``; any value with these fields will do."""

    @property
    def breaks(self) -> tuple[str, ...]:
        """Ids of requirements that must each fail on it. It is named for the first, which alone can kill it."""
        ...

    @property
    def source(self) -> str:
        """Where the error was seen, in parts with "; " between them.

        A part is a reference (see :mod:`conformance.spec.references`), "boundary: ..." for one step beside a limit,
        or "derived: ..." for another kind of mistake.
        """
        ...

    @property
    def backing(self) -> str:
        """The filesystem that it shows on."""
        ...

    @property
    def hard(self) -> bool:
        """Whether only a rare combination shows it."""
        ...

    @property
    def needs(self) -> str:
        """What the host must have to show it, as a run names what is lacking (xfs-quota); "" if nothing."""
        ...

    @property
    def basis(self) -> str:
        """The driver that it is a mutant of, as MODULE:CLASS; "" for a wrapper of any driver."""
        ...


@dataclass(frozen=True, slots=True)
class Registration:
    """The fields of :class:`Registered`, for wrappers."""

    breaks: tuple[str, ...]
    source: str
    backing: str
    hard: bool
    needs: str
    basis: str


def mutant(
    *,
    breaks: tuple[str, ...],
    source: str,
    backing: str = "host",
    hard: bool = False,
    needs: str = "",
    basis: str = "",
) -> Callable[[_Driver], _Driver]:
    """Register a class as a mutant; :class:`Registered` describes the fields."""

    def registered(driver: _Driver) -> _Driver:
        setattr(driver, MUTANT, Registration(breaks, source, backing, hard, needs, basis))
        return driver

    return registered


@dataclass(frozen=True, slots=True)
class Mutant:
    """A class that is registered as a mutant, with its registration; the name and the connection string follow."""

    driver: type[Any]
    breaks: tuple[str, ...]
    source: str
    backing: str = "host"
    hard: bool = False
    needs: str = ""
    basis: str = ""

    @classmethod
    def of(cls, driver: type[Any]) -> Mutant:
        """The mutant that a class is; raises KeyError if it is not registered."""
        said = cast(Registered, vars(driver)[MUTANT])
        return cls(driver, said.breaks, said.source, said.backing, said.hard, said.needs, said.basis)

    @property
    def name(self) -> str:
        """The name of the class."""
        return self.driver.__name__

    @property
    def connection(self) -> str:
        """How ``overlay-conformance run`` reaches it."""
        return f"python:{self.driver.__module__}:{self.name}"

    @property
    def sentence(self) -> str:
        """What is wrong with it, in words: the docstring of the class."""
        return (self.driver.__doc__ or "").strip().splitlines()[0]
