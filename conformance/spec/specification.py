"""The registry as a page of Markdown: docs/specification.md is this text."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from typing import Final

from conformance.spec import LEVELS, Requirement, is_core, load_capabilities, load_requirements

VARIES_SAID: Final = {
    "kernel": "the kernel",
    "backing": "the backing filesystem",
    "overlay": "overlay's parameters",
}


def as_markdown() -> str:
    """The whole specification, families in their order."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    requirements = list(load_requirements().values())
    levels = Counter(requirement.level for requirement in requirements)
    said = ", ".join(f"{levels[level]} {level}" for level in LEVELS if levels[level])
    yield "# Specification"
    yield ""
    yield "Made by `overlay-conformance specification` from `conformance/spec/`; do not edit it by hand."
    yield ""
    yield f"{len(requirements)} requirements: {said}. The words are those of RFC 2119. An id is never renumbered"
    yield "and never used again. Tests name what they judge; `overlay-conformance explain ID` shows one of them."
    yield "No driver is stated to be conformant unless it was judged by every requirement that is marked as core."
    for family, found in itertools.groupby(requirements, lambda one: one.family):
        yield ""
        yield f"## {family[0].upper()}{family[1:]}"
        for requirement in found:
            yield ""
            yield from _of_one(requirement)
    yield ""
    yield "## Capabilities"
    yield ""
    yield "What a host lacks makes a requirement NOT-APPLICABLE; what a driver declines makes it DECLINED. What a"
    yield "driver does not decline it is held to."
    yield ""
    yield "| capability | of | meaning |"
    yield "|---|---|---|"
    for capability in load_capabilities().values():
        yield f"| {capability.name} | {capability.of} | {capability.meaning} |"


def _of_one(requirement: Requirement) -> Iterator[str]:
    yield f"### {requirement.id}"
    yield ""
    yield f"**{requirement.level}** {requirement.sentence}"
    facts = [f"source: {requirement.source}"]
    if is_core(requirement, load_capabilities()):
        facts.append("core")
    if requirement.needs:
        facts.append(f"needs: {', '.join(requirement.needs)}")
    if requirement.privileges == "root":
        facts.append("real root")
    if requirement.kernel:
        facts.append(f"kernel {requirement.kernel} or later")
    if requirement.backing:
        facts.append(f"judged on {', '.join(requirement.backing)}")
    facts.append(f"varies with {', '.join(VARIES_SAID[one] for one in requirement.varies) or 'the driver only'}")
    facts.append(f"since {requirement.since}")
    yield ""
    yield f"({'; '.join(facts)})"
