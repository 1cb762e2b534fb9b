"""Finding registered classes: in the modules of a package, and in packages that entry points name."""

from __future__ import annotations

import importlib
import pkgutil
from importlib.metadata import entry_points
from typing import Any


def packages_of(group: str, own: str) -> tuple[str, ...]:
    """The suite's own package, then the values of the group's entry points, in the order of their names."""
    return (own, *(one.value for one in sorted(entry_points(group=group), key=lambda one: one.name)))


def classes_of(package: str, attribute: str) -> list[type[Any]]:
    """The classes that have the attribute themselves, in modules of a package, in the order of their definition.

    ``package`` may also be a single module. Raises ImportError if one of them cannot be imported.
    """
    found = [importlib.import_module(package)]
    path = getattr(found[0], "__path__", ())
    found += [
        importlib.import_module(one.name)
        for one in pkgutil.iter_modules(path, f"{package}.")
        if one.name != f"{package}.catalogue"
    ]
    return [
        one
        for module in found
        for one in vars(module).values()
        if isinstance(one, type) and one.__module__ == module.__name__ and attribute in vars(one)
    ]
