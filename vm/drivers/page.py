"""Pages from the data of builds: the page of all, and one of each deviation. The same data give the same pages."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from conformance.report.escaping import markdown
from conformance.report.records import Part
from conformance.report.trend import Change, compare
from conformance.spec import Requirement, load_requirements
from conformance.spec.naming import counted
from conformance.spec.verdicts import Verdict
from vm.drivers import deviation_page
from vm.drivers.builds import Builds
from vm.drivers.data import Judged, all_of
from vm.drivers.deviations import BadDeviations, Deviation, Deviations, Judgement, load, unjudged

MADE: Final = "<!-- made by: overlay-conformance drivers pages -->"
_COLUMNS: Final = (Verdict.FAIL, Verdict.PASS, Verdict.DECLINED, Verdict.NOT_APPLICABLE, Verdict.UNTESTED)
_SHOWN: Final = (Change.FIXED, Change.NEW, Change.GONE)
_SAID: Final = {
    Judgement.TRUE: "the {kind} deviates, and no thread of its maintainers about it was found",
    Judgement.KNOWN: "the {kind} deviates, and its maintainers know",
    Judgement.BY_DESIGN: "the maintainers chose this behaviour",
    Judgement.DISPUTABLE: "whether the requirement is right here is open",
}
_ALL_BREAK: Final = 3  # lines of builds that a requirement must fail in


def counts_of(part: Part) -> str:
    """The verdicts of a result in one line."""
    verdicts = [one.verdict for one in part.results()]
    return ", ".join(f"{verdicts.count(one)} {one.value}" for one in Verdict if one in verdicts)


def pages_of(builds: Builds, data: Path, docs: Path) -> dict[str, str]:
    """All pages by their paths below the documents; raises BadDeviations for a failure without a judgement."""
    found, deviations = all_of(builds, data), load(data)
    if missing := unjudged(found, deviations):
        more = f"\nand {len(missing) - 20} more" if len(missing) > 20 else ""
        raise BadDeviations(
            f"{data}: add a deviation for each of these failures:\n" + "\n".join(missing[:20]) + more
        )
    shown = {one.build.name: _shown(one, deviations) for one in found}
    seen = {one.name: _seen(one, found, shown) for one in deviations.deviation}
    lines = [*_lines(builds, found, deviations, seen), *(_reports(docs) if builds.page.reports else ())]
    pages = {builds.page.name: "\n".join(lines).rstrip("\n") + "\n"}
    for one in deviations.deviation:
        if seen[one.name]:
            text = "\n".join(deviation_page.lines_of(one, seen[one.name], deviations, docs, builds.page))
            pages[f"deviations/{one.name}.md"] = f"{text}\n"
    return pages


def _shown(judged: Judged, deviations: Deviations) -> frozenset[str]:
    """The names of the deviations that a build shows."""
    found = (deviations.of(judged.build.line, name, outcome) for name, outcome in judged.failures)
    return frozenset(one.name for one in found if one)


def _seen(
    deviation: Deviation, found: Sequence[Judged], shown: Mapping[str, frozenset[str]]
) -> list[deviation_page.Seen]:
    lines: dict[str, list[tuple[Judged, bool]]] = {}
    for one in found:
        lines.setdefault(one.build.line, []).append((one, deviation.name in shown[one.build.name]))
    return [
        deviation_page.Seen(line, tuple(versions))
        for line, versions in lines.items()
        if any(there for _, there in versions)
    ]


def _lines(
    builds: Builds,
    found: Sequence[Judged],
    deviations: Deviations,
    seen: Mapping[str, Sequence[deviation_page.Seen]],
) -> Iterator[str]:
    yield f"# {builds.page.title}"
    yield ""
    yield MADE
    yield ""
    yield from _about(builds, found)
    yield from _verdicts(builds, found, deviations)
    yield from _table(builds, deviations, seen)
    yield from _changes(found)
    yield from _broken_by_all(builds, found, deviations)
    yield from _packages(builds, found)


def _about(builds: Builds, found: Sequence[Judged]) -> Iterator[str]:
    runs = [one.part.run for one in found]
    asked, kind = builds.question, builds.page.kind
    days = sorted({run.started[:10] for run in runs})
    yield from builds.page.about.strip().splitlines()
    yield ""
    yield "```text"
    yield "overlay-conformance drivers list             # builds, what is here, verdicts"
    yield "overlay-conformance drivers fetch [BUILD]... # unpack the packages; needs patchelf"
    yield f"overlay-conformance drivers judge [BUILD]... # judge them, and keep the results in {builds.page.data}"
    yield "overlay-conformance drivers check [BUILD]... # run the reproducers of the data, each by itself"
    yield "overlay-conformance drivers pages            # write this page and docs/deviations from the results"
    yield "```"
    yield ""
    yield f"- {counted(len(found), 'build')}, judged as root on Linux"
    yield f"  {_all(deviation_page.series(run.kernel) for run in runs)}, {_all(days)}"
    suites = _all(f"{run.suite} (specification {run.specification})" for run in runs)
    examples = counted(asked.examples, "example")
    yield f"- overlay-conformance {suites}, profile {asked.profile}, {examples} of each"
    yield f"  property, seed {asked.seed}, `--jobs 1`. Only the newest build of each {kind} has reproducers and"
    yield "  minimal examples."
    chosen = f"{len(asked.requirements)} requirements of" if asked.requirements else "all"
    of_all = f"{len(load_requirements())}{'' if asked.requirements else ' requirements'}"
    yield f"- {chosen} {of_all}. {asked.why}"
    if missing := [one.name for one in builds.build if not _has(one.name, found)]:
        yield f"- builds that are not judged yet: {', '.join(missing)}"
    if builds.absent:
        yield f"- no build has {'; '.join(f'{one.name} ({one.why})' for one in builds.absent)}"
    yield ""


def _has(name: str, found: Sequence[Judged]) -> bool:
    return any(one.build.name == name for one in found)


def _all(said: Iterator[str] | Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(said)) or "none"


def _verdicts(builds: Builds, found: Sequence[Judged], deviations: Deviations) -> Iterator[str]:
    measured = any(one.cpu for one in found)
    heads = [one.value for one in _COLUMNS]
    heads[1:1] = [one.value for one in Judgement]
    if measured:
        heads.append("CPU in s")
    yield "## Verdicts"
    yield ""
    yield f"| build | version | backing | {' | '.join(heads)} |"
    yield f"|---|---|---|{'--:|' * len(heads)}"
    for one in found:
        verdicts = [result.verdict for result in one.part.results()]
        counts = [verdicts.count(verdict) for verdict in _COLUMNS]
        judged = _judged(one, deviations)
        counts[1:1] = [judged.count(judgement) for judgement in Judgement]
        cells = [one.build.name, _version(builds, one), one.build.backing, *map(str, counts)]
        if measured:
            cells.append(str(round(one.cpu)) if one.cpu else "-")
        yield f"| {' | '.join(cells)} |"
    yield ""
    yield "The columns after FAIL say what these failures are: each requirement counts once, by the first of"
    yield f"{', '.join(one.value for one in Judgement)} that one of its failures is."
    yield from builds.page.notes.strip().splitlines()
    yield ""


def _judged(judged: Judged, deviations: Deviations) -> list[Judgement]:
    """For each requirement that a build fails, the first judgement that one of its failures has."""
    found: dict[str, set[Judgement]] = {}
    for requirement, outcome in judged.failures:
        if deviation := deviations.of(judged.build.line, requirement, outcome):
            found.setdefault(requirement, set()).add(deviation.judgement)
    return [next(one for one in Judgement if one in those) for those in found.values()]


def _version(builds: Builds, one: Judged) -> str:
    return ", ".join(f"{root.version} ({root.suite})" for root in builds.roots_of([one.build]))


def _table(
    builds: Builds, deviations: Deviations, seen: Mapping[str, Sequence[deviation_page.Seen]]
) -> Iterator[str]:
    yield "## Deviations"
    yield ""
    for judgement in Judgement:
        yield f"- *{judgement.value}*: {_SAID[judgement].format(kind=builds.page.kind)}"
    yield ""
    yield "| deviation | judgement | requirements | seen in | upstream |"
    yield "|---|---|---|---|---|"
    for one in deviations.deviation:
        if not seen[one.name]:
            continue
        where = "; ".join(f"{same.line} {same.versions_in_words()}" for same in seen[one.name])
        upstream = ", ".join(deviation_page.linked(text) for text in one.upstream) or "not found"
        ids = " ".join(f"[{name}](specification.md#{name.lower()})" for name in one.requirements)
        link = f"[{markdown(one.title)}](deviations/{one.name}.md)"
        yield f"| {link} | {one.judgement.value} | {ids} | {where} | {upstream} |"
    yield ""


def _changes(found: Sequence[Judged]) -> Iterator[str]:
    yield "## From version to version"
    yield ""
    yield "As `overlay-conformance report --against` compares: FIXED failed in the older version and passes in the"
    yield "newer one, NEW fails in the newer one only, GONE has no verdict in the newer one."
    yield ""
    yield "| line | from | to | FIXED | NEW | GONE | STILL |"
    yield "|---|---|---|---|---|---|--:|"
    requirements = load_requirements()
    lines: dict[str, list[Judged]] = {}
    for one in found:
        lines.setdefault(one.build.line, []).append(one)
    for line, builds in lines.items():
        for old, new in itertools.pairwise(builds):
            yield _change(line, old, new, requirements)
    yield ""


def _change(line: str, old: Judged, new: Judged, requirements: Mapping[str, Requirement]) -> str:
    trend = compare([old.part], [new.part], requirements)
    ids = {
        change: " ".join(dict.fromkeys(one.requirement for one in trend.changes if one.change is change)) or "-"
        for change in _SHOWN
    }
    said = " | ".join(ids[change] for change in _SHOWN)
    return f"| {line} | {old.version} | {new.version} | {said} | {trend.counts[Change.STILL]} |"


def _broken_by_all(builds: Builds, found: Sequence[Judged], deviations: Deviations) -> Iterator[str]:
    yield f"## Requirements that every {builds.page.kind} breaks"
    yield ""
    verdicts: dict[str, dict[str, set[Verdict]]] = {}
    for one in found:
        for result in one.part.results():
            if result.verdict in (Verdict.FAIL, Verdict.PASS):
                verdicts.setdefault(result.requirement, {}).setdefault(one.build.line, set()).add(result.verdict)
    broken = [
        name
        for name, lines in verdicts.items()
        if len(lines) >= _ALL_BREAK and all(said == {Verdict.FAIL} for said in lines.values())
    ]
    yield f"A requirement that fails in every build of {_ALL_BREAK} lines or more is questioned: is it right?"
    yield ""
    requirements = load_requirements()
    for name in broken:
        pages = [one for one in deviations.deviation if name in one.requirements]
        links = ", ".join(f"[{one.judgement.value}](deviations/{one.name}.md)" for one in pages)
        answer = next((one.answer for one in deviations.questioned if one.requirement == name), "")
        if not answer:
            raise BadDeviations(
                f"every {builds.page.kind} breaks {name}; add a [[questioned]] that says why it stays"
            )
        yield f"- **{name}** ({requirements[name].level}): {requirements[name].sentence} Judged: {links}. {answer}"
    if not broken:
        yield "There is none."
    yield ""


def _packages(builds: Builds, found: Sequence[Judged]) -> Iterator[str]:
    yield "## Packages"
    yield ""
    yield "| root | package | suite | SHA-256 of the package (amd64 where it has one) |"
    yield "|---|---|---|---|"
    for one in builds.roots_of([each.build for each in found]):
        yield f"| {one.name} | {one.package} {one.version} | {one.suite} | `{one.sha256}` |"
    yield ""


def _reports(docs: Path) -> Iterator[str]:
    yield "## Reports for upstream"
    yield ""
    yield "Each has a script that needs nothing of this project, and the output of a run. None was sent."
    yield ""
    for path in sorted((docs / "upstream").glob("*.md")):
        title, _, version = path.read_text().removeprefix("# ").partition("\n\n- version: ")
        yield f"- [{title}](upstream/{path.name}): {version.partition(' (')[0]}"
