"""The page of a run of generated mutants: the scores, and every survivor with its reason and diff (Markdown)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Final

from conformance.harness.events import GeneratedFate as Fate
from conformance.report.generatedfile import About
from conformance.selftest.generated.fates import Score, Tried, median_seconds, scores_by
from conformance.selftest.generated.survivors import ELSEWHERE

_UNLISTED: Final = "not listed"
_HEAD: Final = ("mutants", "killed", "survived", "stillborn", "equivalent", "undecided", "score")


def page(about: About, found: Sequence[Tried]) -> str:
    """The whole page. Survivors come by the kind of their reason, then by module."""
    score = Score.of(found)
    here = Score.of(one for one in found if not (one.fate is Fate.SURVIVED and one.kind in ELSEWHERE))
    lines = [
        "# Generated mutants",
        "",
        "Mutation operators made these mutants from the source of the driver, and the suite judged them. Written by"
        " `overlay-conformance selftest --generated --markdown`; [selftest.md](selftest.md) explains the operators,"
        " results and kinds.",
        "",
        f"overlay-conformance {about.suite} on {about.basis}, kernel {about.kernel.partition('-')[0]}, profile"
        f" {about.profile} ({about.examples} examples), seed {about.seed}, {about.started[:10]}. A sample of"
        f" {len(found)} of {about.mutants} mutants; sources {about.sources}.",
        "",
        f"- {score.killed} of {score.killed + score.survived + score.undecided} mutants are killed"
        f" ({score.share:.1%}); {score.equivalent} are equivalent and {score.stillborn} stillborn",
        f"- without the survivors that another host could show: {here.killed} of"
        f" {here.killed + here.survived + here.undecided} ({here.share:.1%})",
        f"- time to kill: median {median_seconds(found):.1f} s",
        "",
        *_table("operator", found, lambda one: one.mutant.operator),
        *_table("module", found, lambda one: one.mutant.module),
        "## Survivors",
        "",
    ]
    kinds: dict[str, list[Tried]] = defaultdict(list)
    for one in found:
        if one.fate in (Fate.SURVIVED, Fate.UNDECIDED):
            kinds[one.kind or _UNLISTED].append(one)
    for kind, survivors in sorted(kinds.items()):
        lines += [f"### {kind[0].upper()}{kind[1:]}: {len(survivors)}", ""]
        for one in sorted(survivors, key=lambda tried: (tried.mutant.path, tried.mutant.line)):
            lines += _survivor(one)
    return "\n".join(lines).rstrip() + "\n"


def _table(title: str, found: Sequence[Tried], key: Callable[[Tried], str]) -> list[str]:
    rows = [f"| {title} | {' | '.join(_HEAD)} |", "|---|" + "---|" * len(_HEAD)]
    for name, score in scores_by(found, key).items():
        judged = score.killed + score.survived + score.undecided
        counts = (score.killed, score.survived, score.stillborn, score.equivalent, score.undecided)
        share = f"{score.share:.0%}" if judged else "-"
        rows.append(f"| `{name}` | {sum(counts)} | {' | '.join(map(str, counts))} | {share} |")
    return [*rows, ""]


def _survivor(one: Tried) -> list[str]:
    mutant = one.mutant
    reason = one.reason or "No reason is known."
    where = f"{mutant.function or mutant.module}, {mutant.operator}"
    undecided = " Undecided." if one.fate is Fate.UNDECIDED else ""
    return [
        f"`{mutant.path}`, {where}; executed by {one.reached} tests.{undecided} {reason}",
        "",
        "```diff",
        *mutant.diff.splitlines()[3:],
        "```",
        "",
    ]
