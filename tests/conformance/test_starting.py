"""A worker starts without its garbage being collected, and serves with it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from conformance.harness.events import Event
from conformance.harness.following import follow

STARTS = """
import gc, json, sys
token = sys.stdin.readline().strip()
said = [__name__, sys.argv[1:], __spec__.name, gc.isenabled(), gc.get_freeze_count()]
print(token, json.dumps({"event": "failed", "message": json.dumps(said)}), flush=True)
"""
SERVES = """
import gc
from dataclasses import dataclass

from conformance.harness.events import Failed
from conformance.harness.serving import serve


@dataclass(frozen=True)
class Asked:
    parent: int


def run(task, channel):
    channel.tell(Failed(f"{gc.isenabled()} {gc.get_freeze_count() > 10_000}"))


serve(Asked, run)
"""


class Silent:
    def hear(self, event: Event) -> None: ...


def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, task: Mapping[str, int]) -> str:
    (tmp_path / "anyworker.py").write_text(body)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    return follow("anyworker", task, Silent()).failure


def test_a_worker_is_the_main_module_and_imports_without_collecting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert said(tmp_path, monkeypatch, STARTS, {}) == '["__main__", [], "anyworker", false, 0]'


def test_a_worker_that_serves_collects_what_it_makes_from_then_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert said(tmp_path, monkeypatch, SERVES, {"parent": os.getpid()}) == "True True"
