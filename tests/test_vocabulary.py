"""What people read is in the words of the field: phrases of the project's former dialect are found and refused.

Read are the sentences of requirements and capabilities, the help of every command, the texts in the code that are
printed or written into reports, and the documents. Names in code, keys of files and docstrings are not.
"""

from __future__ import annotations

import ast
import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
import pytest

from conformance.cli import main
from conformance.spec import load_capabilities, load_requirements
from refdriver.cli.verbs import verbs

ROOT: Final = Path(__file__).parent.parent
SPECIFICATION: Final = ("conformance/spec/**/*.toml",)
TEXTS: Final = ("conformance/**/*.py", "vm/**/*.py", "refdriver/cli/*.py")
PAGES: Final = ("conformance/**/*.html",)
SCHEMAS: Final = ("conformance/**/*.schema.json",)
DOCUMENTS: Final = ("*.md", "docs/*.md")
# Their sentences are those of requirements and mutants, and are tested where they are written.
MADE_BY_COMMANDS: Final = {"generated-mutants.md", "kill-matrix.md", "neighbours.md", "specification.md"}


# A comment or a literal of JavaScript.
LITERAL: Final = re.compile(r"//[^\n]*|'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\"|`(?:[^`\\]|\\.)*`", re.S)


@dataclass(frozen=True, slots=True)
class Phrase:
    """A regular expression, what to write instead, and a text in which it has to be found.

    ``in_code`` is whether literals in code are searched, too.
    """

    pattern: str
    instead: str
    example: str
    in_code: bool = True


PHRASES: Final = (
    Phrase(r"(?<!['\w])fault(s|y)?\b(?! injection)", "mutant", "tries the faulty driver"),
    Phrase(r"\bdifferent drivers?\b|\bcorrect and different\b", "variant", "a different driver passes"),
    Phrase(r"\bforg(o|oes|one)\b", "waive", "what it forgoes"),
    Phrase(r"\bwrong in one\b|\bknown to be wrong\b", "broken, a mutant", "wrong in one way"),
    Phrase(r"\b(mutants?|drivers?) lives?\b", "survive", "a mutant lives"),
    Phrase(r"\bma[kd]e? (it |them )?smaller\b|\bmaking (it |them )?smaller\b", "shrink", "was not made smaller"),
    Phrase(r"\bsmallest (steps|case)\b", "minimal example", "the smallest steps"),
    Phrase(r"\bat a time\b", "concurrent, one by one, at the same time", "callers at a time"),
    Phrase(r"\bpreten(d|ded|ding|ds|ce)\b", "simulate", "a pretended kernel"),
    Phrase(r"\bleads? (out|nowhere|elsewhere)\b|\bbreakout\b", "path traversal, escape", "a name leads out of it"),
    Phrase(r"\bopaque marks?\b|\bwhiteout marks?\b", "opaque whiteout, whiteout", "an opaque mark"),
    Phrase(r"\b(was|is) made again\b", "recreated, opaque directory", "a directory that was made again"),
    Phrase(r"\bstores? of others\b", "image store", "the stores of others"),
    Phrase(r"\bc[ao]mes? and (goes?|went)\b", "flaky; create and delete", "a failure that comes and goes"),
    Phrase(r"\bput right\b", "correct, differ from", "put right against the source"),
    Phrase(r"\bend(s|ed) with (exit (code|status) )?\d", "exit status", "ends with 1"),
    Phrase(r"\blanes?\b", "privilege level", "lane root"),
    Phrase(r"\b(not|was) reached\b", "untested, tested", "what was reached"),
    Phrase(r"\b(no|does|do|did) harm\b", "say what stays unmodified", "does no harm"),
    Phrase(r"\b(is|are|was|were) told\b", "report", "the failure is told as one"),
    Phrase(r"\b(tape|story)\b", "history, trace", "the story of the test"),
    Phrase(r"\bworkbench\b", "store", "a workbench"),
    Phrase(r"\b(folders?|scripts?) of (a )?failures?\b", "evidence folder, reproducer", "the script of a failure"),
    Phrase(r"\bfilesystems? under the(ir)? stores?\b|\blayers on\b", "backing filesystem", "with layers on ext4"),
    Phrase(r"\bwords? of (a|the) command line\b", "argument, option", "the words of the command line"),
    # Sources in code are references, and have a test of their own.
    Phrase(r"\bdriver-facts\b|\berrat(um|a)\b|\bcs ?#\d", "a full reference", "driver-facts 3", in_code=False),
)


@dataclass(frozen=True, slots=True)
class Allowed:
    """A text, by what it begins with, in which a phrase has another meaning."""

    begins: str
    reason: str


ALLOWED: Final = (Allowed("kernel BUG|", "a pattern of messages in the kernel log: general protection fault"),)


def files(patterns: tuple[str, ...]) -> list[Path]:
    return sorted(path for pattern in patterns for path in ROOT.glob(pattern))


def sentences(path: Path) -> Iterator[str]:
    """The comments and the sentences of a file of the specification; sources are references, and have a test."""
    text = path.read_text(encoding="utf-8")
    yield " ".join(line.removeprefix("#").strip() for line in text.splitlines() if line.startswith("#"))

    def below(value: object, key: str = "") -> Iterator[str]:
        if isinstance(value, dict):
            for name, one in value.items():
                yield from below(one, name)
        elif isinstance(value, list):
            for one in value:
                yield from below(one, key)
        elif isinstance(value, str) and key in ("sentence", "consequence", "meaning", "name"):
            yield value

    yield from below(tomllib.loads(text))


