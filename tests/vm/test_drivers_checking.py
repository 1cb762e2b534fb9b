"""Reproducers of the data: each is run by itself, and names nothing of the machine that it was recorded on."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner

from conformance.cli import main
from vm.drivers import checking
from vm.drivers.builds import BadBuilds, Build, Builds, Root, load
from vm.drivers.data import Judged, all_of

DATA: Final = Path(__file__).parent.parent.parent / "docs/drivers"
# What a machine adds to a path: where roots are unpacked, and homes of users.
_OF_A_MACHINE: Final = re.compile(r"\S*(?:/overlay-conformance/drivers/|/root/|/home/)\S*")


@pytest.fixture(scope="module")
def published() -> list[Judged]:
    return all_of(load(), DATA)


def checked(published: list[Judged], tmp_path: Path, **scripts: str) -> dict[str, checking.Checked]:
    """These scripts as the reproducers of a build without roots."""
    build = Build("alone", "alone", (), "python:alone:Driver")
    judged = replace(published[0], build=build, scripts=scripts)
    found = checking.check(judged, Builds(1, load().question, (build,)), tmp_path)
    return {one.folder: one for one in found}


@pytest.mark.mounts
def test_a_reproducer_has_an_empty_environment_and_writes_to_its_directory_only(
    published: list[Judged], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_THIS_SHELL", "1")
    outside = tmp_path / "outside"
    found = checked(
        published,
        tmp_path,
        deviates="echo DEVIATES; exit 1",
        does_not="echo nothing; exit 0",
        cannot="exit 2",
        environment=f"touch {outside} 2>/dev/null && echo outside; env | cut -d= -f1 | sort | xargs echo; exit 1",
    )
    assert {name: one.status for name, one in found.items()} == {
        "deviates": 1,
        "does_not": 0,
        "cannot": 2,
        "environment": 1,
    }
    assert [name for name, one in found.items() if one.reproduces] == ["deviates", "environment"]
    assert found["deviates"].last == "DEVIATES"
    assert "OF_THIS_SHELL" not in found["environment"].last
    assert not {"HOME", "USER", "SHELL"} & set(found["environment"].last.split())
    assert not outside.exists()


@pytest.mark.mounts
def test_a_reproducer_that_does_not_end_is_none(
    published: list[Judged], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "_LIMIT", 1)
    (found,) = checked(published, tmp_path, endless="echo begun; exec sleep 1000").values()
    assert (found.status, found.last, found.reproduces) == (124, "begun", False)


def test_a_build_that_is_not_here_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OVERLAY_CONFORMANCE_CACHE", str(tmp_path))
    said = CliRunner().invoke(main, ["drivers", "check", "containerd-2.1-native", "--data", str(DATA)])
    assert said.exit_code == 2
    assert "containerd-2.1 is not here; run 'overlay-conformance drivers fetch'" in said.output


def test_no_reproducer_names_a_path_of_the_machine_where_it_was_recorded(published: list[Judged]) -> None:
    assert sum(len(one.scripts) for one in published) > 100
    for one in published:
        for folder, text in one.scripts.items():
            lines = [line for line in text.splitlines() if not line.startswith("#")]
            assert _OF_A_MACHINE.findall("\n".join(lines)) == [], f"{one.build.name}: {folder}"


REPORT: Final = """\
# A title

- version: true 1 (Debian)

```sh
#!/bin/sh
T=$(mktemp -d); cd "$T"
echo "$T" "${HOME-no home}"; echo content | sha256sum
ls -l --full-time --time-style=long-iso "$0" | cut -d' ' -f6-7
exit 1
```

Output (2026-11-27):

```text
/tmp/tmp.x1Yz no home
434728a410a78f56fc1b5899c3593436e61ab0c731e9072d95e96db290205e53  -
2026-11-27 00:15
```
"""


@pytest.mark.mounts
@pytest.mark.parametrize(
    ("old", "new", "last"),
    [
        ("", "", None),
        ("x1Yz no home", "x1Yz /root", "exit status 1, and another output: DIRECTORY no home"),
        ("2026-11-27 00:15\n", "", "exit status 1, and another output: TIME"),
        ("00:15\n```", "00:15\nmore\n```", "exit status 1, and another output: lines are missing"),
    ],
)
def test_a_report_is_shown_by_its_output(tmp_path: Path, old: str, new: str, last: str | None) -> None:
    report = tmp_path / "report.md"
    report.write_text(REPORT.replace(old, new) if old else REPORT)
    known = [Root("true-1", "sid", "true", "1", "0" * 64, "https://example.org")]
    found = checking.check_report(report, known, tmp_path)
    assert (found.reproduces, found.last) == (last is None, last or "")


def test_a_report_without_a_script_is_refused(tmp_path: Path) -> None:
    report = tmp_path / "report.md"
    report.write_text(REPORT.replace("#!/bin/sh", ""))
    known = [Root("true-1", "sid", "true", "1", "0" * 64, "https://example.org")]
    with pytest.raises(BadBuilds, match="a script and its output"):
        checking.check_report(report, known, tmp_path)
