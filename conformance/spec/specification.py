"""The registry as a page of Markdown: docs/specification.md is this text."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from typing import Final

from conformance.spec import LEVELS, Requirement, conventions, is_core, load_capabilities, load_requirements
from conformance.spec.references import Reference

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
    yield "A source is a statement of [behaviour.md](behaviour.md), another document, or a bug of a real driver,"
    yield "which [field-bugs.md](field-bugs.md) explains."
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
    yield "driver does not decline it is held to. A convention is a habit of some drivers, which no specification"
    yield "asks of every layer store. A requirement that needs one is no MUST for others: they decline it."
    yield ""
    yield "| capability | of | convention of | meaning |"
    yield "|---|---|---|---|"
    for capability in load_capabilities().values():
        yield f"| {capability.name} | {capability.of} | {capability.convention or '-'} | {capability.meaning} |"


def _link(reference: Reference) -> str:
    address = reference.address.removeprefix("docs/")
    note = f" ({reference.note})" if reference.note else ""
    return f"[{reference.target}]({address}){note}"


def _of_one(requirement: Requirement) -> Iterator[str]:
    yield f"### {requirement.id}"
    yield ""
    yield f"**{requirement.level}** {requirement.sentence}"
    facts = [f"source: {', '.join(_link(one) for one in requirement.source)}"]
    if is_core(requirement, load_capabilities()):
        facts.append("core")
    if found := conventions(requirement, load_capabilities()):
        facts.append(f"a convention of {' and '.join(found)}")
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
