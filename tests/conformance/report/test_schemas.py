"""The published schemas are those of the types, and hold no more and no less."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import jsonschema
import pytest

from conformance.report.schemas import schemas, text_of
from conformance.spec.lines import Form, Lines
from conformance.spec.values import Count, Key
from conformance.spec.verdicts import Verdict

SCHEMAS = next(iter(schemas())).parent


@pytest.mark.parametrize("path", schemas(), ids=lambda path: path.name)
def test_a_published_schema_is_what_the_types_say(path: Path) -> None:
    """``python -m conformance.report.schemas`` writes the files anew."""
    assert path.read_text() == text_of(schemas()[path])
    jsonschema.Draft202012Validator.check_schema(json.loads(path.read_text()))


def test_every_published_schema_is_generated() -> None:
    assert {path.name for path in schemas()} == {path.name for path in SCHEMAS.glob("*.schema.json")}


@dataclass(frozen=True, slots=True)
class Inner:
    """Something inside."""

    size: Annotated[Count | None, Key("How large.")]


@dataclass(frozen=True, slots=True)
class Whole:
    """Everything
    at once.

    Not of the schema.
    """

    name: Annotated[str, Key(name="called", pattern="^[a-z]+$")]
    inner: Annotated[tuple[Inner, ...], Key(least=1)]
    counts: Annotated[Mapping[Verdict, Count], Key(every=True)]
    of: Annotated[str, Key(among=("host", "driver"))] = "host"
    code: Literal[0, 1] = 0
    texts: Annotated[Mapping[str, str], Key(later=True)] = field(default_factory=dict)
    span: tuple[int, int] = (0, 0)
    sum: Annotated[Count | None, Key(omitted=True)] = None


def test_a_schema_has_what_a_type_and_its_keys_say() -> None:
    lines: Lines[Whole] = Lines("record", (Form("whole", Whole, {"format": Literal[3]}, without=("of",)),))
    said = lines.schema("urn:x", "a title", "a description")
    verdicts = [one.value for one in Verdict]
    count = {"type": "integer", "minimum": 0}
    assert said["oneOf"] == [{"$ref": "#/$defs/whole"}]
    assert said["$defs"]["whole"] == {
        "type": "object",
        "description": "Everything at once.",
        "properties": {
            "record": {"const": "whole"},
            "format": {"const": 3},
            "called": {"type": "string", "pattern": "^[a-z]+$"},
            "inner": {"type": "array", "items": {"$ref": "#/$defs/inner"}, "minItems": 1},
            "counts": {
                "type": "object",
                "properties": dict.fromkeys(verdicts, count),
                "required": verdicts,
                "additionalProperties": False,
            },
            "code": {"enum": [0, 1]},
            "texts": {"type": "object", "additionalProperties": {"type": "string"}},
            "span": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2},
            "sum": count,
        },
        "required": ["record", "format", "called", "inner", "counts", "code", "span"],
        "additionalProperties": False,
    }
    assert said["$defs"]["inner"]["properties"] == {
        "size": {"type": ["integer", "null"], "minimum": 0, "description": "How large."}
    }
    assert "additionalProperties" not in lines.schema("urn:x", "", "", strict=False)["$defs"]["whole"]
