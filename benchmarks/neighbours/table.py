"""What was found, as a page of Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.neighbours.suites import PACKAGES, Ran, Suite
from conformance.selftest.kills import Fate, KillMatrix, Specimen

_OURS: Final = "overlay-conformance"
_BEGINNING: Final = """# Comparison with other suites

moby, containers/storage and containerd have test suites for layer drivers. This page counts how many
[mutants of this project](selftest.md) they kill. Each mutant is served as a Docker graph-driver plugin, and the
tests run on it through adapters that speak its protocol. `python -m benchmarks.neighbours` writes this page.
"""
_MEANING: Final = """
## Limits of the comparison

- Another suite kills a mutant if one of its tests fails on the mutant twice and passes on the correct driver. This
  suite kills a mutant only if the requirement that the mutant is named for fails.
- The other suites were written for their own drivers, and as a first check of a new driver. They do not aim at much
  of what the mutants break: options, restarts, hostile archives, concurrent callers.
- The mutants are this project's own, although most of them repeat bugs of real drivers. They are mutants of one
  driver in Python. Another suite may find bugs that no mutant has."""
_METHOD: Final = f"""
- The tests and sizes are those that each project runs on its own overlay driver, without quota and benchmarks. A
  test that does not end counts as failed.
- containers/storage requires mode 0555 for the root of a base layer. The protocol cannot express a mode, so the
  adapter sets it. `benchmarks/neighbours/go/missing` replaces parts of moby's source that Debian omits and no test
  needs.
- containerd's suite is for snapshotters, which record keys and names. The adapter records them in containerd's own
  MetaStore and binds the tree that the graph driver shows, so the suite's tests of these records do not test the
  graph driver. Snapshotters have no diffs, archives, changes or sizes.
- The stores were on a tmpfs, by TMPDIR.

<!-- elsewhere: an hour, and sources in Go -->
```sh
sudo apt-get install --no-install-recommends {" ".join(PACKAGES)}
sudo .venv/bin/overlay-conformance selftest --results kills.jsonl
sudo TMPDIR=/dev/shm .venv/bin/python -m benchmarks.neighbours --kills kills.jsonl --markdown docs/neighbours.md
```

## Killed mutants
"""


@dataclass(frozen=True, slots=True)
class Findings:
    """``control``: each suite on the correct driver, ``ran`` on mutants; ``versions`` are those of the sources."""

    matrix: KillMatrix
    families: Mapping[str, str]  # of requirements
    suites: Sequence[Suite]
    control: Mapping[str, Ran]
    ran: Sequence[Ran]
    versions: Mapping[str, str]
    when: str
    kernel: str

    @property
    def reached(self) -> list[Specimen]:
        """The mutants that were tried with all of the suites."""
        tried = {(one.suite, one.mutant) for one in self.ran}
        return [one for one in self.matrix.mutants if all((suite.key, one.name) in tried for suite in self.suites)]

    def killers(self, suite: Suite, mutant: str) -> tuple[str, ...]:
        """The tests that fail on a mutant each time that they were run, and pass on the correct driver."""
        good = set(self.control[suite.key].passed)
        runs = [one for one in self.ran if (one.suite, one.mutant) == (suite.key, mutant)]
        if not runs or any(one.own_defect for one in runs):
            return ()
        return tuple(test for test in runs[0].failed if test in good and all(test in one.failed for one in runs))


def as_markdown(found: Findings) -> str:
    """The whole page."""
    reached = found.reached
    suites = found.suites
    families = list(dict.fromkeys(found.families[one.named_for] for one in reached))
    killed = [one for one in reached if any(found.killers(suite, one.name) for suite in suites)]
    theirs = [one.name for one in killed if found.matrix.fate(one) is not Fate.KILLED]
    versions = ", ".join(f"{name} {version}" for name, version in sorted(found.versions.items()))
    return "\n".join(
        [
            _BEGINNING,
            _cells("family of the broken requirement", "mutants", _OURS, *(one.title for one in suites)),
            "|---" * (len(suites) + 3) + "|",
            *(
                _row(found, one, [mutant for mutant in reached if found.families[mutant.named_for] == one])
                for one in families
            ),
            _row(found, "**all**", reached),
            _MEANING,
            f"- {_left_out(found)}",
            "",
            "## Method",
            "",
            f"On {found.when}, kernel {found.kernel}, with {versions}.",
            "",
            _cells("suite", "tests that pass on the correct driver", "tests that fail on it, and are left out"),
            "|---|---|---|",
            *(_control_row(one, found.control[one.key]) for one in suites),
            _METHOD,
            _cells("mutant", "named for", *(one.title for one in suites)),
            "|---" * (len(suites) + 2) + "|",
            *(_kill_row(found, one) for one in killed),
            "",
            f"Killed by one of them and not by this suite: {', '.join(theirs) or 'none'}.",
            "",
        ]
    )


def _cells(*cells: str) -> str:
    return "| " + " | ".join(one.replace("|", "\\|") for one in cells) + " |"


def _row(found: Findings, name: str, mutants: Sequence[Specimen]) -> str:
    counts = [sum(found.matrix.fate(one) is Fate.KILLED for one in mutants)]
    counts += [sum(bool(found.killers(suite, one.name)) for one in mutants) for suite in found.suites]
    return _cells(name, str(len(mutants)), *map(str, counts))


def _control_row(suite: Suite, control: Ran) -> str:
    left_out = ", ".join(map(_short, control.failed)) or "none"
    return _cells(suite.title, str(len(control.passed)), left_out)


def _kill_row(found: Findings, mutant: Specimen) -> str:
    killers = [", ".join(map(_short, found.killers(suite, mutant.name))) for suite in found.suites]
    return _cells(f"`{mutant.name}`: {mutant.sentence}", mutant.named_for, *killers)


def _short(test: str) -> str:
    return test.rpartition("/")[2].removeprefix("Test")


def _left_out(found: Findings) -> str:
    names = {one.name for one in found.reached}
    others = [one for one in found.matrix.mutants if one.name not in names]
    special = [one for one in others if not is_reachable(one)]
    needs = ", ".join(sorted({one.needs or one.backing for one in special}))
    said = f"Of {len(found.matrix.mutants)} mutants, {len(special)} are left out,"
    said += f" because they need what not every host has: {needs}."
    untried = [one.name for one in others if is_reachable(one)]
    if untried:
        said += f" {len(untried)} {'was' if len(untried) == 1 else 'were'} not tried: {', '.join(untried)}."
    broken = sorted({one.mutant for one in found.ran if one.own_defect and one.mutant in names})
    if broken:
        said += f" Mutants whose own code fails when it is served count as survived: {', '.join(broken)}."
    return said


def is_reachable(mutant: Specimen) -> bool:
    """Whether it shows on any filesystem and any host."""
    return not mutant.needs and mutant.backing == "host"
