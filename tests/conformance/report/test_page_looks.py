"""How the page looks, in the browser that it is for, and what it shows of a selftest."""

from __future__ import annotations

import re
import statistics
from typing import TYPE_CHECKING

import pytest

from conformance.report.killfile import KillReport, Selftest
from conformance.report.page import page
from conformance.selftest.alarms import Alarm, Choice, Hearing, Standing
from conformance.selftest.kills import Fate, KillMatrix, Specimen, Trial

if TYPE_CHECKING:
    from tests.conformance.report.conftest import Samples, Window

pytestmark = pytest.mark.slow  # a browser

PAGES = ("one", "three", "sixty", "bad")


# ---- What came of a selftest.


def test_the_page_shows_mutants_and_false_alarms(window: Window, samples: Samples) -> None:
    text = samples.hostile[0]
    about = Selftest(
        *("0.3.0", "0123456789ab", "refdriver:Driver", "0.3.0", "6.1.0", "m", "standard", 10, (1,), 1, 60.0),
        *(False, True, "2026-11-25T00:00:00+00:00", 12.5),
    )
    mutant = Specimen("Wrong", (samples.must[0],), text, "moby/moby#23863")
    matrix = KillMatrix((mutant,), (Trial("Wrong", 1, Fate.SURVIVED, reason=text),), "standard")
    choices = tuple(Choice(name, text, "a manual", ("OVL-DIFF",)) for name in ("Good", "Bad"))
    alarm = Alarm((samples.must[1],), "test_it", text)
    hearings = (Hearing("Good", 1, Standing.CONFORMS, 7), Hearing("Bad", 1, Standing.FALSE_ALARM, 6, (alarm,)))
    report = KillReport(about, matrix, choices=choices, hearings=hearings)
    (window.folder / "kills.html").write_text(page(samples.one(), {}, kills=report), encoding="ascii")
    window.open("kills")
    rows = "return $$(`#${arguments[0]} tbody tr`).map((row) => row.innerText)"
    window.js("for (const one of $$('details')) one.open = true")
    (wrong,) = window.js(rows, "kills")
    good, bad = window.js(rows, "choices")
    assert "SURVIVED" in wrong
    assert ("CONFORMS" in good, "7" in good, "a manual" in good) == (True, True, True)
    assert "FALSE-ALARM" in bad
    assert f"{samples.must[1]}, test_it: {text}" in bad
    assert "2 variants, 1 false alarm" in window.find("#choices summary").text
    assert window.js("return $$('img, b').length") == 0
    assert window.log("browser") == []
    window.open("one")
    assert not window.find("#choices").is_displayed()


# ---- How it looks.


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_is_cut_off(window: Window, name: str, width: int) -> None:
    window.open(name, width=width)
    window.js("$$('details').forEach((one) => { one.open = true; })")
    assert window.js("return document.documentElement.scrollWidth") <= width
    window.js("document.getElementById('matrix').scrollIntoView()")
    cut = window.js(
        "return $$('#matrix td .v, .key .v').filter((one) => one.checkVisibility({contentVisibilityAuto: true})"
        " && (one.scrollWidth > one.clientWidth || one.scrollHeight > one.clientHeight)).length"
    )
    assert cut == 0
    window.js("document.querySelector('#matrix td button').click()")
    assert window.js("const box = document.querySelector('dialog'); return box.scrollWidth - box.clientWidth") <= 0
    assert window.js("return document.documentElement.scrollWidth") <= width


def test_at_400_px_the_first_column_is_the_id_and_stays(window: Window) -> None:
    window.open("sixty", width=400)
    assert window.js("return $$('#matrix tr.row .sentence').slice(0, 9).every((one) => !one.checkVisibility())")
    assert window.js("return document.querySelector('#matrix tr.row th').offsetWidth") < 160
    window.js("document.getElementById('matrix').scrollLeft = 600")
    place = "const at = (of) => document.querySelector(of).getBoundingClientRect().left;"
    assert window.js(place + "return at('#matrix tr.row th') - at('#matrix')") <= 1


def test_a_failed_should_looks_other_than_a_failed_must(window: Window) -> None:
    window.open("one")
    (must, red), (should, paper) = window.js(
        "return ['MUST', 'SHOULD'].map((level) => {"
        " const style = getComputedStyle(document.querySelector(`#matrix .FAIL.${level}`));"
        " return [style.borderTopStyle, style.backgroundColor]; })"
    )
    assert (must, should) == ("solid", "dashed")
    assert red != paper


def test_with_one_column_a_failure_says_why_beside_its_sentence(window: Window, samples: Samples) -> None:
    window.open("one")
    said = window.js("return $$('#matrix .why').map((one) => one.textContent)")
    assert sorted(said) == sorted(f"{name}:" for name in (samples.must[1], samples.should[0]))
    places = window.js(
        "return $$('#matrix tr.row:nth-child(2) > *').map((one) => one.getBoundingClientRect().left)"
    )
    assert places[1] < places[0]  # the verdict is first, where one looks first


def luminance(colour: str) -> float:
    channels = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_have_the_contrast_that_wcag_aa_asks_for(window: Window, samples: Samples, scheme: str) -> None:
    window.open("three", f"#cell={samples.must[0]}.2", scheme=scheme)
    colours = window.js(
        "const ground = (one) => { const said = getComputedStyle(one).backgroundColor;"
        " return said === 'rgba(0, 0, 0, 0)' ? ground(one.parentElement) : said; };"
        "const all = '.v, .level, .sentence, .summary, dt, dd, small, .hint, a, button, .nought, .none, pre';"
        "return $$(all)"
        ".map((one) => [one.tagName + one.className, getComputedStyle(one).color, ground(one)])"
    )
    assert len(colours) > len(samples.requirements)
    for name, ink, paper in {tuple(one) for one in colours}:
        lighter, darker = sorted((luminance(ink), luminance(paper)), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, name


def test_twelve_thousand_cells_are_there_and_painted_within_two_seconds(window: Window, samples: Samples) -> None:
    watch = (
        "addEventListener('DOMContentLoaded', () => requestAnimationFrame(() => setTimeout(() => {"
        " window.painted = performance.now(); })))"
    )
    script = window.browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": watch})
    times = []
    for _ in range(3):
        window.open("sixty")
        window.until("window.painted > 0")
        assert window.js("return $$('#matrix td button').length") == 60 * len(samples.requirements)
        times.append(window.js("return window.painted"))
        assert window.log("browser") == []
    window.browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)
    assert statistics.median(times) < 2000, times
