"""A small module, and the mutants that operators make of it."""

from __future__ import annotations

from conformance.selftest.generated.mutants import (
    GeneratedMutant,
    Module,
    mutants_of,
)

SMALL = '''"""A module."""

import os

LIMIT = 0x10


class Store:
    """A class."""

    size: int = 1

    def open(self, home: str, mode: int = 0o700) -> bool:
        """Open it."""
        if not home or (self.size + 1) * 2 > LIMIT:
            raise ValueError(f"no {home}")
        with self.lock:
            self.size += 1
            self.copy(home, mode)
        try:
            os.mkdir(home)
        except FileExistsError:
            self.log.warning("it is there")
            return home == "/"
        finally:
            self.close()
        for name in (one for one in os.listdir(home) if one):
            if name in ("a", "b"):
                continue
            break
        return mode == 0o700 and bool(self.size)
'''


def mutants() -> list[GeneratedMutant]:
    return mutants_of(Module("small", "small.py", SMALL))
