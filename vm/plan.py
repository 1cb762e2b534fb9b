"""Which cells there are, and what each of them judges: nothing is repeated that cannot differ.

A requirement says what it varies with (the kernel, the backing filesystem, overlay's parameters). It is judged in
the first cell of each combination of these, and the reports tell the outcome of all others of that combination.
"""

from __future__ import annotations

import fnmatch
import itertools
import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from conformance.spec import VARIES, Requirement
from conformance.spec.errors import HarnessError
from conformance.spec.naming import suggestion
from conformance.spec.values import as_plain
from vm.matrix import Backing, Driver, Kernel, Matrix, Overlay, Privilege

PLAN: Final = 1  # the version of the JSON that plan writes


class NothingChosen(HarnessError):
    """No cell of the matrix is what was asked for; the text says what there is."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Patterns of a shell for names, and for releases of kernels; none means all.

    ``shard`` is the name of one kernel of these, "" for all: what its cells judge does not depend on it.
    """

    kernels: tuple[str, ...] = ()
    backings: tuple[str, ...] = ()
    overlay: tuple[str, ...] = ()
    drivers: tuple[str, ...] = ()
    privileges: tuple[str, ...] = ()
    shard: str = ""

    def of_shard(self, name: str) -> list[str]:
        """The options of ``matrix run`` that choose one shard of what was chosen here."""
        words = [f"--shard {name}"]
        for option, patterns in (
            ("kernel", self.kernels),
            ("backing", self.backings),
            ("overlay", self.overlay),
            ("driver", self.drivers),
            ("privilege", self.privileges),
        ):
            words += [f"--{option} {shlex.quote(one)}" for one in patterns]
        return words


@dataclass(frozen=True, slots=True)
class Machine:
    """A kernel and the system on it, by its suite ("": the first of the matrix)."""

    kernel: Kernel
    root: str = ""

    @property
    def name(self) -> str:
        """Its name in messages, in the Vagrantfile and in the notes of what was made."""
        return f"{self.kernel.name}-{self.root}" if self.root else self.kernel.name


@dataclass(frozen=True, slots=True)
class Cell:
    """A driver on a kernel, on a backing filesystem, with parameters of overlay; and the ids that it judges."""

    kernel: Kernel
    driver: Driver
    backing: Backing
    overlay: Overlay
    requirements: tuple[str, ...]
    privilege: str = "root"

    @property
    def machine(self) -> Machine:
        """The machine that it runs in."""
        return Machine(self.kernel, self.driver.root)

    @property
    def name(self) -> str:
        """Its name in messages, and the name of its files."""
        parts = (self.kernel.name, self.driver.name, self.backing.name, self.overlay.name)
        return ".".join(parts if self.privilege == "root" else (*parts, self.privilege))


def cells_of(matrix: Matrix, choice: Choice, requirements: Mapping[str, Requirement]) -> list[Cell]:
    """The cells that were chosen, a kernel after another, each with what was not judged before it.

    Raises NothingChosen.
    """
    _check(choice, matrix)
    found: list[Cell] = []
    judged: set[tuple[str, ...]] = set()
    # Requirements that vary with the same are in the same cells.
    groups: dict[tuple[tuple[str, ...], tuple[str, ...]], list[str]] = {}
    for one in requirements.values():
        groups.setdefault((tuple(one.varies), tuple(one.backing)), []).append(one.id)
    for kernel in matrix.kernels:
        if not _matches(choice.kernels, kernel.name, kernel.release):
            continue
        for driver, privilege, overlay, backing in _places(matrix, kernel, choice):
            differing = (kernel.name, backing.name, overlay.name)
            chosen: set[str] = set()
            for (varies, backings), alike in groups.items():
                parts = (part for what, part in zip(VARIES, differing, strict=True) if what in varies)
                key = (driver.name, privilege.name, alike[0], *parts)
                if (not backings or backing.name in backings) and key not in judged:
                    judged.add(key)
                    chosen.update(alike)
            if chosen:
                ids = tuple(one for one in requirements if one in chosen)
                found.append(Cell(kernel, driver, backing, overlay, ids, privilege.name))
    if not found:
        raise NothingChosen("the matrix has no such cell: " + _inventory(matrix))
    names = dict.fromkeys(cell.kernel.name for cell in found)
    if choice.shard and choice.shard not in names:
        meant = suggestion(choice.shard, names)
        raise NothingChosen(f"--shard {choice.shard} is none of {', '.join(names)}{meant}")
    return [cell for cell in found if not choice.shard or cell.kernel.name == choice.shard]


