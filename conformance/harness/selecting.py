"""Tests as items of pytest: what they declare, which of them run, in which order, and with which settings."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

import pytest
from hypothesis import HealthCheck, Phase, settings

from conformance.harness.place import Place
from conformance.harness.session import Session
from conformance.spec import VARIES, Requirement

_RARE: Final = frozenset(("xfs-quota", "reset"))  # what a host or a machine has to be made for
_UNSHRUNK: Final = "conformance_unshrunk"
_MARKERS: Final = {"smoke": ("smoke",), "quick": ("smoke", "quick")}  # of the tests of profiles that are a choice


def load_settings(examples: int, *, shrinks: bool = True) -> None:
    """Set hypothesis up; tests that are imported afterwards are run so."""
    _draw_alike_wherever_installed()
    settings.register_profile(
        "conformance",
        max_examples=examples,
        deadline=None,  # a slow driver is not a wrong one
        database=None,
        print_blob=False,
        report_multiple_bugs=False,
        phases=(Phase.explicit, Phase.generate, *([Phase.shrink] if shrinks else [])),
        suppress_health_check=list(HealthCheck),
    )
    settings.load_profile("conformance")


def _draw_alike_wherever_installed() -> None:
    """Keep hypothesis from drawing constants of the source files that it takes for the user's own.

    Those are the suite's where it is a checkout, and none where it is installed, so that one seed would draw other
    examples here than there. hypothesis has no setting for it; a version without this function draws as it does.
    """
    with suppress(ImportError):
        providers = importlib.import_module("hypothesis.internal.conjecture.providers")
        if hasattr(providers, "is_local_module_file"):
            setattr(providers, "is_local_module_file", lambda _path: False)  # noqa: B010 - a private name


def name_of(item: pytest.Item) -> str:
    """The name of a test without its backing filesystem, as cases have it."""
    backing = re.escape(place_of(item).backing)
    return re.sub(rf"\[{backing}\]|(?<=\[){backing}-|-{backing}(?=\])", "", item.name, count=1)


def requirements_of(item: pytest.Item) -> tuple[str, ...]:
    """The ids that a test declares."""
    return tuple(one for marker in item.iter_markers("requirement") for one in marker.args)


def draws(item: pytest.Item) -> bool:
    """Whether a test draws its examples, by @given or by itself."""
    given = getattr(getattr(item, "obj", None), "is_hypothesis_test", False)
    return given or item.get_closest_marker("drawn") is not None


def place_of(item: pytest.Item) -> Place:
    """The backing filesystem that a test is run on."""
    found = getattr(item, "callspec", None)
    place = found.params.get("bench") if found else None
    return place if isinstance(place, Place) else Place("", "")


def is_selected(session: Session, item: pytest.Item) -> bool:
    """Whether a test runs: it declares a selected requirement, and is in the profile or in what is replayed."""
    if not set(session.selected) & set(requirements_of(item)):
        return False
    replay = session.replay
    if replay.only:
        return name_of(item) in replay.cases
    if item.name in replay.settled:
        return False
    if session.profile in _MARKERS:
        return any(item.get_closest_marker(one) for one in _MARKERS[session.profile])
    return session.profile == "release" or item.get_closest_marker("release") is None


def narrowness(
    known: Mapping[str, Requirement], tests: Mapping[str, int], item: pytest.Item
) -> tuple[int, bool, int, str]:
    """0 for what varies with kernel, filesystem and overlay's parameters, up to 3 for what varies with nothing.

    Of what varies as much, that comes first which few machines can judge, and of that, what has few ``tests``: a
    requirement has a verdict when the last of its tests has one, so they are kept together, too.
    """
    found = [known[one] for one in requirements_of(item) if one in known]
    common = not any(_RARE & set(one.needs) for one in found)
    least = min(found, key=lambda one: (tests[one.id], one.id))
    return len(VARIES) - max(len(one.varies) for one in found), common, tests[least.id], least.id


def do_not_shrink(item: pytest.Item) -> None:
    """Leave the failure of a property as it is found, for a failure that is known."""
    test = getattr(item, "obj", None)
    # One function is the test of several items, and of several rounds, and takes settings once.
    if getattr(test, "is_hypothesis_test", False) and not hasattr(test, _UNSHRUNK):
        setattr(test, _UNSHRUNK, True)
        settings(settings.get_profile("conformance"), phases=(Phase.explicit, Phase.generate))(test)
