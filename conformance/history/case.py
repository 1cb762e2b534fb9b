"""A failure as a value that outlives the run: what is in ``case.json``, versioned, and independent of hypothesis.

What was drawn for the example and the steps that were taken are values of this project, so that the same example
is tried by any later version that has the test, and the script is written from nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from conformance.history.concurrent import Call as ConcurrentCall
from conformance.history.earlier import drawn_of_format_1, steps_of_format_1
from conformance.history.encoding import CannotDecode, decode, encode
from conformance.history.findings import Finding
from conformance.history.steps import Step
from conformance.history.trace import trace
from conformance.spec.errors import BadFile

FORMAT: Final = 2
_MORE: Final = (ConcurrentCall,)


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
        return {
            "format": FORMAT,
            "test": self.test,
            "requirements": list(self.requirements),
            "backing": self.backing,
            "driver": self.driver,
            "reason": self.reason,
            "drawn": encode(list(self.drawn), _MORE),
            "steps": encode(list(self.steps), _MORE),
            "finding": encode(self.finding, _MORE),
            "directory": self.directory,
        }

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Case:
        """Back from :meth:`as_json`; raises BadCase."""
        try:
            if said["format"] not in (1, FORMAT):
                raise BadCase(
                    f"the case has format {said['format']}, and this version of the suite reads 1 and {FORMAT}"
                )
            steps, drawn = said["steps"], said["drawn"]
            if said["format"] == 1:
                steps, drawn = steps_of_format_1(steps), drawn_of_format_1(drawn)
            return cls(
                test=said["test"],
                requirements=tuple(said["requirements"]),
                backing=said["backing"],
                driver=said["driver"],
                reason=said["reason"],
                drawn=tuple(decode(drawn, _MORE)),
                steps=tuple(decode(steps, _MORE)),
                finding=decode(said["finding"], _MORE),
                directory=said["directory"],
            )
        except (KeyError, TypeError, ValueError, CannotDecode) as error:
            raise BadCase(f"this is no case of this suite ({type(error).__name__}: {error})") from error
