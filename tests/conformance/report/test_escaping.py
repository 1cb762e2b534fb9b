"""What a driver says may be anything: it comes out as text in every report, and never as markup or a command."""

from __future__ import annotations

import io
import json
import os
import re
import unicodedata
import xml.etree.ElementTree as ET
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from making import RUN
from markdown_it import MarkdownIt
from rich.console import Console

from conformance.cli.base import say
from conformance.cli.blocks import Blocks
from conformance.cli.summary import print_summary
from conformance.evidence.folder import About, write_folder, write_kernel_folder
from conformance.history.case import Case
from conformance.history.findings import InWords
from conformance.history.printable import LIMIT, cut, fenced, markdown, one_line, printable
from conformance.history.steps import Noted
from conformance.report import records
from conformance.report.badge import badge
from conformance.report.junit import junit
from conformance.report.markdown import markdown as markdown_report
from conformance.report.matrix import matrix_of
from conformance.report.page import page
from conformance.report.records import Part, digest_of
from conformance.report.statement import statement_markdown, statements
from conformance.spec import load_capabilities, load_requirements
from conformance.spec.values import as_plain
from conformance.spec.verdicts import TestOutcome, Verdict

KNOWN, CAPABILITIES = load_requirements(), load_capabilities()
HOSTILE: Final = {
    "a terminal": "\x1b[2J\x1b]0;title\x07\x1b]8;;http://evil/\x1b\\link\x9b31m\r\x08",
    "rich's markup": "[bold red]red[/] [link=http://evil/]x[/link]",
    "HTML": "</script><script>alert(1)</script><img src=x onerror=alert(1)> &amp; <!--",
    "XML": "]]>\x00\x0b\x1f\ufffe\uffff<failure/>",
    "no UTF-8": "half \udcff of \ud83d a pair " + os.fsdecode(b"\xff\xfe"),
    "bidi marks": "\u202eevil\u2066\u200f\u061c",
    "line ends": "one\ntwo\r\nthree\u2028four\u2029five\x85six\x0cseven",
    "a fence": "```\n# heading\n~~~~\n`````` ` `` ```",
    "a table": "a | b \\| c \\\\| d\n|---|---|\n| x | y |",
    "Markdown": "![x](http://evil/x.png) [y](javascript:alert(1)) **b** _i_ ~~s~~ <http://evil/> \\",
    "a quote": "' \" $(touch /tmp/x) `touch /tmp/x` ; #",
}
NOT_SHOWN: Final = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
ANY_TEXT = st.text(st.characters(exclude_categories=())) | st.text(st.sampled_from("`*_[]()<>|~!#\\&\n ab"))


def is_printable(text: str) -> bool:
    """Nothing but lines of characters that a terminal shows and XML allows."""
    return (
        all(one == "\n" or unicodedata.category(one)[0] not in "C" for one in text) and text.isascii() is not None
    )


def run_of(text: str) -> Part:
    """A run of whose words all are hostile, with an outcome of each verdict."""
    run = replace(
        RUN,
        connection=f"python:{text}",
        driver=text,
        version=text,
        kernel=text,
        backings=(text,),
        specification=digest_of(KNOWN),
        declined={"diff": text},
        lacking={"root": text},
        notes=(text,),
        failure=text,
        overlay={text: text},
    )
    outcomes = [
        TestOutcome(
            f"test_{verdict.value}_{text}",
            (one,),
            verdict,
            text,
            (text, text),
            text,
            kernel=(text,),
            facts=(text,),
            evidence=text.replace("\x00", ""),
        )
        for verdict, one in zip(Verdict, RUN.selected * 2, strict=False)
    ]
    return Part(run, tuple(outcomes))


@given(text=ANY_TEXT | st.binary())
def test_whatever_it_is_it_becomes_printable(text: str | bytes) -> None:
    shown = printable(text, lines=True)
    assert all(one == "\n" or one.isprintable() for one in shown)
    shown.encode("utf-8")
    assert ET.fromstring(f"<a>{shown.replace('&', '').replace('<', '').replace('>', '')}</a>") is not None
    assert "\n" not in printable(text)
    assert printable(shown, lines=True) == shown
    if isinstance(text, str) and text.isprintable():
        assert shown == text


@given(text=ANY_TEXT)
@example(text=HOSTILE["HTML"])
@example(text=HOSTILE["a table"])
def test_no_text_is_markup_in_a_line_or_a_table_of_markdown(text: str) -> None:
    parsed = (
        MarkdownIt("commonmark")
        .enable(["table", "strikethrough"])
        .parse(f"| a | b |\n|---|---|\n| x{markdown(text)}x | y |")
    )
    kinds = [token.type for token in parsed]
    assert kinds.count("td_open") == 2
    for token in parsed:
        for child in token.children or []:
            assert child.type == "text" or child.type == "text_special", (child.type, text)
    inline = "".join(child.content for token in parsed for child in token.children or [])
    assert inline == f"abx{one_line(text)}xy"


@given(text=ANY_TEXT)
@example(text=HOSTILE["a fence"])
def test_no_text_ends_its_block_of_markdown(text: str) -> None:
    parsed = MarkdownIt("commonmark").parse("\n".join([*fenced(text), "", "after"]))
    assert [token.type for token in parsed] == ["fence", "paragraph_open", "inline", "paragraph_close"]
    assert parsed[0].content == printable(text, lines=True) + "\n"


