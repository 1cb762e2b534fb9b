"""The page, in the browser that it is for; conftest.py has the browser and the results."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from conformance.history.printable import printable
from conformance.report.matrix import Matrix
from conformance.report.page import page
from conformance.spec.references import in_words
from conformance.spec.verdicts import Verdict, totals

if TYPE_CHECKING:
    from tests.conformance.report.conftest import Samples, Window

pytestmark = pytest.mark.slow  # a browser

ENTER, ESCAPE, DOWN, RIGHT = "\ue007", "\ue00c", "\ue015", "\ue014"
PAGES = ("one", "three", "sixty", "bad")


def of_alpha(requirement: str, backing: str, verdict: str) -> str:
    return f"{requirement} on alpha 1.0, kernel 6.1, {backing}, privilege level root, profile standard: {verdict}"


# ---- The text of the page.


def test_the_same_results_give_the_same_bytes(samples: Samples) -> None:
    assert samples.page("three").encode("ascii") == samples.page("three").encode("ascii")
    scripts = {f"failures/{place}": "script" for place in range(9)}
    assert page(samples.one(), scripts) == page(samples.one(), dict(reversed(scripts.items())))


def test_no_text_of_a_driver_is_markup_in_the_file(samples: Samples) -> None:
    text = samples.page("bad")
    assert text.isascii()
    assert len(re.findall("</script", text, re.I)) == 2
    assert "<img" not in text
    assert "<b>" not in text
    data = re.search(r'<script type="application/json" id="data">(.*)</script>', text)
    assert data is not None
    shown = {printable(text, lines=True) for text in samples.hostile}
    assert shown <= set(json.loads(data[1])["texts"])


def test_what_many_cells_say_is_stored_once(samples: Samples) -> None:
    text = samples.page("three")
    assert text.count('"break it"') == 1
    assert text.count(json.dumps(samples.script)) == 1


def test_a_matrix_without_anything_is_a_page_too() -> None:
    assert "<title>nothing &amp; more</title>" in page(Matrix((), (), {}, ()), {}, title="nothing & more")


def test_without_javascript_the_page_names_the_markdown_report(samples: Samples) -> None:
    said = re.search("<noscript>(.*)</noscript>", samples.page("one"), re.S)
    assert said is not None
    assert "Markdown report" in said[1]


# ---- In the browser.


@pytest.mark.parametrize("name", ["one", "three", "bad"])
def test_a_page_asks_for_nothing_but_itself_and_has_no_errors(window: Window, name: str) -> None:
    window.open(name)
    assert [url for url in window.requests() if url != "data:,"] == [window.url(name)]
    assert window.js("return performance.getEntriesByType('resource').map((one) => one.name)") == []
    assert window.log("browser") == []


def test_a_verdict_is_a_button_that_says_it_without_colour(window: Window, samples: Samples) -> None:
    window.open("three")
    said = window.js(
        "return $$('#matrix td button').map((one) => [one.getAttribute('aria-label'), one.textContent])"
    )
    short = {"NOT-APPLICABLE": "N/A", "DECLINED": "DECL", "UNTESTED": "?", "ERROR": "ERR"}
    words = {label.rpartition(": ")[2]: word for label, word in said}
    assert words == {verdict.value: short.get(verdict.value, verdict.value) for verdict in Verdict}
    assert len(said) == 3 * len(samples.requirements) - 1
    assert of_alpha(samples.must[0], "xfs", "FAIL") in dict(said)


def test_the_head_says_what_was_run_and_what_verdicts_mean(window: Window) -> None:
    window.open("three")
    assert window.js("return $$('details[open]').length") == 0
    window.js("for (const one of $$('details')) one.open = true")
    said = window.find("#runs .run").text
    for part in (
        "alpha 1.0",
        "python:alpha:Driver",
        "6.1",
        "root",
        "standard",
        "0.5.0",
        "03:04:05",
        "a note of the run",
    ):
        assert part in said
    legend = window.find("#legend").text
    assert all(f"{verdict.value}: " in legend for verdict in Verdict)


def test_verdicts_are_counted_by_level_and_by_column(window: Window, samples: Samples) -> None:
    window.open("three")
    heads, *counts = window.js("return $$('#totals tr').map((row) => [...row.cells].map((one) => one.textContent))")
    assert heads == ["", "PASS", "FAIL", "XFAIL", "XPASS", "DECL", "N/A", "?", "ERR"]
    matrix = samples.three()
    found = totals(matrix.verdicts(matrix.columns), samples.requirements)
    assert [line[:3] for line in counts[:3]] == [
        [f"{level}, all columns", *(str(of.get(one, 0)) for one in (Verdict.PASS, Verdict.FAIL))]
        for level, of in found.items()
    ]
    assert [sum(map(int, line[1:])) for line in counts[:2]] == [len(samples.must), len(samples.should)]
    assert counts[-1] == [
        "beta 1.0, kernel 6.12, ext4, privilege level root, profile standard",
        *(str(len(samples.requirements) - 9), "2", "1", "1", "1", "1", "1", "1"),
    ]


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("q", "  ovl-life-create ", lambda one: one.id == "OVL-LIFE-CREATE"),
        ("q", "NOT EXIST YET", lambda one: all(word in one.sentence for word in ("not", "exist", "yet"))),
        ("q", "no such words <b>", lambda _: False),
        ("family", "apply", lambda one: one.family == "apply"),
        ("level", "SHOULD", lambda one: one.level == "SHOULD"),
    ],
)
def test_a_filter_leaves_the_rows_that_it_is_about(
    window: Window, samples: Samples, name: str, value: str, wanted: Callable[[object], bool]
) -> None:
    window.open("three")
    window.filter(first=False, **{name: value})
    rows = [one.id for one in samples.requirements.values() if wanted(one)]
    assert window.ids() == rows
    assert window.find("#shown").text == f"{len(rows)} of {len(samples.requirements)} requirements"


def test_rows_in_which_columns_differ_come_first_or_alone(window: Window, samples: Samples) -> None:
    differing = list(samples.must[:7])
    window.open("three")
    assert window.ids() == [*differing, *(one for one in samples.requirements if one not in differing)]
    window.filter(first=False)
    assert window.ids() == list(samples.requirements)
    window.filter(differ=True)
    assert window.ids() == differing


def test_verdicts_are_looked_for_in_the_columns_that_are_shown(window: Window, samples: Samples) -> None:
    window.open("three")
    window.find("[name=verdict][value=FAIL]").click()
    assert sorted(window.ids()) == sorted([*samples.must[:2], samples.should[0]])
    window.find("[name=verdict][value=XFAIL]").click()
    assert sorted(window.ids()) == sorted([*samples.must[:2], samples.must[3], samples.should[0]])
    window.filter(driver="alpha 1.0", backing="ext4")
    assert window.ids() == [samples.should[0]]


@pytest.mark.parametrize(
    ("name", "value", "columns"), [("driver", "alpha 1.0", 2), ("kernel", "6.12", 1), ("backing", "ext4", 2)]
)
def test_a_filter_leaves_the_columns_that_it_is_about(window: Window, name: str, value: str, columns: int) -> None:
    window.open("three")
    window.filter(**{name: value})
    assert window.js("return $$('#matrix thead th').length - 1") == columns
    assert f"{columns} of 3 columns" in window.find("#shown").text


def test_reset_undoes_all_filters(window: Window) -> None:
    window.open("three")
    before = window.ids()
    window.filter(q="layer", level="MUST", kernel="6.1", differ=True, first=False)
    window.find("[name=verdict][value=FAIL]").click()
    assert window.ids() != before
    window.find("#reset").click()
    assert window.ids() == before
    assert window.js("return location.hash") == ""


def test_the_address_holds_the_filters_and_the_open_cell(window: Window, samples: Samples) -> None:
    window.open("three")
    window.filter(q="OVL - &=#%+")
    assert window.ids() == []
    window.filter(q="ovl  -", level="MUST", kernel="6.1", first=False)
    window.find("[name=verdict][value=FAIL]").click()
    window.cell(of_alpha(samples.must[0], "xfs", "FAIL")).click()
    address = window.js("return location.hash")
    window.open("three", address)
    assert window.ids() == [samples.must[0]]
    assert window.js("return $$('form :is(select, [type=search])').map((one) => one.value).filter(Boolean)") == [
        *("ovl  -", "MUST", "6.1"),
    ]
    assert window.find("dialog h2").text.startswith(samples.must[0])


def test_an_address_that_was_edited_is_followed_as_far_as_it_makes_sense(window: Window, samples: Samples) -> None:
    window.open("three", f"#cell={samples.must[0]}.1")
    window.js("location.hash = 'q=%E0%A4%A&family=none&verdict=NONE&cell=OVL-NONE.77&differ=1'")
    window.until("!document.querySelector('dialog').open")
    window.filter(q="")
    assert window.ids() == list(samples.must[:7])
    assert window.js("return location.hash") == "#differ=1"
    assert window.log("browser") == []


def test_a_cell_opens_its_evidence_and_escape_closes_it(window: Window, samples: Samples) -> None:
    asked, label = samples.requirements[samples.must[0]], of_alpha(samples.must[0], "xfs", "FAIL")
    window.open("three")
    window.cell(label).click()
    said = window.find("dialog").text
    for part in (
        asked.id,
        asked.level,
        asked.sentence,
        asked.consequence,
        in_words(asked.source),
        "test_it[",
        "FAIL",
        "1.25 s",
        "oops",
    ):
        assert part in said
    assert window.js("return $$('dialog .steps li').map((one) => one.textContent)") == ["make it", "break it"]
    assert window.find("dialog .reason").text == f"{asked.id}:\n  is not so"
    assert window.js("return document.querySelector('dialog .script').textContent") == samples.script
    link = window.js("return document.querySelector('dialog a:not(.source)').getAttribute('href')")
    assert link == f"./failures/alpha/xfs%20%231/{asked.id}"
    window.press(ESCAPE)
    window.until("!document.querySelector('dialog').open && location.hash === ''")
    assert window.js("return document.activeElement.getAttribute('aria-label')") == label


def test_a_cell_without_evidence_has_no_link(window: Window, samples: Samples) -> None:
    window.open("three", f"#cell={samples.must[12]}.1")
    assert window.find("dialog h2").text.startswith(samples.must[12])
    assert window.js("return $$('dialog a:not(.source), dialog .script').length") == 0


def test_cells_are_reached_with_the_keyboard(window: Window, samples: Samples) -> None:
    window.open("three", "#first=0")
    assert window.js("return $$('#matrix button[tabindex=\"0\"]').length") == 1
    window.js("document.querySelector('#matrix button[tabindex=\"0\"]').focus()")
    for key in (RIGHT, DOWN, ENTER):
        window.press(key)
    window.until("document.querySelector('dialog').open")
    assert window.js("return location.hash") == f"#first=0&cell={list(samples.requirements)[1]}.2"


def test_the_script_can_be_copied(window: Window, samples: Samples) -> None:
    window.open("one", f"#cell={samples.must[1]}.1")
    window.find("dialog .copy:has(+ .script) .plain").click()
    # Where the browser does not let a file write to the clipboard, it is selected for the keyboard.
    said = "/copied|selected/.test(document.querySelector('dialog .copy:has(+ .script) [role=status]').textContent)"
    window.until(said)


def test_the_command_that_runs_a_requirement_again_can_be_copied(window: Window, samples: Samples) -> None:
    window.open("three", f"#cell={samples.must[0]}.2")
    assert window.find("dialog .command").text == (
        f"overlay-conformance run python:alpha:Driver --requirement {samples.must[0]} --seed 7 --examples 60"
        " --backing xfs"
    )
    window.find("dialog .copy:has(+ .command) .plain").click()
    window.until("/copied|selected/.test(document.querySelector('dialog .copy [role=status]').textContent)")


def test_the_evidence_links_the_sources_of_its_requirement(window: Window, samples: Samples) -> None:
    asked = next(one for one in samples.requirements.values() if one.source[0].address.startswith("https://"))
    window.open("one", f"#cell={asked.id}.1")
    wanted = [one.address for one in asked.source if one.address.startswith("https://")]
    assert window.js("return $$('dialog a.source').map((one) => one.getAttribute('href'))") == wanted


def test_what_failed_comes_first_by_severity_and_opens_its_evidence(window: Window, samples: Samples) -> None:
    window.open("three")
    titles = window.js("return $$('#causes h3').map((one) => one.textContent)")
    assert titles == ["MUST (3)", "SHOULD (1)", "Errors of the harness (1)"]
    places = window.js(
        "return ['#causes', '#about', '#matrix'].map((one) => document.querySelector(one).offsetTop)"
    )
    assert places == sorted(places)
    assert places[2] < 900, "the matrix begins on the first screen"
    first = window.js("return document.querySelector('#causes li').innerText")
    assert samples.must[0] in first
    assert f"a user would see\n{samples.requirements[samples.must[0]].consequence}" in first
    assert "1 failure in 1 column" in first
    assert "3 failures in 3 columns" in window.js(
        "return document.querySelector('#causes h3 + ol + h3 + ol').innerText"
    )
    window.find("#causes .cause").click()
    assert window.find("dialog h2").text.startswith(samples.must[0])
    window.press(ESCAPE)
    window.until("!document.querySelector('dialog').open")
    assert window.js("return document.activeElement.className") == "cause"
    window.press(ENTER)
    window.until("document.querySelector('dialog').open")
    assert window.js("return location.hash").startswith(f"#cell={samples.must[0]}.")


def test_evidence_that_is_opened_before_the_last_one_has_closed_stays(window: Window, samples: Samples) -> None:
    """A dialog tells its closing in a task of its own, which may come later than the next opening."""
    window.open("three")
    window.find("#causes .cause").click()
    shown = window.js(
        """return new Promise((done) => {
            const dialog = document.querySelector('dialog');
            dialog.addEventListener('close', () => done(dialog.innerText), {once: true});
            dialog.close();
            document.querySelector('#causes .cause').click();
        })"""
    )
    assert samples.must[0] in shown
    assert window.js("return location.hash").startswith(f"#cell={samples.must[0]}.")


def test_a_page_without_failures_has_no_causes(window: Window, samples: Samples) -> None:
    (window.folder / "well.html").write_text(page(samples.well(), {}), encoding="ascii")
    window.open("well")
    assert not window.find("#causes").is_displayed()


def test_a_page_with_a_trend_says_what_changed_and_opens_it(window: Window, samples: Samples) -> None:
    (window.folder / "trend.html").write_text(samples.trend_page(), encoding="ascii")
    window.open("trend", width=400)
    assert window.find("#trend h2").text == "Trend: 1 NEW, 1 STILL"
    said = "alpha 1.0: not conformant (2 requirements of level MUST failed; 60 examples for each property)"
    assert window.find("#stated").text == said
    assert window.js("return $$('#trend details[open] summary strong').map((one) => one.textContent)") == ["NEW 1"]
    differs = window.js("return $$('#trend details')[0].textContent")
    assert "version of the suite: 0.4.0 \u2192 0.5.0" in differs
    assert "and not from the driver" in differs
    assert window.js("return document.documentElement.scrollWidth") <= 400
    window.find("#trend details[open] .ids button").click()
    assert window.find("dialog h2").text.startswith(samples.must[0])


def test_a_page_without_a_trend_shows_none(window: Window) -> None:
    window.open("one")
    assert not window.find("#trend").is_displayed()


def test_a_lack_of_the_host_is_said_once(window: Window, samples: Samples) -> None:
    lacks = {"selinux": "no SELinux in this kernel", "reset": "this needs a machine"}
    matrix = samples.well("alpha", "beta", lacking=lacks, notes=(lacks["selinux"], "own"))
    (window.folder / "lacks.html").write_text(page(matrix, {}), encoding="ascii")
    window.open("lacks")
    window.js("for (const one of $$('details')) one.open = true")
    said = window.find("#runs").text
    assert [said.count(one) for one in (*lacks.values(), "own")] == [1, 1, 2]


def test_paper_shows_what_is_closed_on_a_screen(window: Window) -> None:
    window.open("three")
    window.js("dispatchEvent(new Event('beforeprint'))")
    assert window.js("return $$('#about[open], #counts[open]').length") == 2


def test_hostile_texts_come_out_as_text(window: Window, samples: Samples) -> None:
    window.open("bad")
    for place, text in enumerate(samples.hostile):
        window.js(f"location.hash = 'cell=OVL-BAD-{place}.1'")
        window.until(f"document.querySelector('dialog h2')?.textContent === 'OVL-BAD-{place}MUST'")
        # In code units, as half of a pair of surrogates does not come through the connection to the browser.
        as_they_are = {"dialog .script": text}  # it is to be copied
        shown = "return document.querySelector(arguments[0]).textContent.split('').map((one) => one.charCodeAt(0))"
        for where in (
            "dialog .reason",
            "dialog .script",
            "dialog .asked",
            f"dialog .steps li:nth-child({place + 1})",
        ):
            encoded = as_they_are.get(where, printable(text, lines=True)).encode("utf-16-le", "surrogatepass")
            units = [int.from_bytes(encoded[at : at + 2], "little") for at in range(0, len(encoded), 2)]
            assert window.js(shown, where) == units
        assert window.js("return document.querySelector('dialog a:not(.source)').href").startswith(
            window.folder.as_uri()
        )
        assert window.js("return $$('img, b, script').length") == 2
        assert window.js("return document.title").startswith("</script><img")
        assert window.log("browser") == []
