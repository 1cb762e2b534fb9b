"""The requirements: what they say, and where they come from.

An id is never renumbered and never reused. ``needs`` names capabilities: "root" (real root), "mounts" (overlay
mounts of any lane), or one that a driver may decline, such as "overlay".
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

LEVELS = ("MUST", "SHOULD", "MAY")


@dataclass(frozen=True, slots=True)
class Requirement:
    """One normative sentence; ``level`` is a word of RFC 2119, ``since`` the version it came in."""

    id: str
    family: str
    level: str
    sentence: str
    source: str
    since: str
    needs: tuple[str, ...] = ()


def load_requirements() -> dict[str, Requirement]:
    """All requirements by id, in the order of the file; raises ValueError for one that is malformed."""
    text = files("conformance.spec").joinpath("requirements.toml").read_text(encoding="utf-8")
    found: dict[str, Requirement] = {}
    for entry in tomllib.loads(text)["requirement"]:
        requirement = _requirement(entry)
        if requirement.id in found:
            raise ValueError(f"requirement {requirement.id} is there twice")
        found[requirement.id] = requirement
    return found


def _requirement(entry: Mapping[str, Any]) -> Requirement:
    requirement = Requirement(**{**entry, "needs": tuple(entry.get("needs", ()))})
    if requirement.level not in LEVELS or not requirement.sentence.endswith("."):
        raise ValueError(f"requirement {requirement.id} needs a level of {LEVELS} and a whole sentence")
    return requirement