def test_what_is_too_long_is_cut_and_says_so() -> None:
    text = cut("a" * (100 << 20) + "end")
    assert len(text) < LIMIT + 100
    assert text.endswith("end")
    assert re.search(r"\(\d{8,9} characters left out\)", text)
    assert cut("short") == "short"


class Page(HTMLParser):
    """Which elements a page has."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.ended: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]

    def handle_endtag(self, tag: str) -> None:
        self.ended.append(tag)


def elements(text: str) -> list[str]:
    found = Page()
    found.feed(page(matrix_of([run_of(text)], KNOWN), {text.replace("\x00", ""): text}, title=text))
    return found.elements


def check_page(text: str) -> None:
    assert elements(text) == elements("plain")


def check_junit(text: str) -> None:
    root = ET.fromstring(junit(matrix_of([run_of(text)], KNOWN)).encode())
    plain = ET.fromstring(junit(matrix_of([run_of("plain")], KNOWN)).encode())
    assert [one.tag for one in root.iter()] == [one.tag for one in plain.iter()]


def check_badge(text: str) -> None:
    (statement,) = statements(matrix_of([run_of(text)], KNOWN), KNOWN, CAPABILITIES)
    root = ET.fromstring(badge(statement))
    assert [one.tag.rpartition("}")[2] for one in root.iter()] == [
        "svg",
        "title",
        "rect",
        "rect",
        "g",
        "text",
        "text",
    ]


def check_markdown(said: str, plain: str) -> None:
    assert is_printable(said)
    parsed, expected = (MarkdownIt("commonmark").enable("table").parse(one) for one in (said, plain))
    # A block of another text has other lines; all that is around it is the same.
    assert [one.type for one in parsed] == [one.type for one in expected]
    allowed = {"text", "text_special", "softbreak", "code_inline", "strong_open", "strong_close"}
    for token in parsed:
        assert {child.type for child in token.children or []} <= allowed
        if token.type == "html_block":
            assert re.fullmatch(
                r"(<details><summary>[\w ]+: \d+</summary>|</details>|<details><summary>\d+ steps</summary>)\n?",
                token.content,
            )


def check_report(text: str) -> None:
    check_markdown(*(markdown_report(matrix_of([run_of(one)], KNOWN)) for one in (text, "plain")))


def check_statement(text: str) -> None:
    said = []
    for one in (text, "plain"):
        (statement,) = statements(matrix_of([run_of(one)], KNOWN), KNOWN, CAPABILITIES)
        json.dumps(as_plain(statement)).encode("ascii")
        said.append(statement_markdown(statement))
    check_markdown(said[0], said[1])


def check_results(text: str) -> None:
    lines = records.lines_of([run_of(text)])
    assert all(line.isascii() and line.isprintable() for line in lines)


def blocks_for(console: Console) -> Blocks:
    def on_terminal(line: str) -> None:
        console.print(printable(line), markup=False, soft_wrap=True)

    where = on_terminal if console.is_terminal else say
    return Blocks(where, KNOWN, lambda outcome, _: outcome, lambda outcome: outcome.evidence)


def printed(text: str, *, terminal: bool) -> str:
    out = io.StringIO()
    console = Console(
        file=out, force_terminal=terminal, width=300, highlight=False, color_system=None, legacy_windows=False
    )
    with redirect_stdout(out):
        print_summary(console, run_of(text), blocks_for(console), code=2, evidence=Path())
    return out.getvalue()


def check_pipe(text: str) -> None:
    said = printed(text, terminal=False)
    assert is_printable(said)
    assert said.splitlines()[-1].count("->") == 1


def check_terminal(text: str) -> None:
    assert is_printable(printed(text, terminal=True))


REPORTERS: Final[dict[str, Callable[[str], None]]] = {
    "page": check_page,
    "JUnit": check_junit,
    "badge": check_badge,
    "Markdown": check_report,
    "statement": check_statement,
    "result file": check_results,
    "pipe": check_pipe,
    "terminal": check_terminal,
}


@pytest.mark.parametrize("what", HOSTILE)
@pytest.mark.parametrize("reporter", REPORTERS)
def test_a_hostile_run_passes_through_each_reporter(reporter: str, what: str) -> None:
    REPORTERS[reporter](HOSTILE[what])


@pytest.mark.parametrize("what", HOSTILE)
def test_the_folder_of_a_failure_holds_text(tmp_path: Path, what: str) -> None:
    text = HOSTILE[what]
    about = About(text.replace("\x00", ""), text, "0.3.0", text, 1, 10, "standard")
    case = Case(
        f"test_{text}",
        (RUN.selected[0],),
        "host",
        text,
        text,
        (),
        (Noted(text), Noted(text)),
        InWords(),
        "/nowhere",
    )
    outcome = TestOutcome(
        f"test_{text}", (RUN.selected[0],), Verdict.FAIL, text, (text,), "host", kernel=(text,), case=case.as_json()
    )
    folder = write_folder(tmp_path, outcome, KNOWN, about, None, tmp_path)
    assert folder is not None
    kernel = write_kernel_folder(tmp_path, replace(outcome, test="kernel"), KNOWN, about)
    for file in (*folder.iterdir(), *kernel.iterdir()):
        assert is_printable(file.read_text(encoding="utf-8")), file
    failure = (folder / "failure.md").read_text(encoding="utf-8")
    blocks = [one for one in MarkdownIt("commonmark").parse(failure) if one.type == "fence"]
    assert blocks[0].content == printable(text, lines=True) + "\n"
    assert len(blocks) == 3