def _places(matrix: Matrix, kernel: Kernel, choice: Choice) -> Iterable[tuple[Driver, Privilege, Overlay, Backing]]:
    for driver in matrix.drivers:
        if not _matches(choice.drivers, driver.name) or not _allows(driver.kernels, kernel.name):
            continue
        for privilege, overlay in itertools.product(matrix.privileges, matrix.overlay):
            chosen = _matches(choice.privileges, privilege.name) and _matches(choice.overlay, overlay.name)
            allowed = _allows(privilege.drivers, driver.name) and _allows(privilege.overlay, overlay.name)
            allowed = allowed and _allows(privilege.kernels, kernel.name)
            if not chosen or not allowed or not _allows(driver.overlay, overlay.name):
                continue
            for backing in matrix.backings:
                chosen = _matches(choice.backings, backing.name) and _allows(driver.backings, backing.name)
                allowed = _allows(overlay.backings, backing.name) and _allows(privilege.backings, backing.name)
                if chosen and allowed:
                    yield driver, privilege, overlay, backing


def _allows(names: Sequence[str], name: str) -> bool:
    return not names or name in names


def _matches(patterns: Sequence[str], *names: str) -> bool:
    return not patterns or any(fnmatch.fnmatchcase(name, one) for one in patterns for name in names)


def _check(choice: Choice, matrix: Matrix) -> None:
    """A pattern that matches nothing at all is a slip of the pen."""
    known: dict[str, tuple[tuple[str, ...], list[str]]] = {
        "kernel": (choice.kernels, [name for one in matrix.kernels for name in (one.name, one.release)]),
        "backing": (choice.backings, [one.name for one in matrix.backings]),
        "overlay": (choice.overlay, [one.name for one in matrix.overlay]),
        "driver": (choice.drivers, [one.name for one in matrix.drivers]),
        "privilege": (choice.privileges, [one.name for one in matrix.privileges]),
    }
    for what, (patterns, names) in known.items():
        for pattern in patterns:
            if not any(_matches((pattern,), name) for name in names):
                raise NothingChosen(
                    f"--{what} {pattern} is none of the matrix{suggestion(pattern, names)}: {', '.join(names)}"
                )


def _inventory(matrix: Matrix) -> str:
    return (
        f"kernels {', '.join(one.name for one in matrix.kernels)};"
        f" backing filesystems {', '.join(one.name for one in matrix.backings)};"
        f" drivers {', '.join(one.name for one in matrix.drivers)}"
    )


@dataclass(frozen=True, slots=True)
class Job:
    """One job of a CI system: its name, its cells by their names, and the options of ``matrix run`` for it."""

    name: str
    release: str
    cells: tuple[str, ...]
    options: str


@dataclass(frozen=True, slots=True)
class _PlannedCell:
    name: str
    kernel: str
    driver: str
    backing: str
    overlay: Mapping[str, str]
    privilege: str
    requirements: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Plan:
    format: int
    cells: tuple[_PlannedCell, ...]
    jobs: tuple[Job, ...]


def shards(cells: Sequence[Cell], choice: Choice, provider: str = "") -> tuple[Job, ...]:
    """One job for each kernel."""
    by_kernel: dict[str, list[Cell]] = {}
    for cell in cells:
        by_kernel.setdefault(cell.kernel.name, []).append(cell)
    more = [f"--provider {provider}"] if provider else []
    return tuple(
        Job(
            name,
            of_it[0].kernel.release,
            tuple(cell.name for cell in of_it),
            " ".join([*choice.of_shard(name), *more]),
        )
        for name, of_it in by_kernel.items()
    )


def as_json(cells: Sequence[Cell], choice: Choice, provider: str = "") -> str:
    """Every cell with what it judges."""
    planned = tuple(
        _PlannedCell(
            cell.name,
            cell.kernel.release,
            cell.driver.connection,
            cell.backing.name,
            cell.overlay.parameters,
            cell.privilege,
            cell.requirements,
        )
        for cell in cells
    )
    return json.dumps(as_plain(_Plan(PLAN, planned, shards(cells, choice, provider))), indent=1)


def as_github(cells: Sequence[Cell], choice: Choice, provider: str = "") -> str:
    """The value of ``strategy.matrix`` of GitHub Actions, in one line."""
    jobs = shards(cells, choice, provider)
    return json.dumps({"include": [{"name": one.name, "options": one.options} for one in jobs]})


def as_gitlab(cells: Sequence[Cell], choice: Choice, provider: str = "") -> str:
    """A child pipeline of GitLab: one job for each kernel, and one that joins their results. JSON is YAML."""
    jobs: dict[str, object] = {
        f"matrix {one.name}": {"extends": ".matrix", "variables": {"OPTIONS": one.options}}
        for one in shards(cells, choice, provider)
    }
    jobs["matrix results"] = {"extends": ".matrix-results"}
    return json.dumps({"include": [{"local": "docs/ci/gitlab-matrix.yml"}], **jobs}, indent=1)
