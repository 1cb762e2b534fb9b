"""Imports a driver that is a Python class; in whichever process the class is, so nothing of the suite is needed."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable
from typing import Any


def class_of(module_name: str, class_name: str) -> Callable[..., Any]:
    """The class; raises ImportError, with what the module's own code raised and what to do next."""
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and f"{module_name}.".startswith(f"{error.name}."):
            raise ImportError(
                f"{error}; install the package, or name the directory that holds it: PYTHONPATH=DIRECTORY"
            ) from error
        raise ImportError(f"{error}, which {module_name} imports; install it") from error
    except (Exception, SystemExit) as error:
        raise ImportError(
            f"importing {module_name} failed: {type(error).__name__}: {error};"
            f" 'python -c \"import {module_name}\"' shows where"
        ) from error
    try:
        found: Callable[..., Any] = getattr(module, class_name)
    except AttributeError as error:
        close = difflib.get_close_matches(class_name, dir(module), 1)
        raise ImportError(f"{error}" + (f" (did you mean {close[0]!r}?)" if close else "")) from error
    if not callable(found):
        raise ImportError(f"{module_name}.{class_name} is {type(found).__name__}, not a class")
    return found
