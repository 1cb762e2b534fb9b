"""The vectors of the corpus, what is expected of them, and a corpus that was built."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from conformance.corpus.build import build
from conformance.corpus.expecting import expected_of
from conformance.corpus.tables import vectors
from conformance.corpus.values import Expected
from conformance.report.schemas import corpus_schemas
from conformance.spec import load_requirements

VECTORS = vectors()


@functools.cache
def expectations() -> Mapping[str, Expected]:
    return {one.name: expected_of(one, load_requirements()) for one in VECTORS}


@dataclass(frozen=True)
class Corpus:
    """A corpus that was built, and where."""

    directory: Path

    def expected(self, name: str) -> Path:
        (found,) = self.directory.glob(f"**/vectors/{name}/expected.json")
        return found


def built(directory: Path, *names: str) -> Corpus:
    """A corpus of some vectors, or of all."""
    build(directory, [one for one in VECTORS if not names or one.name in names], corpus_schemas())
    return Corpus(directory)
