"""The kill matrix as Markdown: what killed each mutant, how soon, and what is said of correct drivers."""

from __future__ import annotations

import statistics
from typing import Final

from conformance.history.printable import printable
from conformance.report.killfile import KillReport
from conformance.selftest.alarms import Standing, Verdicts, summed_up
from conformance.selftest.kills import Fate, KillMatrix, Specimen

_SMALL: Final = 5


def kill_table(report: KillReport) -> str:
    """The whole page: what was run, the figures, and a line for each mutant."""
    about, matrix = report.about, report.matrix
    lines = [
        "# Kill matrix",
        "",
        "Mutants are drivers that are each broken in one known way. The table shows what killed them. Written by"
        " `overlay-conformance selftest --markdown`; [selftest.md](selftest.md) explains the columns.",
        "",
        f"overlay-conformance {about.suite} on {about.basis} {about.version}, kernel {about.kernel}, profile"
        f" {about.profile} ({about.examples} examples), {_seeds(about.seeds)}, {about.started[:10]}.",
        "",
        *_figures(report),
        "",
        "| mutant | named for | result | time to kill | examples | operations | source |",
        "|---|---|---|---|---|---|---|",
        *(_row(matrix, mutant) for mutant in matrix.mutants),
        "",
    ]
    lines += _listed("Surviving mutants", [(one.name, _why(matrix, one)) for one in matrix.alive])
    lines += _listed(
        "Mutants that are not applicable here", [(one.name, _why(matrix, one)) for one in _untried(matrix)]
    )
    missed = [(one.name, ", ".join(_missed(matrix, one))) for one in matrix.mutants if _missed(matrix, one)]
    lines += _listed("Requirements that a mutant should have failed, too", missed)
    lines += _listed("Requirements that no mutant broke", list(report.gaps.items()))
    lines += _listed("Requirements without a mutant, by exception", list(report.exceptions.items()))
    lines += _correct(report)
    return "\n".join(lines).rstrip() + "\n"


def _correct(report: KillReport) -> list[str]:
    if not report.choices:
        return []
    found = [summed_up(one, report.hearings) for one in report.choices]
    good = sum(one.standing is Standing.CONFORMS for one in found)
    tried = sum(one.standing is not Standing.NOT_APPLICABLE for one in found)
    judged = "the tests of the requirements that each choice touches"
    if report.about.complete:
        judged += " and all tests of the profile quick"
    if report.about.whole:
        judged = "all tests of the profile"
    return [
        "## Variants",
        "",
        "Each variant is a correct driver that makes another permitted choice, and must conform. The variants were"
        f" tested by {judged}: {good} of {tried} conform.",
        "",
        "| variant | verdict | tests passed | why it is permitted |",
        "|---|---|---|---|",
        *map(_choice_row, found),
        "",
    ]


def _choice_row(found: Verdicts) -> str:
    said = found.standing.value
    said += f": {', '.join(found.requirements)}" if found.alarms else ""
    said += f"; waives {', '.join(found.waived)}" if found.waived else ""
    said += f" ({' '.join(found.reason.split())[:300]})" if found.reason else ""
    choice = found.choice
    return _cells(f"`{choice.name}`: {choice.chooses}", said, str(found.passed), choice.source)


def _cells(*cells: str) -> str:
    return "| " + " | ".join(printable(one.replace("|", "\\|")) for one in cells) + " |"


def _seeds(seeds: tuple[int, ...]) -> str:
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"


def _figures(report: KillReport) -> list[str]:
    matrix = report.matrix
    killed = [one for one in matrix.mutants if matrix.fate(one) is Fate.KILLED]
    untried = _untried(matrix)
    median, worst = matrix.median_and_worst()
    sizes = [size for one in matrix.mutants if (size := matrix.size_of(one)) is not None]
    small = sum(size <= _SMALL for size in sizes)
    lines = [
        f"- {len(killed)} of {len(matrix.mutants) - len(untried)} mutants are killed"
        + (f"; {len(untried)} more are not applicable here" if untried else ""),
        f"- time to kill: median {median:.1f} s, worst {worst:.1f} s",
    ]
    if report.about.complete:
        lines.append(
            f"- tests of the profile quick kill {matrix.share_of_quick:.0%} of the mutants that every host can show"
        )
    if sizes:
        middle = statistics.median(sizes)
        lines.append(
            f"- operations in minimal examples: median {middle:.0f}, {_SMALL} or fewer in {small} of {len(sizes)}"
        )
    return lines


def _row(matrix: KillMatrix, mutant: Specimen) -> str:
    kills = matrix.kills_of(mutant)
    fate = matrix.fate(mutant)
    others = len(matrix.other_killers(mutant))
    said = fate.value + (f", and by {others} more" if others and fate is Fate.KILLED else "")
    worst = f"{max(one.seconds for one in kills):.1f} s" if kills else ""
    examples = str(max(one.examples for one in kills)) if kills else ""
    size = matrix.size_of(mutant)
    mark = " (hard)" if mutant.hard else ""
    return _cells(
        f"`{mutant.name}`{mark}: {mutant.sentence}",
        mutant.named_for,
        said,
        worst,
        examples,
        "" if size is None else str(size),
        mutant.source,
    )


def _missed(matrix: KillMatrix, mutant: Specimen) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one for trial in matrix.of(mutant) for one in trial.missed))


def _untried(matrix: KillMatrix) -> list[Specimen]:
    return [one for one in matrix.mutants if matrix.fate(one) is Fate.NOT_APPLICABLE]


def _why(matrix: KillMatrix, mutant: Specimen) -> str:
    return next((one.reason for one in matrix.of(mutant) if one.fate is matrix.fate(mutant)), "it was not tried")


def _listed(title: str, entries: list[tuple[str, str]]) -> list[str]:
    if not entries:
        return []
    return [
        f"## {title}",
        "",
        *(f"- `{name}`: {printable(' '.join(said.split())[:300])}" for name, said in entries),
        "",
    ]
