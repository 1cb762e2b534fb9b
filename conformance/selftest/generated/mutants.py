"""Generated mutants: which there are of a driver, and a sample of them.

The mutants of a driver are those of the modules that importing its class imports from its own package. What a
command or a server adds is not among them, as no test of the suite executes it.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import random
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from conformance.selftest.generated.operators import Edit, edits_of
from conformance.spec.errors import HarnessError
from conformance.spec.values import Key

_LISTING: Final = """
import importlib, json, sys
sys.path[:] = json.loads(sys.argv[1])
name = sys.argv[2]
importlib.import_module(name)
top = name.partition(".")[0]
found = {
    key: one.__file__
    for key, one in sys.modules.items()
    if (key == top or key.startswith(top + ".")) and (getattr(one, "__file__", None) or "").endswith(".py")
}
print(json.dumps(found))
"""
_DIGITS: Final = 12  # of a digest


class NoSources(HarnessError):
    """The driver has no Python source that could be mutated; the text says what was tried."""


@dataclass(frozen=True, slots=True)
class Module:
    """A module of the driver: its name, the file as diffs name it, and its text."""

    name: str
    path: str
    source: str


@dataclass(frozen=True, slots=True)
class GeneratedMutant:
    """One mutation of one module."""

    module: str
    path: Annotated[str, Key("File of the module, relative to the directory of its package.")]
    function: Annotated[str, Key("Qualified name of the function or class, empty for the module itself.")]
    operator: Annotated[str, Key("Mutation operator.")]
    ordinal: Annotated[int, Key("Which mutation of this operator in this function.", minimum=1)]
    line: Annotated[int, Key("First line of the change.", minimum=1)]
    statement: Annotated[tuple[int, int], Key("First and last line of the statement that is mutated.")]
    imported: Annotated[bool, Key("Whether the statement is executed when the module is imported.")]
    before: Annotated[str, Key("The lines of the source that differ, with single spaces.")]
    after: Annotated[str, Key("What they become.")]
    diff: Annotated[str, Key("Unified diff.")]

    @property
    def id(self) -> str:
        """Module, function, operator, ordinal and a digest: stable as long as the function stays as it is."""
        change = hashlib.sha256(f"{self.before}\0{self.after}".encode()).hexdigest()[:8]
        return f"{self.module}:{self.function or '-'}:{self.operator}:{self.ordinal}:{change}"

    def applied(self, source: str) -> str:
        """The mutated source of the module."""
        for edit in edits_of(source):
            if (
                edit.operator == self.operator
                and edit.first == self.line
                and _diff(self.path, source, edit) == self.diff
            ):
                return edit.applied(source)
        raise LookupError(f"{self.id} is no mutant of this source")


def modules_of(basis: str) -> tuple[Module, ...]:
    """The modules of a driver, MODULE:CLASS, by their names; raises NoSources. The driver is imported elsewhere."""
    name = basis.partition(":")[0]
    done = subprocess.run(
        [sys.executable, "-c", _LISTING, json.dumps(sys.path), name], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise NoSources(f"{basis} cannot be imported: {(done.stderr.strip().splitlines() or ['no reason'])[-1]}")
    found: Mapping[str, str] = json.loads(done.stdout.splitlines()[-1])
    return tuple(Module(one, _path_of(one, file), Path(file).read_text()) for one, file in sorted(found.items()))


def _path_of(name: str, file: str) -> str:
    """The file of a module relative to the directory of its package: refdriver/archive/pack.py."""
    package = Path(file).name == "__init__.py"
    return name.replace(".", os.sep) + ("/__init__.py" if package else ".py")


def digest_of(modules: Iterable[Module]) -> str:
    """A digest of all sources."""
    said = json.dumps([(one.name, one.source) for one in modules])
    return hashlib.sha256(said.encode()).hexdigest()[:_DIGITS]


def mutants_of(module: Module) -> list[GeneratedMutant]:
    """All mutants of a module, in the order of its source."""
    counts: Counter[tuple[str, str]] = Counter()
    found = []
    lines = module.source.splitlines(keepends=True)
    for edit in edits_of(module.source):
        counts[edit.function, edit.operator] += 1
        found.append(
            GeneratedMutant(
                module.name,
                module.path,
                edit.function,
                edit.operator,
                counts[edit.function, edit.operator],
                edit.first,
                edit.statement,
                edit.imported,
                " ".join("".join(lines[edit.first - 1 : edit.last]).split()),
                " ".join(edit.text.split()),
                _diff(module.path, module.source, edit),
            )
        )
    return found


def _diff(path: str, source: str, edit: Edit) -> str:
    """With one line of context."""
    before = source.splitlines(keepends=True)
    first, last = max(1, edit.first - 1), min(len(before), edit.last + 1)
    old = before[first - 1 : last]
    new = [*before[first - 1 : edit.first - 1], *edit.text.splitlines(keepends=True), *before[edit.last : last]]
    head = [f"--- a/{path}\n", f"+++ b/{path}\n"]
    body = [line for line in difflib.ndiff(old, new) if not line.startswith("?")]
    changed = [line[0] + line[2:] for line in body]
    return "".join([*head, f"@@ -{first},{len(old)} +{first},{len(new)} @@\n", *changed])


def sample(mutants: Sequence[GeneratedMutant], number: int, seed: int) -> list[GeneratedMutant]:
    """So many of the mutants, each module and operator with its share; a larger sample contains a smaller one.

    Systematic sampling: the mutants of each pair of module and operator are shuffled and laid out evenly between 0
    and 1, from a random beginning, and those nearest to 0 are taken.
    """
    strata: dict[tuple[str, str], list[GeneratedMutant]] = defaultdict(list)
    for one in mutants:
        strata[one.module, one.operator].append(one)
    placed = []
    for (module, operator), members in sorted(strata.items()):
        chance = random.Random(f"{seed}:{module}:{operator}")
        members.sort(key=lambda one: one.id)
        chance.shuffle(members)
        begin = chance.random()
        placed += [((begin + number_) / len(members), one.id, one) for number_, one in enumerate(members)]
    return [one for _, _, one in sorted(placed, key=lambda found: found[:2])[:number]]


def as_mutation(mutant: GeneratedMutant, source: str) -> dict[str, Any]:
    """What the process of the driver reads (generated/driver.py)."""
    return {"module": mutant.module, "source": mutant.applied(source)}
