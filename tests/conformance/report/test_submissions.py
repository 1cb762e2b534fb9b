"""Submissions: what is accepted, and each way in which one is refused."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner
from making import RUN

from conformance.cli import main
from conformance.report import records, submissions
from conformance.report.records import Part
from conformance.spec import is_core, load_capabilities, load_requirements
from conformance.spec.verdicts import TestOutcome, Verdict

SUITE = "0.5.0"
PRODUCT = """\
format = 1
name = "Alpha"
version = "1.0"
website = "https://example.org/alpha"
contact = "https://example.org/alpha/issues"
results-sha256 = "{}"
"""
REPRODUCE = """\
# Alpha 1.0

## Reproduce

```sh
overlay-conformance run python:alpha:Driver --seed 7 --results results.jsonl
```
"""
REQUIREMENTS = load_requirements()
MUST = [one.id for one in REQUIREMENTS.values() if one.level == "MUST"]
CORE = [name for name in MUST if is_core(REQUIREMENTS[name], load_capabilities())]
COMPLETE = replace(
    RUN,
    suite=SUITE,
    specification=records.digest_of(REQUIREMENTS),
    connection="python:alpha:Driver",
    driver="alpha",
    version="1.0",
    examples=10,
    profile="standard",
    seed=7,
    backings=("ext4",),
    selected=tuple(REQUIREMENTS),
    notes=("a note of the run",),
    declined={},
    seconds=1.5,
)
Change = Callable[[Path], None]


def written(directory: Path, *parts: Part) -> Path:
    directory.mkdir()
    records.write(directory / "results.jsonl", parts)
    (directory / "README.md").write_text(REPRODUCE)
    sign(directory)
    return directory


def sign(directory: Path) -> None:
    digest = hashlib.sha256((directory / "results.jsonl").read_bytes()).hexdigest()
    (directory / "product.toml").write_text(PRODUCT.format(digest))


def complete(verdicts: Mapping[str, Verdict | None] | None = None, **changes: Any) -> Part:
    """All requirements pass, but those that are named; None is one without a test."""
    said: dict[str, Verdict | None] = {**dict.fromkeys(REQUIREMENTS, Verdict.PASS), **(verdicts or {})}
    outcomes = [
        TestOutcome(f"test_it[{name}]", (name,), verdict, "" if verdict is Verdict.PASS else "why", backing="ext4")
        for name, verdict in said.items()
        if verdict
    ]
    return Part(replace(COMPLETE, **changes), tuple(outcomes))


def refused(directory: Path) -> str:
    return "\n".join(submissions.check(directory, SUITE).refused)


def test_a_complete_submission_is_accepted(tmp_path: Path) -> None:
    directory = written(tmp_path / "alpha", complete())
    checked = submissions.check(directory, SUITE)
    assert checked.refused == ()
    assert checked.statement
    assert checked.statement.conclusion == "conformant"
    product = tomllib.loads((directory / "product.toml").read_text())
    jsonschema.validate(product, json.loads(submissions.SCHEMA.read_text()))


def test_a_driver_that_is_not_conformant_may_be_submitted(tmp_path: Path) -> None:
    checked = submissions.check(written(tmp_path / "alpha", complete({MUST[0]: Verdict.FAIL})), SUITE)
    assert checked.refused == ()
    assert checked.statement
    assert checked.statement.failed == (MUST[0],)


@pytest.mark.parametrize("verdict", [Verdict.DECLINED, Verdict.NOT_APPLICABLE, None])
@pytest.mark.parametrize("fails", [False, True])
def test_core_requirements_cannot_be_skipped(tmp_path: Path, verdict: Verdict | None, fails: bool) -> None:
    """Nor beside a failure, which decides the statement."""
    part = complete({CORE[3]: verdict, **({CORE[0]: Verdict.FAIL} if fails else {})})
    assert refused(written(tmp_path / "alpha", part)) == f"1 core requirements were left out: {CORE[3]}"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"suite": "0.4.0"}, "the results are of version 0.4.0 of the suite"),
        ({"specification": "0" * 12}, "specification 000000000000"),
        ({"version": "unknown"}, "the results name no version of alpha"),
        ({"version": "2.0"}, "product.toml: version is '1.0', and the results are of '2.0'"),
        ({"examples": 2}, "a run tried 2 examples"),
        ({"profile": "smoke"}, "the profile smoke leaves out tests"),
        ({"expression": "not x"}, "the option -k 'not x' left out tests"),
        ({"failure": "interrupted by SIGINT"}, "a run was interrupted"),
        ({"stopped": "stopped after 1 failure"}, "stopped after 1 failure"),
        ({"seed": 8}, "do not have '--seed 8'"),
        ({"connection": "python:beta:Driver"}, "do not have 'python:beta:Driver'"),
    ],
)
def test_results_that_say_too_little_are_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    assert said in refused(written(tmp_path / "alpha", complete(**changes)))


def edit(name: str, old: str, new: str, *, signed: bool = True) -> Change:
    def change(directory: Path) -> None:
        text = (directory / name).read_text()
        assert old in text
        (directory / name).write_text(text.replace(old, new, 1))
        if signed:
            sign(directory)

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (edit("results.jsonl", '"kernel": "6.1.0"', '"kernel": "6.9.0"'), "its id is"),
        (edit("results.jsonl", '"verdict": "PASS"', '"verdict": "DECLINED"'), "it does not follow from the runs"),
        (edit("results.jsonl", '"declined": {}', '"declined": {"diff": "no"}'), "the file was edited"),
        (edit("results.jsonl", '"FAIL": 0', '"FAIL": 1'), "the file was edited"),
        (edit("results.jsonl", '{"record": "outcome"', '\n{"record": "outcome"'), "this is not a line"),
        (edit("results.jsonl", '"seconds": 1.5', '"seconds": 1.50', signed=False), "the file was edited"),
        (
            edit("results.jsonl", '"a note of the run"', '"another"', signed=False),
            "results-sha256 is not the digest",
        ),
        (edit("product.toml", "format = 1", "format = 2", signed=False), "product.toml: format"),
        (edit("product.toml", "website", "web", signed=False), "there is no key web; "),
        (edit("product.toml", "https://example.org/alpha", "example", signed=False), "website is 'example'"),
        (edit("product.toml", '"Alpha"', '""', signed=False), "name is ''"),
        (edit("product.toml", '"Alpha"', "Alpha", signed=False), "product.toml: "),
        (edit("README.md", "## Reproduce", "## How"), "has no section '## Reproduce'"),
        (edit("README.md", "--seed 7", ""), "do not have '--seed 7'"),
        (lambda directory: (directory / "README.md").unlink(), "README.md is missing"),
        (lambda directory: (directory / "product.toml").unlink(), "product.toml is missing"),
    ],
)
def test_a_changed_submission_is_refused(tmp_path: Path, change: Change, said: str) -> None:
    directory = written(tmp_path / "alpha", complete())
    change(directory)
    assert said in refused(directory)


def test_a_submission_is_of_one_version(tmp_path: Path) -> None:
    directory = written(tmp_path / "alpha", complete(), complete(version="1.1"))
    assert (
        refused(directory)
        == "a submission is of one driver in one version; results.jsonl has alpha 1.0 and alpha 1.1"
    )


def test_the_command_says_why_and_has_a_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda name: {"overlay-conformance": SUITE}[name])
    good, bad = written(tmp_path / "good", complete()), written(tmp_path / "bad", complete(examples=1))
    runner = CliRunner()
    done = runner.invoke(main, ["submission", "check", str(good)])
    assert done.exit_code == 0
    accepted = f"{good}: accepted: alpha 1.0: conformant, as every core requirement passed, and none of level MUST"
    assert done.output == f"{accepted} failed\n"
    done = runner.invoke(main, ["submission", "check", str(bad), str(good)])
    assert done.exit_code == 1
    assert done.output.startswith(f"{bad}: refused: a run tried 1 example for each property only")
    assert accepted in done.output
    assert json.loads(runner.invoke(main, ["schema", "--product"]).stdout) == json.loads(
        submissions.SCHEMA.read_text()
    )
