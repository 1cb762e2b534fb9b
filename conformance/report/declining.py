"""Capabilities that a driver's author may want to decline, from the failures of a run, and what each would cost.

To decline is a statement of the author: the driver does not do this by design. It repairs nothing, and the
requirements that need the capability are then DECLINED, never PASS.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from conformance.spec import Capability, Requirement
from conformance.spec.verdicts import RequirementResult, Verdict

_FEWEST: Final = 2  # failures, as one alone is more likely a bug
REASON: Final = "not implemented"  # for the author to replace


@dataclass(frozen=True, slots=True)
class Proposal:
    """One capability to decline: the failed requirements that need it, and those that pass and would be lost.

    ``core`` says that no driver which declines it is called conformant.
    """

    capability: str
    failed: tuple[str, ...]
    passed: tuple[str, ...]
    core: bool = False


def proposals(
    results: Iterable[RequirementResult],
    requirements: Mapping[str, Requirement],
    capabilities: Mapping[str, Capability],
    declined: Iterable[str],
    broken: Iterable[str] = (),
) -> list[Proposal]:
    """The capabilities that would turn failures into DECLINED, the one with most failures first.

    One is proposed only if a test of the claim itself failed or the driver has no such method or argument
    (``broken``), or if several of its requirements fail,
    and no fewer than pass. Of several that a failed requirement needs, that is proposed which costs the fewest
    passes and the fewest requirements.
    """
    verdicts = {one.requirement: one.verdict for one in results}
    candidates = []
    for one in capabilities.values():
        if one.of == "driver" and one.name not in set(declined):
            needed = [name for name, verdict in verdicts.items() if one.name in requirements[name].needs]
            failed = tuple(name for name in needed if verdicts[name] is Verdict.FAIL)
            passed = tuple(name for name in needed if verdicts[name] is Verdict.PASS)
            if failed and (one.name in set(broken) or len(failed) >= max(_FEWEST, len(passed))):
                candidates.append(Proposal(one.name, failed, passed, one.core))
    candidates.sort(key=lambda one: (len(one.passed), len(one.failed), one.capability))
    chosen: list[Proposal] = []
    for proposal in candidates:
        if set(proposal.failed) - _covered(chosen):
            chosen.append(proposal)
    for proposal in list(chosen):  # a later and larger one may have made an earlier one needless
        rest = [other for other in chosen if other is not proposal]
        if set(proposal.failed) <= _covered(rest):
            chosen = rest
    return sorted(chosen, key=lambda one: (-len(one.failed), one.capability))


def _covered(chosen: Iterable[Proposal]) -> set[str]:
    return {name for one in chosen for name in one.failed}
