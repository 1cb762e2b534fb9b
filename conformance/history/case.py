"""A failure as a value that outlives the run: what is in ``case.json``, versioned, and independent of hypothesis.

What was drawn for the example and the steps that were taken are values of this project, so that the same example
is tried by any later version that has the test, and the script is written from nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from conformance.history.concurrent import Call as ConcurrentCall
from conformance.history.earlier import drawn_of_format_1, steps_of_format_1
from conformance.history.encoding import CannotDecode, decode, encode
from conformance.history.findings import Finding
from conformance.history.steps import Step
from conformance.history.trace import trace
from conformance.spec.errors import BadFile
from conformance.spec.values import BadValue, as_plain, from_plain

FORMAT: Final = 2
_MORE: Final = (ConcurrentCall,)


@dataclass(frozen=True, slots=True)
class _Stored:
    """The object in the file. A step, and what was drawn, names its type itself (conformance.history.encoding)."""

    format: int
    test: str
    requirements: tuple[str, ...]
    backing: str
    driver: str
    reason: str
    drawn: tuple[Any, ...]
    steps: tuple[Mapping[str, Any], ...]
    finding: Mapping[str, Any]
    directory: str


class BadCase(BadFile):
    """This is no case that can be read; the text says why."""


def decoded_draws(said: Any) -> list[Any] | None:
    """What was drawn, from its form in a case; None for None. Raises CannotDecode."""
    return None if said is None else list(decode(said, _MORE))


@dataclass(frozen=True, slots=True)
class Case:
    """One failure: the test, what was drawn for it, the steps, and what is wrong in the end.

    ``test`` is the name of the test without the backing filesystem. ``drawn`` is in the order of drawing; empty
    for a test that draws nothing. ``directory`` is where the stores were, as an archive may name it.
    """

    test: str
    requirements: tuple[str, ...]
    backing: str
    driver: str
    reason: str
    drawn: tuple[Any, ...]
    steps: tuple[Step, ...]
    finding: Finding
    directory: str = ""

    @property
    def trace(self) -> tuple[str, ...]:
        """The steps as a person reads them."""
        return trace(self.steps)

    def as_json(self) -> dict[str, Any]:
        """As an object of JSON; raises TypeError if something in it has no form there."""
        stored = _Stored(
            FORMAT,
            self.test,
            self.requirements,
            self.backing,
            self.driver,
            self.reason,
            tuple(encode(one, _MORE) for one in self.drawn),
            tuple(encode(one, _MORE) for one in self.steps),
            encode(self.finding, _MORE),
            self.directory,
        )
        said: dict[str, Any] = as_plain(stored)
        return said

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Case:
        """Back from :meth:`as_json`; raises BadCase."""
        try:
            stored = _stored(said)
            return cls(
                stored.test,
                stored.requirements,
                stored.backing,
                stored.driver,
                stored.reason,
                tuple(decode(one, _MORE) for one in stored.drawn),
                tuple(decode(one, _MORE) for one in stored.steps),
                decode(stored.finding, _MORE),
                stored.directory,
            )
        except (BadValue, KeyError, TypeError, ValueError, CannotDecode) as error:
            raise BadCase(f"this is no case of this suite ({error})") from error


def _stored(said: Mapping[str, Any]) -> _Stored:
    """The object of a case of any format that is read, in the form of the present one."""
    given = said.get("format") if isinstance(said, Mapping) else None
    if given == 1:
        # Format 1 also had the trace in words, which follows from the steps.
        kept = {key: value for key, value in said.items() if key != "words"}
        stored = from_plain(_Stored, kept)
        return replace(
            stored, steps=tuple(steps_of_format_1(stored.steps)), drawn=tuple(drawn_of_format_1(stored.drawn))
        )
    if given != FORMAT:
        raise BadCase(f"the case has format {given}, and this version of the suite reads 1 and {FORMAT}")
    return from_plain(_Stored, said)
