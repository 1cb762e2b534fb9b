"""The static site: every document and requirement, links that resolve, and search, without a network."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from makesite import ROOT, linked, make_site, read_documents, render, requirement_page, without_directories
from mkdocs.exceptions import Abort

from conformance.spec import load_requirements

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver

# Of MkDocs and its plugins, on a later Python.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
# Attributes of elements that a browser loads without a click.
LOADED = re.compile(r"""<(?:script|img|link|iframe|source)\b[^>]*\b(?:src|href)=["']?(?:https?:)?//""")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as "tox run -e site" does: a link or an anchor that does not resolve is an error."""
    place = tmp_path_factory.mktemp("site") / "site"
    make_site(place)
    return place


@pytest.mark.slow
def test_it_has_all_documents_and_requirements(site: Path) -> None:
    pages = {str(path.relative_to(site)) for path in site.glob("**/*.html")}
    documents = {path.removesuffix(".md") for path in read_documents().texts}
    expected = {name.replace("README", "index") for name in documents}
    assert {f"{name}.html" for name in expected} <= pages
    assert {f"requirements/{one}.html" for one in load_requirements()} <= pages
    assert 'href="drivers/verdicts.html"' in (site / "docs/real-drivers.html").read_text()
    assert "<title>Real drivers" in (site / "docs/drivers/verdicts.html").read_text()
    assert 'href="unpackers/verdicts.html"' in (site / "docs/real-unpackers.html").read_text()
    assert "<title>Real unpackers" in (site / "docs/unpackers/verdicts.html").read_text()
    home = (site / "index.html").read_text()
    for name in ("docs/specification", "docs/matrix", "requirements/index", "docs/driver"):
        assert f'href="{name}.html"' in home


@pytest.mark.slow
def test_the_table_of_divergence_leads_to_vectors(site: Path) -> None:
    assert 'href="divergence/table.html"' in (site / "docs/divergence.html").read_text()
    table = site / "docs/divergence/table.html"
    text = table.read_text()
    links = set(re.findall(r'href="([^"#]+)"', text))
    assert len(links) >= 50
    assert [one for one in links if not (table.parent / one).is_file()] == []
    assert set(re.findall(r'href="#([^"]+)"', text)) == set(re.findall(r'<h3 id="([^"]+)"', text))


@pytest.mark.slow
def test_nothing_of_the_web_is_loaded(site: Path) -> None:
    pages = [*site.glob("**/*.html"), *site.glob("**/*.css")]
    assert [str(path) for path in pages if LOADED.search(text := path.read_text()) or "url(http" in text] == []
    assert LOADED.search('<script async src="https://example.org/x.js">')


@pytest.mark.slow
def test_search_finds_a_requirement_without_a_network(site: Path, browser: WebDriver) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.wait import WebDriverWait

    browser.get((site / "index.html").as_uri())
    browser.find_element(By.CSS_SELECTOR, "input.md-search__input").send_keys("OVL-OPAQUE-DEEP")
    found = WebDriverWait(browser, 60).until(
        lambda shown: shown.find_elements(By.CSS_SELECTOR, ".md-search-result__item a")
    )
    address = found[0].get_attribute("href")
    assert address
    browser.get(address)
    assert browser.find_element(By.TAG_NAME, "h1").text.startswith("OVL-OPAQUE-DEEP")
    assert load_requirements()["OVL-OPAQUE-DEEP"].sentence in browser.find_element(By.TAG_NAME, "article").text
    logs = {kind: browser.get_log(kind) for kind in ("browser", "performance")}  # type: ignore[no-untyped-call]
    messages = [json.loads(entry["message"])["message"] for entry in logs["performance"]]
    asked = [one["params"]["request"]["url"] for one in messages if one["method"] == "Network.requestWillBeSent"]
    assert asked
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:", "about:"))] == []
    assert [entry for entry in logs["browser"] if entry["level"] == "SEVERE"] == []


@pytest.mark.parametrize("link", ["missing.md", "#missing", "other.md#missing", "/other.md", "requirements/"])
def test_a_link_that_does_not_resolve_is_an_error(tmp_path: Path, link: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "other.md").write_text("# Other\n\n## There\n")
    (source / "index.md").write_text("# Home\n\n[link](other.md#there)\n")
    render(source, tmp_path / "site")
    (source / "index.md").write_text(f"# Home\n\n[link]({link})\n")
    with pytest.raises(Abort):
        render(source, tmp_path / "site")


def test_a_page_of_a_requirement_says_what_explain_says() -> None:
    documents = read_documents()
    page = requirement_page(load_requirements()["OVL-OPAQUE-PRESERVED"], documents)
    for said in (
        "**MUST** A directory that a layer removes and recreates shows nothing",
        "*If it is violated, a user would see:* Old files of a directory",
        "- [behaviour#opaque-directories](../docs/behaviour.md#opaque-directories)",
        "- [moby/moby#25244](https://github.com/moby/moby/issues/25244)",
        "- `test_a_directory_made_again_is_empty` (`conformance/suites/test_tree_whiteouts.py`, from profile quick",
        "overlay-conformance run DRIVER --requirement OVL-OPAQUE-PRESERVED",
        "| ApplyOmitsOpaque | Opaque whiteouts never reach",
        "[field bug](../docs/field-bugs.md#recreated-directory)",
        "- [overlay-conformance](../README.md)",
    ):
        assert said in page
    assert "../docs/specification.md#ovl-opaque-preserved" in page
    assert "kill-matrix" not in page


def test_ids_of_requirements_are_links() -> None:
    known = load_requirements()
    link = "../requirements/OVL-LIFE-CREATE.md"
    text = "| a | OVL-LIFE-CREATE, `OVL-LIFE-CREATE` |"
    assert linked("docs/x.md", text, known) == f"| a | [OVL-LIFE-CREATE]({link}), [`OVL-LIFE-CREATE`]({link}) |"
    for same in (
        "# OVL-LIFE-CREATE",
        "```\nOVL-LIFE-CREATE\n```",
        "    OVL-LIFE-CREATE",
        "[OVL-LIFE-CREATE](a.md)",
        "OVL-LIFE-* and OVL-LIFE-CREATE-NOT",
        "`run --requirement OVL-LIFE-CREATE`",
    ):
        assert linked("docs/x.md", same, known) == same


def test_a_link_to_a_directory_is_one_to_its_readme_or_none(tmp_path: Path) -> None:
    for name in ("docs/data", "docs/pages"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "docs/pages/README.md").write_text("# Pages\n")
    text = "[data](data), [pages](pages/), [file](data/file) and [top](#top)"
    expected = "data, [pages](pages/README.md), [file](data/file) and [top](#top)"
    assert without_directories("docs/x.md", text, tmp_path) == expected


def test_every_document_is_in_the_repository() -> None:
    assert {"README.md", "docs/matrix/README.md", "docs/specification.md"} <= read_documents(ROOT).texts.keys()
