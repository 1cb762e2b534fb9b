"""A submission: a directory in which an implementer publishes the results of a driver (docs/submitting.md).

The check refuses what says nothing about a driver, and files that contradict themselves. It cannot tell whether
a run took place: it does not detect outcomes that were changed, if this suite wrote the rest of the file anew. Only
the commands of "Reproduce" show that, when somebody else runs them.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Final, Literal

from conformance.report import records
from conformance.report.matrix import matrix_of
from conformance.report.records import BadResults, Part
from conformance.report.statement import Statement, obstacles, statements
from conformance.spec import load_capabilities, load_requirements
from conformance.spec.values import BadValue, Key, from_plain

FORMAT: Final = 1
SCHEMA: Final = Path(__file__).with_name("product.schema.json")
PRODUCT: Final = "product.toml"
RESULTS: Final = "results.jsonl"
README: Final = "README.md"
FILES: Final = (PRODUCT, RESULTS, README)
_WEB: Final = "^https?://[^ ]+$"
_SHA256: Final = "^[0-9a-f]{64}$"
_UNKNOWN: Final = ("", "unknown")
_REPRODUCE: Final = re.compile(r"^## Reproduce$(?P<text>.*?)(?=^## |\Z)", re.M | re.S)


@dataclass(frozen=True, slots=True)
class Product:
    """What was judged, and who publishes the results."""

    format: Literal[1]
    name: Annotated[str, Key("The driver, as its users call it.", pattern="[^ ]")]
    version: Annotated[str, Key("As in the results.", pattern="[^ ]")]
    website: Annotated[str, Key("Its sources or its documentation.", pattern=_WEB)]
    contact: Annotated[str, Key("Where questions about the results go: an address or a page.", pattern="[^ ]")]
    results_sha256: Annotated[
        str, Key("SHA-256 of results.jsonl, as sha256sum prints it.", name="results-sha256", pattern=_SHA256)
    ]


@dataclass(frozen=True, slots=True)
class Checked:
    """Why a submission is refused, a line each; the statement of its results, if they can be read."""

    refused: tuple[str, ...]
    statement: Statement | None


def check(directory: Path, suite: str) -> Checked:
    """Check a directory by the requirements of this version of the suite."""
    found = [f"{name} is missing" for name in FILES if not (directory / name).is_file()]
    if found:
        return Checked(tuple(found), None)
    try:
        parts = records.read(directory / RESULTS)
    except BadResults as error:
        return Checked((str(error),), None)
    requirements, capabilities = load_requirements(), load_capabilities()
    found = [*_of_versions(parts, suite), *_of_text((directory / RESULTS).read_text(), parts)]
    if found:
        return Checked(tuple(found), None)
    matrix = matrix_of(parts, requirements)
    stated = statements(matrix, requirements, capabilities)
    if len(stated) != 1:
        said = " and ".join(f"{one.driver} {one.version}" for one in stated) or "none"
        return Checked((f"a submission is of one driver in one version; {RESULTS} has {said}",), None)
    [statement] = stated
    found = [
        *obstacles(statement.driver, statement.version, matrix, requirements, capabilities),
        *_of_product(directory, statement),
        *_of_readme((directory / README).read_text(), parts),
    ]
    return Checked(tuple(found), statement)


def _of_versions(parts: list[Part], suite: str) -> Iterator[str]:
    digest = records.digest_of(load_requirements())
    for run in [part.run for part in parts]:
        if run.version in _UNKNOWN:
            yield f"the results name no version of {run.driver}"
        if (run.suite, run.specification) != (suite, digest):
            yield (
                f"the results are of version {run.suite} of the suite, specification {run.specification}; this is"
                f" version {suite}, specification {digest}: check with that version, or run this one"
            )


def _of_text(text: str, parts: list[Part]) -> Iterator[str]:
    """The first line that is not what this suite writes for these runs and outcomes."""
    lines = zip_longest(text.splitlines(), records.lines_of(parts))
    for number, (line, expected) in enumerate(lines, 1):
        if line != expected:
            yield f"{RESULTS}, line {number}: it does not follow from the runs and outcomes: the file was edited"
            return


def _of_product(directory: Path, statement: Statement) -> Iterator[str]:
    try:
        product = from_plain(Product, tomllib.loads((directory / PRODUCT).read_text()))
    except (BadValue, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        yield f"{PRODUCT}: {error}"
        return
    for key, value, pattern in (
        ("name", product.name, "[^ ]"),
        ("website", product.website, _WEB),
        ("contact", product.contact, "[^ ]"),
        ("results-sha256", product.results_sha256, _SHA256),
    ):
        if not re.search(pattern, value):
            yield f"{PRODUCT}: {key} is {value!r}, and has to match {pattern}"
    if product.version != statement.version:
        yield f"{PRODUCT}: version is {product.version!r}, and the results are of {statement.version!r}"
    if product.results_sha256 != hashlib.sha256((directory / RESULTS).read_bytes()).hexdigest():
        yield f"{PRODUCT}: results-sha256 is not the digest of {RESULTS}: one of the two was changed"


def _of_readme(text: str, parts: list[Part]) -> Iterator[str]:
    section = _REPRODUCE.search(text)
    if not section:
        yield f"{README} has no section '## Reproduce'"
        return
    for run in [part.run for part in parts]:
        for said in (run.connection, f"--seed {run.seed}"):
            if said not in section["text"]:
                yield f"{README}: the commands of 'Reproduce' do not have {said!r}"
