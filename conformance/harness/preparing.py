"""The session of a run, from the options of pytest."""

from __future__ import annotations

import json
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from conformance.drivers.registry import writable_of
from conformance.harness.host import prepare
from conformance.harness.session import Replay, Session, Wish
from conformance.lab import namespace
from conformance.lab.scratch import scratch_directory
from conformance.spec import load_requirements
from conformance.spec.naming import suggestion
from conformance.spec.profiles import EXAMPLES
from conformance.spec.values import from_plain

# Options that name a path: of pytest, of its plugins for HTML, report logs and JSON, and of the suite.
_REPORTS: Final = (
    *("xmlpath", "basetemp", "log_file", "htmlpath", "report_log", "json_report_file"),
    "conformance_evidence",
)


def prepared(config: pytest.Config, stack: ExitStack) -> Session:
    """The session; what was made for it ends with ``stack``. Raises pytest.UsageError and UnknownDriver."""
    known = load_requirements()
    chosen = tuple(config.getoption("requirement")) or tuple(known)
    for one in chosen:
        if one not in known:
            said = suggestion(one, known)
            raise pytest.UsageError(f"no requirement {one}{said}; 'overlay-conformance list' shows all")
    profile = config.getoption("conformance_profile")
    examples = config.getoption("conformance_examples") or EXAMPLES[profile]
    wish = Wish(
        config.getoption("driver"),
        profile,
        examples,
        chosen,
        tuple(config.getoption("backing")),
        config.getoption("conformance_deadline"),
        _replay(config.getoption("conformance_replay")),
        writable_of(config.getoption("driver")),
        config.getoption("conformance_call_timeout"),
        not config.getoption("conformance_no_shrink"),
    )
    directory = config.getoption("conformance_directory")
    if directory is None:
        parent = config.getoption("conformance_scratch") or tempfile.gettempdir()
        directory = stack.enter_context(scratch_directory(Path(parent)))
        wish = replace(wish, writable=(Path(directory), *wish.writable, *_written_by_pytest(config)))
        config.option.conformance_directory = str(directory)
    else:
        wish = replace(wish, writable=(Path(directory).parent, *wish.writable))  # of the worker, with its own files
    scratch = Path(directory)
    stack.callback(namespace.unmount_below, scratch)
    return prepare(wish, scratch)


def _written_by_pytest(config: pytest.Config) -> list[Path]:
    """Where pytest and its plugins write: reports, caches and what they leave beside the tests.

    "/" is not among them, whoever starts pytest there: all else would be writable with it.
    """
    files = [config.getoption(name, None) for name in _REPORTS]
    named = [config.invocation_params.dir / one for one in files if isinstance(one, (str, Path)) and one]
    existing = [next(one for one in path.resolve().parents if one.is_dir()) for path in named]
    places = [config.invocation_params.dir, config.rootpath, *existing]
    return [one for one in dict.fromkeys(one.resolve() for one in places) if one != Path("/")]


def _replay(file: str | None) -> Replay:
    return from_plain(Replay, json.loads(Path(file).read_text())) if file else Replay()
