"""Concurrent calls of a driver, as values: what several callers ask for in a case."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Call:
    """``create`` makes a layer on "base", ``remove`` removes one, ``use`` gets and puts one."""

    verb: str
    layer_id: str

    def __str__(self) -> str:
        return f"{self.verb} {self.layer_id}"
