"""The driver with one module mutated, as a connection string names it (``CONNECTION``).

``CONFORMANCE_MUTANT_BASIS`` names the class of the correct driver, and ``CONFORMANCE_MUTATION`` a JSON file with
the ``module`` to mutate and its mutated ``source``. Nothing of the checkout is touched: the module is compiled from
that text where it is imported, in each process that imports the driver. ``CONFORMANCE_REACH`` names a directory for
what is executed (generated/reach.py). The process of a driver imports this module, so it imports next to nothing.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import CodeType, ModuleType

from conformance.selftest.generated import MUTATION, REACH, reach
from conformance.selftest.mutants import basis


class _Mutated(importlib.machinery.SourceFileLoader):
    """Loads a module from another text than that of its file."""

    def __init__(self, name: str, path: str, source: str) -> None:
        super().__init__(name, path)
        self._source = source

    def get_code(self, fullname: str) -> CodeType:
        """The code of the mutated text."""
        del fullname
        return compile(self._source, self.path, "exec", dont_inherit=True)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds one module where the others find it, with the loader of its mutated text."""

    def __init__(self, module: str, source: str) -> None:
        self._module = module
        self._source = source

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The specification of the mutated module, None for any other."""
        if fullname != self._module:
            return None
        found = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if found is None or found.origin is None:
            return None
        places = found.submodule_search_locations
        loader = _Mutated(fullname, found.origin, self._source)
        return importlib.util.spec_from_file_location(
            fullname, found.origin, loader=loader, submodule_search_locations=places
        )


def _mutate(file: str) -> None:
    mutation = json.loads(Path(file).read_text())
    if mutation["module"] in sys.modules:
        raise RuntimeError(f"{mutation['module']} was imported before it could be mutated")
    sys.meta_path.insert(0, _Finder(mutation["module"], mutation["source"]))


if MUTATION in os.environ:
    _mutate(os.environ[MUTATION])
if REACH in os.environ:
    reach.record(Path(os.environ[REACH]), os.environ[basis.BASIS].partition(":")[0].partition(".")[0])
Driver = basis.basis()