def texts(path: Path) -> Iterator[str]:
    """The literals of a module that have a space in them, docstrings left out; ``{}`` is what is filled in."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    left_out = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            first = node.body[0]
            assert isinstance(first, ast.Expr)
            left_out.add(id(first.value))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            left_out.add(id(node.value))  # of an attribute
    for node in ast.walk(tree):
        if id(node) in left_out:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value.strip():
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)


def helps(command: click.Command, name: str) -> Iterator[tuple[str, str]]:
    """The help of a command and of all below it, without the breaks of its lines."""
    context = click.Context(command, info_name=name)
    yield name, " ".join(command.get_help(context).split())
    if isinstance(command, click.Group):
        for verb in command.list_commands(context):
            below = command.get_command(context, verb)
            assert below is not None
            yield from helps(below, f"{name} {verb}")


def descriptions(value: object) -> Iterator[str]:
    """What a schema says for people."""
    if isinstance(value, dict):
        for name, one in value.items():
            if name == "description" and isinstance(one, str):
                yield one
            else:
                yield from descriptions(one)
    elif isinstance(value, list):
        for one in value:
            yield from descriptions(one)


@dataclass(frozen=True, slots=True)
class Text:
    """Something that people read, and where it is from."""

    where: str
    words: str
    in_code: bool = False

    @property
    def phrases(self) -> list[Phrase]:
        return found_in(self.words, in_code=self.in_code)

    @property
    def is_allowed(self) -> bool:
        return any(self.words.startswith(one.begins) for one in ALLOWED)


def found_in(text: str, *, in_code: bool = False) -> list[Phrase]:
    return [one for one in PHRASES if (one.in_code or not in_code) and re.search(one.pattern, text, re.I)]


def everything() -> Iterator[Text]:
    for name, command in (("overlay-conformance", main), ("refdriver", verbs)):
        yield from (Text(verb, said) for verb, said in helps(command, name))
    for path in files(SPECIFICATION):
        yield from (Text(path.name, said) for said in sentences(path))
    for path in files(TEXTS):
        yield from (Text(str(path.relative_to(ROOT)), said, in_code=True) for said in texts(path))
    for path in files(SCHEMAS):
        yield from (Text(path.name, said) for said in descriptions(json.loads(path.read_text(encoding="utf-8"))))
    for path in files(PAGES):
        yield from (Text(path.name, said, in_code=True) for said in page_texts(path.read_text(encoding="utf-8")))
    for path in files(DOCUMENTS):
        if path.name not in MADE_BY_COMMANDS:
            yield Text(path.name, " ".join(prose(path.read_text(encoding="utf-8")).split()))


def page_texts(page: str) -> Iterator[str]:
    """What a page shows: the text of its elements, and the literals of its script that have a space in them."""
    markup, _, script = page.partition("'use strict';")
    yield from re.findall(r">([^<>{}]*[a-z] [^<>{}]*)<", markup)
    for found in LITERAL.finditer(script):
        said = re.sub(r"\$\{[^}]*\}", "{}", found[0][1:-1])
        if found[0][0] in "'\"`" and " " in said:
            yield said


def prose(document: str) -> str:
    """A document without its code, whose names are those of the code."""
    return re.sub(r"^```.*?^```$|`[^`\n]*`", "", document, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def read() -> tuple[Text, ...]:
    """All texts; what is searched for a phrase is searched in them."""
    return tuple(everything())


@pytest.mark.slow
def test_no_text_has_a_phrase_of_the_former_dialect(read: tuple[Text, ...]) -> None:
    wrong = [
        f"{one.where}: {' '.join(one.words.split())[:160]!r}: write {', '.join(bad.instead for bad in one.phrases)}"
        for one in read
        if one.phrases and not one.is_allowed
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("phrase", PHRASES, ids=lambda one: one.example)
def test_a_phrase_is_found(phrase: Phrase) -> None:
    assert found_in(phrase.example) == [phrase]
    assert not found_in(phrase.instead)


@pytest.mark.slow
def test_every_exception_is_needed(read: tuple[Text, ...]) -> None:
    wrong = [one.words for one in read if one.phrases]
    assert not [one for one in ALLOWED if not any(text.startswith(one.begins) for text in wrong)]


@pytest.mark.slow
def test_all_kinds_of_text_are_read(read: tuple[Text, ...]) -> None:
    """A check that reads nothing would pass."""
    there = {one.where for one in read}
    assert {"overlay-conformance selftest", "refdriver apply-diff", "page.html"} <= there
    assert {"results.schema.json", "vm/cli.py", "refdriver/cli/verbs.py"} <= there
    assert {"README.md", "glossary.md", "judging.md"} <= there
    assert "Kernel log" in [one.words for one in read]  # of the page's script


def test_every_sentence_of_the_specification_is_read() -> None:
    read = [said for path in files(("conformance/spec/**/*.toml",)) for said in sentences(path)]
    meanings = [one.meaning for one in load_capabilities().values()]
    requirements = load_requirements().values()
    said = [text for one in requirements for text in (one.sentence, one.consequence)]
    assert not {*meanings, *said} - set(read)


def test_code_in_a_document_is_no_prose() -> None:
    document = "A mutant of `Fault`s:\n\n```python\nFault(one)\n```\n\nand a faulty one\n"
    assert [one.instead for one in found_in(document)] == ["mutant"]
    assert prose(document).split() == ["A", "mutant", "of", "s:", "and", "a", "faulty", "one"]
