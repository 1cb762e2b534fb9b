"""Results of benchmarks: what is read, and what the page draws of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import jsonschema
import pytest
from click.testing import CliRunner
from making import RUN

from conformance.cli import main
from conformance.report import records, speedfile
from conformance.report.page import page
from conformance.report.records import Part
from conformance.report.speedfile import Benchmarks, Fit, Growth, Peer, Point, Ratio
from conformance.spec.values import as_plain

if TYPE_CHECKING:
    from tests.conformance.report.conftest import Samples, Window

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results"


def peer(name: str, median: float, minimum: float, maximum: float) -> Peer:
    ratio = Ratio(median, minimum, maximum)
    return Peer(name, "GNU tar", "tmpfs", 0.5, ratio, ratio, (), ())


def measured(*peers: Peer, name: str = "diff") -> Benchmarks:
    points = (Point(1000, 0.01), Point(2000, 0.02), Point(4000, 0.04))
    growth = (Growth(name, "files", points, Fit(0.0, 1e-5, 0.01)),)
    where = ("a processor", 0.25, "6.18.44", "3.11.7", 0.5, "2026-11-27T00:00:00+00:00")
    return Benchmarks(3, *where, (), peers, growth, ())


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.name)
def test_what_is_committed_is_read_and_as_the_schema_says(path: Path) -> None:
    assert len(speedfile.read(path).peers) > 10
    jsonschema.validate(json.loads(path.read_text()), json.loads(speedfile.SCHEMA.read_text()))


@pytest.mark.parametrize("change", [{}, {"version": 2}, {"peers": [{"name": "x"}]}, {"colour": "red"}])
def test_another_file_is_refused_before_a_page_is_written(tmp_path: Path, change: dict[str, object]) -> None:
    file, html, results = (tmp_path / name for name in ("b.json", "page.html", "results.jsonl"))
    file.write_text(json.dumps(as_plain(measured()) | change))
    records.write(results, [Part(RUN, ())])
    told = CliRunner().invoke(main, ["report", str(results), "--benchmarks", str(file), "--html", str(html)])
    assert html.exists() is not bool(change)
    if change:
        assert told.exit_code == 1
        assert f"{file} is no result of 'python -m benchmarks --json'" in told.stderr
    else:
        assert told.exit_code == 0, told.stderr
        assert "a processor, kernel 6.18.44" in html.read_text()


def test_the_page_draws_ratios_around_one_and_how_times_grow(window: Window, samples: Samples) -> None:
    text = samples.hostile[0]
    speed = measured(
        peer("fast", 0.5, 0.25, 1.0), peer("slow", 2.0, 1.0, 4.0), peer(text, 1.0, 1.0, 1.0), name=text
    )
    (window.folder / "speed.html").write_text(page(samples.one(), {}, speed=speed), encoding="ascii")
    window.open("speed")
    window.js("for (const one of $$('details')) one.open = true")
    rows = window.js("return $$('#speed tbody tr').map((row) => row.innerText)")
    assert len(rows) == 4
    assert "0.50 (0.25 to 1.00)" in rows[0]
    assert "1000: 10 ms, 2000: 20 ms, 4000: 40 ms" in rows[3]
    at = [float(one) for one in window.js("return $$('#speed circle').map((one) => one.getAttribute('cx'))")]
    same = float(window.js("return $$('#speed .same')[0].getAttribute('x1')"))
    assert same - at[0] == pytest.approx(at[1] - same, abs=0.2), "half and double are equally far from 1"
    assert at[2] == same
    assert at[0] < same < at[1]
    assert window.js("return $$('#speed circle').map((one) => one.getAttribute('class'))") == [
        *("faster", "slower", "faster")
    ]
    assert window.find("#speed circle").is_displayed()
    assert window.js("return $$('#speed polyline').length") == 1
    assert "3 comparisons" in window.find("#speed summary").text
    assert window.js("return $$('img, b').length") == 0
    assert window.log("browser") == []
    window.open("one")
    assert not window.find("#speed").is_displayed()
