"""Chains of layers that show one thing each of the merged view, whiteouts and opaque directories."""

from __future__ import annotations

import pytest

from conformance.harness.bench import Bench
from conformance.suites.carrying import cases_of, is_the_same_after_diff_and_apply
from conformance.suites.cases import Case


@pytest.mark.parametrize("case", cases_of("OVL-TREE-", "OVL-WHITEOUT-", "OVL-OPAQUE-"))
def test_a_case_is_the_same_after_diff_and_apply(bench: Bench, case: Case) -> None:
    is_the_same_after_diff_and_apply(bench, case)
