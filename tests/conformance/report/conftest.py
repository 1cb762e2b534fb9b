"""A real browser for the pages, the Chromium of the system without a window, and results to make pages of."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import pytest

from conformance.report.matrix import Matrix, matrix_of
from conformance.report.page import page
from conformance.report.records import Part, Run
from conformance.report.statement import statements
from conformance.report.trend import compare
from conformance.spec import Requirement, load_capabilities, load_requirements
from conformance.spec.references import Kind, Reference
from conformance.spec.verdicts import TestOutcome, Verdict

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver
    from selenium.webdriver.remote.webelement import WebElement

ADVICE: Final = "needs a browser: apt-get install chromium chromium-driver; pip install selenium"
SCRIPT: Final = "#!/bin/sh\nset -eu\nmount -t overlay overlay merged\n"
HOSTILE: Final = (
    "</script><img src=x onerror=\"document.title='broken'\">",
    "<b>bold</b> & &amp; <!-- <script>",
    "before\u2028after\u2029 \" ' ` \\ {{data}} ${1}",
    "half \udcff of \ud83d a pair",
    "]]>\x00\x1b[31m\u202e",
)


def lacking(what: str) -> NoReturn:
    """Skip, but not where all tests are to run."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is not there; {ADVICE}", pytrace=False)
    pytest.skip(f"{what} is not there; {ADVICE}")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    """One for all tests of a module."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    chromedriver = shutil.which("chromedriver")
    if chromium is None:
        lacking("chromium")
    if chromedriver is None:
        lacking("chromedriver")
    try:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service
    except ImportError:
        lacking("selenium")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"):
        options.add_argument(argument)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # it does not start as root with one
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    # With the path of a driver, selenium looks for none, so it does not ask the network for one.
    environment = {**os.environ, "TMPDIR": str(tmp_path_factory.mktemp("chromium"))}  # it leaves directories there
    driver = webdriver.Chrome(options=options, service=Service(chromedriver, env=environment))
    try:
        driver.set_script_timeout(10)
        yield driver
    finally:
        driver.quit()


# ---- Results.


def run_of(driver: str, kernel: str, backings: tuple[str, ...], selected: tuple[str, ...], **changes: Any) -> Run:
    return Run(
        suite="0.5.0",
        specification="5" * 12,
        connection=f"python:{driver}:Driver",
        driver=driver,
        version="1.0",
        kernel=kernel,
        machine="m",
        lane="root",
        profile="standard",
        examples=60,
        seed=7,
        backings=backings,
        selected=selected,
        started="2026-01-02T03:04:05Z",
        **{"notes": ("a note of the run",), **changes},
    )


def outcome_of(run: Run, requirement: str, backing: str, verdict: Verdict) -> TestOutcome:
    test = f"test_it[{requirement}]"
    if verdict is not Verdict.FAIL:
        reason = "" if verdict is Verdict.PASS else f"it is {verdict.value}"
        return TestOutcome(test, (requirement,), verdict, reason, backing=backing)
    return TestOutcome(
        test,
        (requirement,),
        verdict,
        f"{requirement}:\n  is not so",
        ("make it", "break it"),
        backing,
        seconds=1.25,
        driver_seconds=0.5,
        kernel=("oops",),
        evidence=f"failures/{run.driver}/{backing} #1/{requirement}",
    )


def part_of(run: Run, verdicts: Mapping[tuple[str, str], Verdict | None]) -> Part:
    """All pass, but what is named, by requirement and backing; None is what has no outcome."""
    found = [
        outcome_of(run, name, backing, verdict)
        for backing in run.backings
        for name in run.selected
        if (verdict := verdicts.get((name, backing), Verdict.PASS)) is not None
    ]
    return Part(run, tuple(found))


@dataclass(frozen=True, slots=True)
class Samples:
    """Results to make pages of; ``must`` and ``should`` are the ids of those levels, in order."""

    requirements: Mapping[str, Requirement]
    must: tuple[str, ...]
    should: tuple[str, ...]
    script: str = SCRIPT
    hostile: tuple[str, ...] = HOSTILE

    def one(self) -> Matrix:
        """One column, in which a MUST and a SHOULD failed."""
        run = run_of("alpha", "6.1", ("ext4",), tuple(self.requirements))
        verdicts = {(name, "ext4"): Verdict.FAIL for name in (self.must[1], self.should[0])}
        return matrix_of([part_of(run, verdicts)], self.requirements)

    def well(self, *drivers: str, **changes: Any) -> Matrix:
        """Drivers of which nothing failed, alpha if none is named."""
        runs = [run_of(one, "6.1", ("ext4",), tuple(self.requirements), **changes) for one in drivers or ("alpha",)]
        return matrix_of([part_of(run, {}) for run in runs], self.requirements)

    def three(self) -> Matrix:
        """Two drivers: alpha on ext4 and xfs, and beta, which has every verdict and was not asked for must[9].

        All failed should[0], and alpha on xfs must[0], so columns differ on must[:7] only.
        """
        alpha = run_of("alpha", "6.1", ("ext4", "xfs"), tuple(self.requirements))
        beta = run_of("beta", "6.12", ("ext4",), tuple(one for one in self.requirements if one != self.must[9]))
        others = [*(one for one in Verdict if one not in (Verdict.PASS, Verdict.UNTESTED)), None]
        of_beta = {(self.must[place], "ext4"): verdict for place, verdict in enumerate(others)}
        shared = (self.should[0], "ext4")
        of_alpha = dict.fromkeys([(self.must[0], "xfs"), (self.should[0], "xfs"), shared], Verdict.FAIL)
        parts = [part_of(alpha, of_alpha), part_of(beta, {**of_beta, shared: Verdict.FAIL})]
        return matrix_of(parts, self.requirements)

    def sixty(self) -> Matrix:
        """Four drivers on three kernels and five filesystems."""
        backings = ("btrfs", "ext4", "f2fs", "tmpfs", "xfs")
        failed = {(name, backings[place % 5]): Verdict.FAIL for place, name in enumerate(self.must[:50])}
        runs = [
            run_of(driver, kernel, backings, tuple(self.requirements))
            for driver in ("alpha", "beta", "gamma", "delta")
            for kernel in ("5.15", "6.1", "6.12")
        ]
        return matrix_of([part_of(run, failed) for run in runs], self.requirements)

    def bad(self) -> Matrix:
        """All that a driver could say is hostile; the requirement that has a text is the one of its place."""
        texts = self.hostile
        found = [
            Requirement(f"OVL-BAD-{place}", text, "MUST", text, text, (Reference(Kind.WEB, text, text),), "1")
            for place, text in enumerate(texts)
        ]
        run = run_of(texts[0], texts[1], (texts[3],), (), notes=texts, failure=texts[0])
        outcomes = [
            TestOutcome(
                text, (one.id,), Verdict.FAIL, text, texts, texts[3], kernel=texts, evidence="javascript:" + text
            )
            for one, text in zip(found, texts, strict=True)
        ]
        return matrix_of([Part(run, tuple(outcomes))], {one.id: one for one in found})

    def trend_page(self) -> str:
        """The page of a run with its trend: must[1] fails still, must[0] is new."""
        run = run_of("alpha", "6.1", ("ext4",), tuple(self.requirements))
        still = {(self.must[1], "ext4"): Verdict.FAIL}
        old = part_of(replace(run, suite="0.4.0"), still)
        new = part_of(run, {**still, (self.must[0], "ext4"): Verdict.FAIL})
        trend = compare([old], [new], self.requirements)
        matrix = matrix_of([new], self.requirements)
        return page(matrix, {}, trend=trend, stated=statements(matrix, self.requirements, load_capabilities()))

    def page(self, name: str) -> str:
        """The page of one of these, with a script for each evidence."""
        matrix: Matrix = getattr(self, name)()
        outcomes = [one for cell in matrix.cells.values() for one in cell.outcomes if one.evidence]
        scripts = {one.evidence: one.reason if name == "bad" else self.script for one in outcomes}
        return page(matrix, scripts, title=HOSTILE[0] + HOSTILE[3] if name == "bad" else "overlay-conformance")


@pytest.fixture(scope="session")
def samples() -> Samples:
    requirements = load_requirements()
    ids = {level: [one.id for one in requirements.values() if one.level == level] for level in ("MUST", "SHOULD")}
    return Samples(requirements, tuple(ids["MUST"]), tuple(ids["SHOULD"]))


# ---- The window.


@dataclass(frozen=True, slots=True)
class Window:
    """The browser, and a folder with the pages of all samples."""

    browser: WebDriver
    folder: Path

    def url(self, name: str) -> str:
        return (self.folder / f"{name}.html").as_uri()

    def open(self, name: str, hash_: str = "", width: int = 1280, scheme: str = "light") -> None:
        """Load a page anew, so that nothing is left of another test."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        if hash_:
            self.browser.get("about:blank")  # or it would only go to another place of a page that is open
        self.log("browser")
        self.log("performance")
        self.browser.get(self.url(name) + hash_)

    def log(self, kind: str) -> list[str]:
        """What was said since this was last asked for."""
        return [entry["message"] for entry in self.browser.get_log(kind)]  # type: ignore[no-untyped-call]

    def requests(self) -> list[str]:
        """Addresses that were asked for since the page was opened."""
        said = [json.loads(message)["message"] for message in self.log("performance")]
        return [one["params"]["request"]["url"] for one in said if one["method"] == "Network.requestWillBeSent"]

    def js(self, script: str, *arguments: Any) -> Any:
        """Run a script, in which ``$$`` gives the list of the elements of a selector."""
        return self.browser.execute_script(
            "const $$ = (of) => [...document.querySelectorAll(of)];" + script, *arguments
        )

    def until(self, condition: str) -> None:
        """Wait for something that the browser does in its own time."""
        from selenium.webdriver.support.wait import WebDriverWait

        WebDriverWait(self.browser, 5, poll_frequency=0.02).until(lambda _: self.js(f"return {condition}"))

    def find(self, selector: str) -> WebElement:
        return self.browser.find_element("css selector", selector)

    def cell(self, label: str) -> WebElement:
        """The cell that is called so."""
        return self.find(f'#matrix button[aria-label="{label}"]')

    def press(self, key: str) -> None:
        self.browser.switch_to.active_element.send_keys(key)

    def ids(self) -> list[str]:
        """The requirements that are shown, from above."""
        return list(self.js("return $$('#matrix .id').map((one) => one.textContent)"))

    def filter(self, **values: object) -> None:
        """Set filters, as one who types or chooses does."""
        for name, value in values.items():
            self.js(
                "const box = document.querySelector(`[name=${arguments[0]}]`);"
                "if (box.type === 'checkbox') box.checked = arguments[1]; else box.value = arguments[1];"
                "box.dispatchEvent(new Event('input', {bubbles: true}))",
                *(name, value),
            )


@pytest.fixture(scope="module")
def window(browser: WebDriver, samples: Samples, tmp_path_factory: pytest.TempPathFactory) -> Window:
    folder = tmp_path_factory.mktemp("pages")
    for name in ("one", "three", "sixty", "bad"):
        (folder / f"{name}.html").write_text(samples.page(name), encoding="ascii")
    return Window(browser, folder)
