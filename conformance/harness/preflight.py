"""The preflight: whether a driver can be used at all, tried once before anything is judged.

An empty home is opened, a layer and a child of it are created, a file is written into each, both are removed and
the home is closed. A driver that refuses a step of this, or fails in it, is not judged: a run would repeat the same
answer for every requirement. A step in which it does something else than a requirement says is a verdict on that
requirement, and the run ends with it.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from conformance.drivers.protocol import DriverFailed, DriverRefused
from conformance.harness.causing import cause_of
from conformance.harness.deviation import Deviation, Leak, SharedUpper
from conformance.harness.place import Place
from conformance.harness.session import Session
from conformance.harness.store import RecordedStore
from conformance.harness.stores import BackingBench, Fixtures
from conformance.history.calls import Remove
from conformance.history.case import Case
from conformance.history.trace import trace
from conformance.lab.backing import HOST
from conformance.operations import ops
from conformance.spec.errors import HarnessError
from conformance.spec.verdicts import PREFLIGHT, TestOutcome, Verdict

_DIRECTORY: Final = "preflight"  # of the stores, beside those of the workers of pytest
# Of a tree that is wrong, where the deviation names no requirement: a tree that was written, or came of archives.
_WRITTEN: Final = "OVL-TREE-MODEL"
_FILLED: Final = "OVL-APPLY-ROUND-TRIP"
_DETAIL_LINES: Final = 20
_FILES: Final = (
    ops.MakeDirectory(b"directory", 0o755),
    ops.CreateFile(b"directory/file", b"content", 0o644),
    ops.MakeDirectory(b"another", 0o755),  # some tools leave out the only directory at the top
)


class Unusable(HarnessError):
    """The driver refuses a step of the preflight or fails in it; the text is for whoever called the command."""


@dataclass(slots=True)
class _Steps:
    """What is being done, in words."""

    now: str = "open an empty home"


def preflight(fixtures: Fixtures) -> TestOutcome | None:
    """Try the driver on the first backing filesystem that can hold layers.

    None if it can be judged, a failed outcome if it deviates from a requirement. Raises Unusable if it refuses or
    fails; where the host mounts nothing, a refusal says nothing about the driver, and is ignored. Where no
    filesystem can hold layers, nothing is tried, and each test says why.
    """
    place = _place(fixtures.session)
    if place.unfit and "overlay" not in fixtures.source.info.declined:
        return None
    # It asks whether the driver can be used at all, and a deviation is that of the tree.
    bench = BackingBench(fixtures, place, _DIRECTORY, shrinks=False, watched=False)
    steps = _Steps()
    mounts = "mounts" not in fixtures.session.lacking or not bench.has("layer-store")
    fixtures.watch.restart()
    try:
        _try(bench, steps, mounts)
    except (Leak, SharedUpper):
        return None  # a driver can be judged by much else; requirements of their own say it
    except Deviation as deviation:
        return _outcome(fixtures, place, steps, deviation)
    except DriverFailed as failed:
        raise Unusable(_in_words(fixtures, steps, "failed in", str(failed), failed.detail)) from failed
    except DriverRefused as refused:
        if not mounts:
            return None
        raise Unusable(_in_words(fixtures, steps, "refused", str(refused))) from refused
    return None


def _try(bench: BackingBench, steps: _Steps, mounts: bool) -> None:
    with bench.store() as store:
        steps.now = "create a layer"
        store.create("base")
        if mounts:
            _write(store, "base", steps)
            steps.now = "create a child of the layer"
            store.create("child", "base")
            _write(store, "child", steps)
            steps.now = "remove the child"
            store.do(Remove("child"))
        steps.now = "remove the layer"
        store.do(Remove("base"))
        steps.now = "close the home"


def _write(store: RecordedStore, layer_id: str, steps: _Steps) -> None:
    steps.now = f"get the tree of the layer '{layer_id}', write into it, and put it"
    layer = layer_id.encode()
    names = {
        b"directory": b"of-" + layer,
        b"directory/file": b"of-%b/file" % layer,
        b"another": b"another-of-" + layer,
    }
    store.change(layer_id, [replace(one, path=names[one.path]) for one in _FILES])
    steps.now = f"get the tree of the layer '{layer_id}' again, read it, and put it"
    store.shows_model(layer_id)


def _place(session: Session) -> Place:
    """The first backing filesystem that can hold layers; the one under the run's directory if no other can."""
    usable = [place for place in session.places if not place.missing and not place.unfit]
    return usable[0] if usable else Place(HOST, session.stores, session.unfit)


def _in_words(fixtures: Fixtures, steps: _Steps, did: str, said: str, detail: str = "") -> str:
    """Why nothing was judged: the step, the driver's own words, and what to do next."""
    info = fixtures.source.info
    version = "" if info.version in ("", "unknown") else f" (version {info.version})"
    lines = [
        f"{fixtures.session.driver} cannot be judged: the driver{version} {did} a step of the preflight",
        f"  step: {steps.now}",
        *_indented("  said: ", said.strip() or "nothing"),
    ]
    if detail.strip():
        lines += _indented("        ", "\n".join(detail.strip().splitlines()[-_DETAIL_LINES:]))
    driver = shlex.quote(fixtures.session.driver)
    following = fixtures.source.next_step or f"overlay-conformance validate-adapter {driver}: adapter or driver?"
    return "\n".join([*lines, *_indented("  next: ", following)])


def _indented(first: str, text: str) -> Sequence[str]:
    lines = text.splitlines() or [""]
    return [first + lines[0], *(" " * len(first) + line for line in lines[1:])]


def _outcome(fixtures: Fixtures, place: Place, steps: _Steps, deviation: Deviation) -> TestOutcome:
    filled = "writable-layers" in fixtures.source.info.declined
    requirements = deviation.requirements or (_FILLED if filled else _WRITTEN,)
    reason = f"preflight ({steps.now}): {deviation}"
    history = fixtures.history
    case = Case(
        test=PREFLIGHT,
        requirements=requirements,
        backing=place.backing,
        driver=fixtures.session.driver,
        reason=reason,
        drawn=(),
        steps=tuple(history.steps),
        finding=deviation.finding,
        directory=place.directory,
    )
    seconds, in_driver = fixtures.watch.seconds()
    return TestOutcome(
        PREFLIGHT,
        requirements,
        Verdict.FAIL,
        reason,
        trace(history.steps),
        place.backing,
        round(seconds, 4),
        round(in_driver, 4),
        facts=history.facts(),
        case=_as_json(case),
        cause=cause_of(deviation, history.steps),
    )


def _as_json(case: Case) -> dict[str, object] | None:
    try:
        return case.as_json()
    except TypeError:  # something in it has no form
        return None
