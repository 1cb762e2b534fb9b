"""The published schemas, from the types of what is written: ``python -m conformance.report.schemas`` writes them.

A test holds the files in this directory equal to what is generated here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from conformance.corpus import values as corpus
from conformance.harness import events, observation
from conformance.harness.validating import values as validation
from conformance.report import generatedfile, killfile, records, speedfile, submissions, trend
from conformance.spec.lines import schema_of

_ID = "urn:overlay-conformance:"
OBSERVATIONS = records.SCHEMA.with_name("observations.schema.json")
VALIDATION = records.SCHEMA.with_name("validation.schema.json")
CORPUS: Final = {
    name: records.SCHEMA.with_name(f"corpus-{name}.schema.json") for name in ("expected", "index", "check")
}
_FIXED = "Within a format no field is renamed, removed or added, and none gets another meaning."


def schemas() -> Mapping[Path, dict[str, Any]]:
    """Each schema by its file."""
    return {
        **_of_results(),
        **_of_corpus(),
    }


def _of_results() -> Mapping[Path, dict[str, Any]]:
    return {
        records.SCHEMA: records.LINES.schema(
            f"{_ID}results:{records.FORMAT}",
            f"A line of a result file of overlay-conformance, format {records.FORMAT}",
            "A result file is JSON lines: for each run a line 'run', a line 'outcome' for each test, a line"
            " 'result' for each requirement, a line 'capability' for each capability, and a line 'end'. Fields are"
            " never renamed, removed or given another meaning within a format; fields of later versions are"
            " optional.",
        ),
        killfile.SCHEMA: killfile.LINES.schema(
            f"{_ID}kills:{killfile.FORMAT}",
            f"A line of what 'overlay-conformance selftest --results' writes, format {killfile.FORMAT}",
            "JSON lines: a line 'selftest', a line 'fault' for each mutant, a line 'trial' for each mutant and"
            " seed, a line 'gap' for each requirement that no mutant broke, a line 'exception' for each that needs"
            " no mutant, a line 'different' for each variant, a line 'hearing' for each variant and seed, and a"
            " line 'end'. Within a format no field is renamed, removed or added, and none gets another meaning.",
        ),
        generatedfile.SCHEMA: generatedfile.LINES.schema(
            f"{_ID}generated:{generatedfile.FORMAT}",
            "A line of what 'overlay-conformance selftest --generated N --results FILE' writes, format"
            f" {generatedfile.FORMAT}",
            "JSON lines: a line 'generated', a line 'mutant' for each mutant, and a line 'end', which the file of"
            " an interrupted run lacks. Within a format no field is renamed, removed or added, and none gets"
            " another meaning.",
        ),
        trend.SCHEMA: schema_of(
            trend.Trend,
            f"{_ID}trend:{trend.FORMAT}",
            f"What 'overlay-conformance report --against OLD --trend FILE.json' writes, format {trend.FORMAT}",
            "An object: what differs between the runs OLD and NEW, and each requirement that changed or fails."
            " Within a format no field is renamed, removed or added, and none gets another meaning.",
        ),
        speedfile.SCHEMA: schema_of(
            speedfile.Benchmarks,
            f"{_ID}benchmarks:{speedfile.FORMAT}",
            f"What 'python -m benchmarks --json' prints, format {speedfile.FORMAT}",
            f"Times in seconds, sizes in bytes. {_FIXED}",
        ),
        speedfile.SHARE_SCHEMA: schema_of(
            speedfile.Share,
            f"{_ID}benchmarks-suite:{speedfile.SHARE_FORMAT}",
            f"What 'python -m benchmarks --suite --json' prints, format {speedfile.SHARE_FORMAT}",
            f"Times in seconds. {_FIXED}",
        ),
        submissions.SCHEMA: schema_of(
            submissions.Product,
            f"{_ID}product:{submissions.FORMAT}",
            f"product.toml of a submission, format {submissions.FORMAT}",
            "What was judged, and who publishes the results. Within a format no field is renamed, removed or added,"
            " and none gets another meaning.",
        ),
        VALIDATION: validation.LINES.schema(
            f"{_ID}validation:{validation.FORMAT}",
            f"A line of what 'overlay-conformance validate-adapter --json' prints, format {validation.FORMAT}",
            "JSON lines: a line 'validation', a line 'check' for each check, a line 'timing' for each call, and a"
            " line 'end'. Within a format no field is renamed, removed or added, and none gets another meaning.",
        ),
        OBSERVATIONS: observation.LINES.schema(
            f"{_ID}observations:{observation.FORMAT}",
            f"A line of what 'overlay-conformance observe --output' writes, format {observation.FORMAT}",
            "JSON lines: a line 'observing', a line 'observation' for each question, and a line 'end'. Within a"
            " format no field is renamed, removed or added, and none gets another meaning.",
        ),
        records.SCHEMA.with_name("events.schema.json"): events.PUBLISHED.schema(
            f"{_ID}events:{events.FORMAT}",
            f"A line of what 'overlay-conformance run --events' writes, format {events.FORMAT}",
            "The first line is 'run', then 'collected', a 'test' and an 'outcome' for each test, and 'end'. Fields"
            " are never renamed or given another meaning within a format; a reader ignores unknown events and"
            " fields.",
            strict=False,
        ),
    }


def _of_corpus() -> Mapping[Path, dict[str, Any]]:
    files: tuple[tuple[str, type, str, str], ...] = (
        (
            "expected",
            corpus.Expected,
            "An expected file of a vector",
            "What an unpacker has to make of a vector: the layers, and the permitted trees.",
        ),
        ("index", corpus.Index, "The index of a corpus", "The vectors of a corpus and where their files are."),
        (
            "check",
            corpus.Checked,
            "What 'overlay-conformance corpus check --json' prints",
            "Whether a tree is permitted, and its differences from the nearest permitted tree.",
        ),
    )
    return {
        CORPUS[name]: schema_of(
            kind,
            f"{_ID}corpus-{name}:{corpus.FORMAT}",
            f"{title}, format {corpus.FORMAT}",
            f"{said} {_FIXED}",
        )
        for name, kind, title, said in files
    }


def corpus_schemas() -> Mapping[str, dict[str, Any]]:
    """The schemas that a corpus has beside its vectors, by the names of their files."""
    found = _of_corpus()
    return {f"{name}.schema.json": found[path] for name, path in CORPUS.items()}


def text_of(schema: Mapping[str, Any]) -> str:
    """The content of a file."""
    return json.dumps(schema, indent=1) + "\n"


if __name__ == "__main__":
    for path, schema in schemas().items():
        path.write_text(text_of(schema))
