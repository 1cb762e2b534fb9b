"""Values as JSON, and back: strict, with one sentence about what is wrong."""

from __future__ import annotations

import datetime
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.harness.collected import Collected, Inventory
from conformance.harness.events import CHANNEL, PUBLISHED, TRIAL
from conformance.harness.place import Place
from conformance.harness.session import Replay, Session
from conformance.harness.task import Task
from conformance.spec.errors import HarnessError
from conformance.spec.values import BadValue, Key, as_plain, from_plain
from conformance.spec.verdicts import TestOutcome, Verdict


@dataclass(frozen=True, slots=True)
class Part:
    size: Annotated[int, Key(name="size-in-bytes")]
    verdict: Verdict = Verdict.PASS
    number: Annotated[int | None, Key(omitted=True)] = None


@dataclass(frozen=True, slots=True)
class Whole:
    text: str
    share: float
    parts: tuple[Part, ...] = ()
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    by_verdict: Mapping[Verdict, bool] = field(default_factory=dict)
    anything: Mapping[str, Any] | None = None
    code: Literal[0, 1] = 0
    date: datetime.date | None = None
    span: tuple[int, int] = (0, 0)


WHOLE = Whole(
    "\udcff\x00",  # a name of a file that is not UTF-8
    0.5,
    (Part(1), Part(2, Verdict.FAIL, 3)),
    {"ext4": {"OVL-A": 1}},
    {Verdict.NOT_APPLICABLE: True},
    {"is": ["it", {"deep": None}]},
    1,
)
PLAIN = as_plain(WHOLE)


def test_a_value_is_plain_and_comes_back() -> None:
    assert PLAIN == {
        "text": "\udcff\x00",
        "share": 0.5,
        "parts": [
            {"size-in-bytes": 1, "verdict": "PASS"},
            {"size-in-bytes": 2, "verdict": "FAIL", "number": 3},
        ],
        "counts": {"ext4": {"OVL-A": 1}},
        "by_verdict": {"NOT-APPLICABLE": True},
        "anything": {"is": ["it", {"deep": None}]},
        "code": 1,
        "date": None,
        "span": [0, 0],
    }
    assert from_plain(Whole, json.loads(json.dumps(PLAIN))) == WHOLE


def test_a_whole_number_is_a_number() -> None:
    assert from_plain(Whole, {"text": "", "share": 1}).share == 1


def test_toml_has_dates() -> None:
    said = tomllib.loads('text = ""\nshare = 0.5\ndate = 2027-03-31')
    assert from_plain(Whole, said).date == datetime.date(2027, 3, 31)
    with pytest.raises(BadValue, match="date: expected a date without quotes, such as 2027-03-31, found '2027-"):
        from_plain(Whole, {**said, "date": "2027-03-31"})


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ([], "expected an object, found []"),
        ({}, "text is missing; share is missing"),
        ({**PLAIN, "colour": 1}, "there is no key colour; the keys are text, share, parts, counts, by_verdict,"),
        ({**PLAIN, "parts": "abc"}, "parts: expected a list, found 'abc'"),
        (
            {**PLAIN, "parts": [{"size-in-bytes": "1"}]},
            "parts[0].size-in-bytes: expected a whole number, found '1'",
        ),
        ({**PLAIN, "parts": [{}]}, "parts[0]: size-in-bytes is missing"),
        ({**PLAIN, "parts": [{"size": 1}]}, "parts[0]: there is no key size; the keys are size-in-bytes, verdict,"),
        ({**PLAIN, "parts": [{"size-in-bytes": True}]}, "expected a whole number, found True"),
        ({**PLAIN, "counts": {"ext4": {"OVL-A": None}}}, "counts.ext4.OVL-A: expected a whole number, found None"),
        ({**PLAIN, "by_verdict": {"GOOD": True}}, "by_verdict.GOOD: expected one of ERROR, FAIL,"),
        ({**PLAIN, "anything": 5}, "anything: expected an object, found 5"),
        ({**PLAIN, "span": [1]}, "span: expected a list of 2, found [1]"),
        ({**PLAIN, "span": [1, 2, 3]}, "span: expected a list of 2, found [1, 2, 3]"),
        ({**PLAIN, "span": [1, "2"]}, "span[1]: expected a whole number, found '2'"),
        ({**PLAIN, "code": True}, "code: expected one of 0, 1, found True"),
        ({**PLAIN, "text": 1.5}, "text: expected a text, found 1.5"),
        ({**PLAIN, "share": "\x1b" * 99}, "share: expected a number, found '\\x1b\\x1b"),
    ],
    ids=str,
)
def test_what_is_wrong_is_one_sentence(said: object, complaint: str) -> None:
    with pytest.raises(BadValue) as raised:
        from_plain(Whole, said)
    assert complaint in str(raised.value)
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 200
    assert isinstance(raised.value, HarnessError)


TEXTS = st.text(st.characters())
IDS = st.lists(TEXTS, max_size=3).map(tuple)
REASONS = st.dictionaries(TEXTS, TEXTS, max_size=2)
OUTCOMES = st.builds(
    TestOutcome,
    *(TEXTS, IDS, st.sampled_from(Verdict), TEXTS, IDS, TEXTS),
    *(st.floats(0, 9), st.floats(0, 9), IDS, IDS),
    case=st.none() | REASONS,
    cut=IDS,
)


@pytest.mark.slow
@given(
    OUTCOMES
    | st.builds(Inventory, st.dictionaries(TEXTS, st.builds(Collected, TEXTS, IDS, TEXTS), max_size=2))
    | st.builds(
        Session,
        *(TEXTS, TEXTS, st.integers(), IDS, TEXTS),
        places=st.lists(st.builds(Place, TEXTS, TEXTS), max_size=2).map(tuple),
        lacking=REASONS,
        notes=IDS,
        deadline=st.none() | st.floats(0, 9),
        replay=st.builds(Replay, REASONS, st.booleans(), IDS),
    )
    | st.builds(
        Task,
        *(TEXTS, TEXTS, st.integers(), IDS, TEXTS, st.integers(), st.integers()),
        replay=REASONS,
    )
)
def test_what_processes_hand_to_each_other_comes_back(value: object) -> None:
    again = from_plain(type(value), json.loads(json.dumps(as_plain(value))))
    assert repr(again) == repr(value)  # a case takes no part in the comparison of outcomes
    if isinstance(value, TestOutcome):
        assert again == value


def test_what_is_published_has_the_names_of_the_channel() -> None:
    """The controller alone knows when a run begins and ends."""
    channel, published = ({form.tag: form.kind for form in one.forms} for one in (CHANNEL, PUBLISHED))
    assert {tag: kind for tag, kind in published.items() if tag not in ("run", "end")}.items() <= channel.items()
    assert {form.tag: form.kind for form in TRIAL.forms}["outcome"] is channel["outcome"]


def test_a_published_outcome_tells_no_more_than_is_documented() -> None:
    outcome = TestOutcome("test_1", ("OVL-A",), Verdict.FAIL, "why", seconds=1.5)
    assert PUBLISHED.plain(outcome) == {"event": "outcome", "test": "test_1", "verdict": "FAIL", "seconds": 1.5}
    assert CHANNEL.value(CHANNEL.plain(outcome)) == outcome
