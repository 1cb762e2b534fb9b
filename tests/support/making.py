"""Runs and outcomes as values, for tests of what is made from them."""

from __future__ import annotations

from hypothesis import strategies as st

from conformance.report.records import Part, Run
from conformance.spec import load_requirements
from conformance.spec.causes import Cause, CauseKind, TreeDifference
from conformance.spec.verdicts import TestOutcome, Verdict

REQUIREMENTS = tuple(load_requirements())
RUN = Run(
    suite="0.3.0",
    specification="0123456789ab",
    connection="python:a:B",
    driver="python:a:B",
    version="1.0",
    kernel="6.1.0",
    machine="x86_64",
    lane="root",
    profile="standard",
    examples=10,
    seed=1,
    backings=("ext4", "xfs"),
    selected=tuple(sorted(REQUIREMENTS[:4])),
    started="2026-11-24T00:00:00+00:00",
)
CAUSES = st.builds(
    Cause,
    st.sampled_from(CauseKind),
    st.sampled_from(("", "create")),
    st.sampled_from(("", "OSError: Input/output error")),
    st.lists(st.text(), max_size=2).map(tuple),
    st.none() | st.sampled_from(TreeDifference),
)
OUTCOMES = st.builds(
    TestOutcome,
    st.sampled_from([f"test_{number}" for number in range(6)]),
    st.lists(st.sampled_from(REQUIREMENTS[:4]), min_size=1, max_size=2, unique=True).map(tuple),
    st.sampled_from(Verdict),
    st.text(),
    st.lists(st.text()).map(tuple),
    st.sampled_from(RUN.backings),
    st.floats(0, 100),
    st.floats(0, 100),
    st.lists(st.text()).map(tuple),
    cause=st.none() | CAUSES,
)
PARTS = st.lists(OUTCOMES, max_size=12, unique_by=lambda one: (one.test, one.backing)).map(
    lambda outcomes: Part(RUN, tuple(outcomes))
)
