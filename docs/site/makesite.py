"""The static site: ``python docs/site/makesite.py [DIRECTORY]`` builds it into build/site, or into a directory.

The documents are copied in the layout of the repository, so that their links stay as they are. Each requirement
gets a page from the registry: what ``overlay-conformance explain`` prints, and the bugs and documents that name it.
MkDocs makes pages of both; a link or an anchor that does not resolve is an error.
"""

from __future__ import annotations

import itertools
import logging
import posixpath
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort

from conformance.cli.listing import about, commands
from conformance.corpus.build import build as build_corpus
from conformance.corpus.observed import expected_files
from conformance.corpus.tables import vectors
from conformance.observing.questions import cases
from conformance.observing.table import SUFFIX, as_html, read
from conformance.report.schemas import corpus_schemas
from conformance.spec import Requirement, conventions, is_core, load_capabilities, load_requirements
from conformance.spec.specification import VARIES_SAID, VIOLATED
from vm.drivers.builds import FILES
from vm.drivers.builds import load as load_builds
from vm.drivers.data import all_of
from vm.drivers.table import html_page

ROOT: Final = Path(__file__).parents[2]
REQUIREMENTS: Final = "requirements"
# Documents of a section, in this order; those that no section names follow in a section of their directory.
SECTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "Home": ("README.md",),
    "Specification": (
        "docs/specification.md",
        f"{REQUIREMENTS}/index.md",
        "docs/behaviour.md",
        "docs/field-bugs.md",
    ),
    "Judging a driver": (
        *("docs/running.md", "docs/verdicts.md", "docs/first-driver.md", "docs/command-driver.md"),
        *(
            "docs/adapters.md",
            "docs/unpackers.md",
            "docs/listers.md",
            "docs/corpus.md",
            "docs/known-failures.md",
            "docs/results.md",
            "docs/evidence.md",
        ),
        *("docs/exit-codes.md", "docs/ci.md", "docs/faq.md", "docs/submitting.md"),
    ),
    "Results": (
        "docs/real-drivers.md",
        "docs/real-unpackers.md",
        "docs/divergence.md",
        "docs/matrix.md",
        "docs/matrix/*.md",
        "docs/benchmarks.md",
    ),
    "Method": (
        "docs/judging.md",
        "docs/selftest.md",
        "docs/kill-matrix.md",
        "docs/generated-mutants.md",
        "docs/neighbours.md",
        "docs/glossary.md",
    ),
    "Reference driver": ("docs/driver.md",),
    "Project": ("docs/architecture.md", "CONTRIBUTING.md", "docs/releasing.md", "CHANGELOG.md", "SECURITY.md"),
}
BUILDS: Final = "verdicts.html"  # in the directory of the data, such as docs/drivers
DIVERGENCE: Final = "divergence/table.html"  # beside divergence.md
CORPUS: Final = "docs/corpus"  # of the site: the vectors that the table links to
# They name every requirement.
NAME_ALL: Final = {"docs/specification.md", "docs/kill-matrix.md", "CHANGELOG.md"}
# A link, code, or an id; only an id and code that is an id become links.
TOKEN: Final = re.compile(
    r"\[[^\]]*\]\([^)]*\)|`(?P<code>[^`]+)`|(?<![\w#/-])(?P<id>OVL(?:-[A-Z0-9]+){2,})(?![\w/*-])"
)
LINK: Final = re.compile(r"(\]\()(?P<path>(?![a-z]+:|#)[^)#\s]+)")
WHOLE_LINK: Final = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<path>(?![a-z]+:|#)[^)#\s]+)\)")
BUG: Final = re.compile(r'\| <a id="(?P<anchor>[^"]+)"></a>(?P<text>.+) \| (?P<where>.+) \| (?P<ids>.+) \|')


@dataclass(frozen=True, slots=True)
class Documents:
    """The Markdown of the repository by its path, and what it says about requirements."""

    texts: Mapping[str, str]

    def bugs(self, requirement: str) -> Iterator[tuple[str, str, str]]:
        """Anchor, text and references of each row of field-bugs.md that names it."""
        for row in BUG.finditer(self.texts["docs/field-bugs.md"]):
            if requirement in row["ids"].split(", "):
                yield row["anchor"], row["text"], row["where"]

    def naming(self, requirement: str) -> Iterator[str]:
        """Documents that name it, without those that name all."""
        for path, text in self.texts.items():
            if path not in NAME_ALL and re.search(rf"\b{requirement}\b(?!-)", text):
                yield path


def read_documents(root: Path = ROOT) -> Documents:
    """The documents at the top and below docs/."""
    paths = sorted([*root.glob("*.md"), *root.glob("docs/**/*.md")])
    return Documents({str(path.relative_to(root)): path.read_text(encoding="utf-8") for path in paths})


def title_of(text: str) -> str:
    """The first heading."""
    return next(line.removeprefix("# ") for line in text.splitlines() if line.startswith("# "))


# ---- Pages.


def requirement_page(one: Requirement, documents: Documents) -> str:
    """What is known of a requirement."""
    return "\n".join(_requirement_lines(one, documents)) + "\n"


def _requirement_lines(one: Requirement, documents: Documents) -> Iterator[str]:
    capabilities, found = load_capabilities(), about(one)
    core = ", core" if is_core(one, capabilities) else ""
    yield from (f"# {one.id}", "", f"**{one.level}** {one.sentence}", "")
    yield from (f"*{VIOLATED}:* {one.consequence}", "")
    yield f"Family [{one.family}](index.md#{_slug(one.family)}){core}, since {one.since}."
    yield f"[In the specification](../docs/specification.md#{one.id.lower()})."
    yield from ("", "## Sources", "")
    for source in one.source:
        address = f"../{source.address}" if source.address.startswith("docs/") else source.address
        yield f"- [{source.target}]({address}){f': {source.note}' if source.note else ''}"
    yield from (
        "",
        "## Conditions",
        "",
        f"- privileges: {'real root' if one.privileges == 'root' else 'a user namespace'}",
    )
    yield f"- varies with: {', '.join(VARIES_SAID[name] for name in one.varies) or 'the driver only'}"
    if of := conventions(one, capabilities):
        yield f"- a convention of {' and '.join(of)}: a driver of another family declines what it needs"
    if one.kernel:
        yield f"- kernel: {one.kernel} or later"
    if one.backing:
        yield f"- tested on: {', '.join(one.backing)}"
    for need in one.needs:
        yield f"- needs `{need}`: {capabilities[need].meaning}"
    yield from ("", "## Tests", "")
    for test in found["tests"]:
        since = "profile release only" if test["profile"] == "release" else f"from profile {test['profile']} on"
        yield f"- `{test['name']}` (`conformance/suites/{test['file']}`, {since})"
    yield from ("", "```sh", *(line for _, line in commands(one, "DRIVER", found["tests"])), "```")
    if found["mutants"]:
        yield from ("", "## Mutants", "", "| mutant | what it breaks |", "|---|---|")
        yield from (f"| {mutant['name']} | {_cell(mutant['sentence'])} |" for mutant in found["mutants"])
    if bugs := list(documents.bugs(one.id)):
        yield from ("", "## Bugs of real drivers", "")
        for anchor, text, where in bugs:
            said = text if where == "-" else f"{text} ({where})"
            yield f"- {_moved(said, 'docs', REQUIREMENTS)} [field bug](../docs/field-bugs.md#{anchor})"
    if pages := [path for path in documents.naming(one.id) if path != "docs/field-bugs.md"]:
        yield from ("", "## Pages that name it", "")
        yield from (f"- [{title_of(documents.texts[path])}](../{path})" for path in pages)


def index_page(requirements: Mapping[str, Requirement]) -> str:
    """All requirements, by family."""
    lines = ["# Requirements", "", "Each requirement has a page: its sources, tests, mutants and field bugs.", ""]
    for family, found in itertools.groupby(requirements.values(), lambda one: one.family):
        lines += [f"## {family[0].upper()}{family[1:]}", "", "| id | level | requirement |", "|---|---|---|"]
        lines += [f"| [{one.id}]({one.id}.md) | {one.level} | {_cell(one.sentence)} |" for one in found]
        lines.append("")
    return "\n".join(lines)


def _slug(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-")


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


def _moved(text: str, before: str, after: str) -> str:
    """A text with relative links, in another directory."""
    return LINK.sub(lambda link: f"{link[1]}{posixpath.relpath(posixpath.join(before, link['path']), after)}", text)


def linked(path: str, text: str, requirements: Mapping[str, Requirement]) -> str:
    """A document whose ids of requirements are links, in prose and tables."""
    up = posixpath.relpath(REQUIREMENTS, posixpath.dirname(path))

    def link(token: re.Match[str]) -> str:
        found = token["id"] or token["code"]
        return f"[{token[0]}]({up}/{found}.md)" if found in requirements else token[0]

    lines, in_code = [], False
    for line in text.split("\n"):
        in_code ^= line.startswith("```")
        if path == "docs/specification.md" and (heading := re.fullmatch(r"### (OVL-[A-Z0-9-]+)", line)):
            lines += [line, "", f"[Tests, mutants, field bugs]({up}/{heading[1]}.md)"]
        else:
            lines.append(line if in_code or line.startswith(("#", "    ")) else TOKEN.sub(link, line))
    return "\n".join(lines)


def without_directories(path: str, text: str, root: Path) -> str:
    """A document in which a link to a directory is one to its README, or text: a site shows no directory."""

    def link(found: re.Match[str]) -> str:
        target = root / posixpath.dirname(path) / found["path"]
        if not target.is_dir():
            return found[0]
        readme = f"[{found['text']}]({found['path'].rstrip('/')}/README.md)"
        return readme if (target / "README.md").is_file() else found["text"]

    return WHOLE_LINK.sub(link, text)


# ---- The tree that MkDocs reads.


def write_source(source: Path, documents: Documents, root: Path = ROOT) -> None:
    """Write the documents, the files that they link to, and the generated pages."""
    requirements = load_requirements()
    shutil.rmtree(source, ignore_errors=True)
    for path, text in documents.texts.items():
        _write(source / path, linked(path, without_directories(path, text, root), requirements))
        for link in LINK.finditer(text):
            target = posixpath.normpath(posixpath.join(posixpath.dirname(path), link["path"]))
            if (root / target).is_file() and target not in documents.texts:
                (source / target).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(root / target, source / target)
    for one in requirements.values():
        _write(source / REQUIREMENTS / f"{one.id}.md", requirement_page(one, documents))
    _write(source / REQUIREMENTS / "index.md", index_page(requirements))
    _write_builds(source, root)
    _write_divergence(source, root)
    script = Path(__file__).with_name("iframe-worker.js")
    _write(source / "assets" / script.name, script.read_text(encoding="utf-8"))


def _write_builds(source: Path, root: Path) -> None:
    """The pages of every requirement by every build of real drivers and unpackers, and links to them."""
    for file in FILES:
        builds = load_builds(file)
        document = source / "docs" / builds.page.name
        if not document.exists():
            continue
        made = source / builds.page.data / BUILDS
        _write(made, html_page(all_of(builds, root / builds.page.data), title=builds.page.title))
        link = made.relative_to(document.parent)
        said = f"## Verdicts\n\n[Every requirement by every build]({link}): verdicts, causes and reproducers.\n"
        _write(document, document.read_text(encoding="utf-8").replace("## Verdicts\n", said, 1))


def _write_divergence(source: Path, root: Path) -> None:
    """The table of divergence as a page of its own, with links to vectors, and a link to it."""
    document = source / "docs/divergence.md"
    if not document.exists():
        return
    columns = [read(path) for path in sorted((root / "docs/divergence").glob(f"*{SUFFIX}"))]
    made = document.parent / DIVERGENCE
    corpus = posixpath.relpath(CORPUS, str(made.parent.relative_to(source)))
    links = {case: f"{corpus}/{file}" for case, file in expected_files().items()}
    _write(made, as_html(columns, cases(), links))
    said = f"## Table\n\n[The table as a page of its own]({DIVERGENCE}), with links to vectors.\n"
    _write(document, document.read_text(encoding="utf-8").replace("## Table\n", said, 1))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def navigation(source: Path, documents: Documents) -> list[dict[str, Any]]:
    """The sections; every document is in one of them."""
    left = dict.fromkeys(documents.texts)
    found: list[dict[str, Any]] = []
    for section, patterns in SECTIONS.items():
        there = [str(path.relative_to(source)) for one in patterns for path in sorted(source.glob(one))]
        left = {path: None for path in left if path not in there}
        found.append({section: there if len(there) > 1 else there[0]})
    for section, paths in itertools.groupby(left, _section):
        found.append({section: list(paths)})
    return found


def _section(path: str) -> str:
    """The directory below docs/ that a document is in."""
    first, *below = path.removeprefix("docs/").split("/")
    return f"{first[0].upper()}{first[1:]}" if below else "More"


def render(source: Path, site: Path, sections: list[dict[str, Any]] | None = None) -> None:
    """Let MkDocs make pages of a tree; raises Abort if a link or an anchor does not resolve. The log names it."""
    options: dict[str, Any] = {"docs_dir": str(source), "site_dir": str(site), "nav": sections}
    config = load_config(str(Path(__file__).with_name("mkdocs.yml")), **options)
    config.plugins.on_startup(command="build", dirty=False)
    build(config)
    config.plugins.on_shutdown()


def make_site(site: Path) -> None:
    """Build the site into a directory, with its sources beside it."""
    source, documents = site.with_name(f"{site.name}-source"), read_documents()
    write_source(source, documents)
    render(source, site, navigation(source, documents))
    build_corpus(site / CORPUS, vectors(), corpus_schemas())  # here, as its README is no page


def main() -> int:
    """Run the command line."""
    site = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build" / "site").absolute()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        make_site(site)
    except Abort as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{site / 'index.html'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
