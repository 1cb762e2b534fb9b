"""What builds need beside their command: files, preparation, and a service that runs as long as the judging."""

from __future__ import annotations

import os
import re
import shlex
import socket
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from conformance.report import records
from conformance.report.records import Part
from vm.drivers import judging
from vm.drivers.builds import Build, Builds, load
from vm.drivers.data import all_of, keep, read
from vm.drivers.judging import NotJudged, Place

DATA: Final = Path(__file__).parent.parent.parent / "docs/drivers"
_LISTENS: Final = """\
import socket, sys
with socket.socket(socket.AF_UNIX) as found:
    found.bind(sys.argv[1])
    found.listen()
    while True:
        found.accept()[0].close()
"""
BUILD: Final = Build(
    "served",
    "served",
    (),
    "containerd:served?proxy={dir}/sock&writable={dir}",
    files={"listens.py": _LISTENS, "where": "{dir}/made"},
    before='test "$PWD" = {dir} && touch "$(cat where)"',
    service=f"{shlex.quote(sys.executable)} {{dir}}/listens.py {{dir}}/sock",
    socket="{dir}/sock",
)


def test_a_service_listens_as_long_as_the_judging(tmp_path: Path) -> None:
    with judging.around(BUILD, dict(os.environ)) as directory:
        assert (directory / "made").exists()
        assert (
            BUILD.connection_in(tmp_path, directory)
            == f"containerd:served?proxy={directory}/sock&writable={directory}"
        )
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(f"{directory}/sock")
        builds = Builds(1, load().question, (BUILD,))
        words = judging._command(BUILD, builds, Place(tmp_path, tmp_path), directory)
        assert "--no-evidence" in words  # its reproducers would need the service
    assert not directory.exists()
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert str(directory) not in process.read_text()
        except OSError:
            continue


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (replace(BUILD, before="echo no >&2; false"), "served: 'before' failed: no"),
        (
            replace(BUILD, service="sh -c 'echo no; exit 1'"),
            r"served: its service does not listen on \{dir\}/sock: no",
        ),
    ],
)
def test_a_build_that_cannot_be_prepared_is_not_judged(build: Build, says: str) -> None:
    with pytest.raises(NotJudged, match=says), judging.around(build, dict(os.environ)):
        pytest.fail("it was judged")


def test_a_connection_names_the_directory_of_a_run_only_where_there_is_one() -> None:
    for one in load().build:
        said = "".join((one.connection, one.before, one.service, one.socket))
        assert one.is_alone == (not re.search(r"\{(dir|root:)", said) and not one.before)
        assert bool(one.service) == bool(one.socket)


def test_what_is_kept_names_no_path_and_no_suffix_of_this_machine(tmp_path: Path) -> None:
    builds = load()
    build = replace(builds.build[0], connection="containerd:x?proxy={dir}/sock")
    published = next(one for one in all_of(builds, DATA) if one.scripts)
    failing = next(one for one in published.part.outcomes if one.evidence in published.scripts)
    said = (
        "of /x/cache/drivers/containerd-2.1/usr/bin/ctr at /tmp/overlay-conformance-build-a1_b/sock on 6.1.2-here3"
    )
    run = replace(published.part.run, kernel="6.1.2-here3", connection="containerd:x?proxy=/tmp/x", driver="x")
    records.write(tmp_path / "results.jsonl", [Part(run, (replace(failing, reason=said, steps=(said,)),))])
    (tmp_path / failing.evidence).mkdir(parents=True)
    (tmp_path / failing.evidence / "repro.sh").write_text(f"# {said}\n")
    keep(build, tmp_path, tmp_path / "data", ())
    found = read(build, builds, tmp_path / "data")
    assert found
    (outcome,) = found.part.outcomes
    plain = "of {root:containerd-2.1}/usr/bin/ctr at {dir}/sock on 6.1.2"
    assert (outcome.reason, outcome.steps) == (plain, (plain,))
    assert found.scripts == {failing.evidence: f"# {plain}\n"}
    assert (found.part.run.kernel, found.part.run.connection) == ("6.1.2", build.connection)
