"""What host and driver can do: as declared, as tried by the tests, and what is in effect."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from conformance.spec import Capability
from conformance.spec.values import Key
from conformance.spec.verdicts import TestOutcome, Verdict


@dataclass(frozen=True, slots=True)
class CapabilityRow:
    """What host or driver can do, as declared, as tried, and in effect.

    ``effective`` is broken where the driver claims a capability that does not work.
    """

    name: str
    of: Annotated[str, Key(among=("host", "driver"))]
    declared: Annotated[str, Key(among=("yes", "no", "-"))]
    probed: Annotated[str, Key(among=("yes", "no", "not probed"))]
    effective: Annotated[str, Key(among=("yes", "no", "broken"))]
    reason: str


def capability_rows(
    declined: Mapping[str, str],
    lacking: Mapping[str, str],
    outcomes: Sequence[TestOutcome],
    capabilities: Mapping[str, Capability],
) -> list[CapabilityRow]:
    """A row for each capability, from what the driver declines, the host lacks, and the tests tried."""
    probed = _probed(outcomes)
    rows = []
    for capability in capabilities.values():
        name = capability.name
        if capability.of == "host":
            found = "no" if name in lacking else "yes"
            rows.append(CapabilityRow(name, "host", "-", found, found, lacking.get(name, "")))
            continue
        worked, reason = probed.get(name, ("not probed", ""))
        declared = "no" if name in declined else "yes"
        # What is claimed and does not work is held against the driver, so it stays in effect.
        effective = "no" if declared == "no" else "broken" if worked == "no" else "yes"
        rows.append(CapabilityRow(name, "driver", declared, worked, effective, declined.get(name, "") or reason))
    return rows


def _probed(outcomes: Sequence[TestOutcome]) -> dict[str, tuple[str, str]]:
    """What the tests called test_claim[CAPABILITY-...] found out."""
    found: dict[str, tuple[str, str]] = {}
    for outcome in outcomes:
        match = re.match(r"test_claim\[(?:.*-)?@([a-z0-9-]+)@", outcome.test)
        if match and outcome.verdict in (Verdict.PASS, Verdict.FAIL):
            found.setdefault(match[1], ("yes" if outcome.verdict is Verdict.PASS else "no", outcome.reason))
    return found
