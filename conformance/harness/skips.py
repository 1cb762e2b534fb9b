"""Why a test is left without a verdict: the first words of the reason of a skip."""

from __future__ import annotations

import pytest

DECLINED = "declined: "
NOT_APPLICABLE = "not applicable: "
UNTESTED = "untested: "


def not_applicable(reason: str) -> None:
    """Leave a test, because this kernel, filesystem or privilege level cannot show what it is about."""
    pytest.skip(NOT_APPLICABLE + reason)
