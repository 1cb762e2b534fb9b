"""Examples for CI systems, and what ``matrix plan`` writes for them, by the schemas that these systems publish."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from conformance.spec import load_requirements
from vm.matrix import load
from vm.plan import Choice, as_gitlab, cells_of

EXAMPLES = Path(__file__).parent.parent / "docs" / "ci"


def valid(system: str, file: Path, *options: str) -> None:
    """Whether a file is what a CI system takes, by the schema that it publishes."""
    words = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{system}", *options, str(file)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["github.yml", "github-matrix.yml"])
def test_workflows_of_github(name: str) -> None:
    valid("github-workflows", EXAMPLES / name)


def test_the_action_of_github() -> None:
    valid("github-actions", EXAMPLES.parent.parent / "action.yml")


@pytest.mark.parametrize("name", ["gitlab.yml", "gitlab-plan.yml", "gitlab-matrix.yml"])
def test_pipelines_of_gitlab(name: str) -> None:
    valid("gitlab-ci", EXAMPLES / name, "--data-transform", "gitlab-ci")


def test_every_example_is_looked_at() -> None:
    assert {path.name.partition(".")[0].partition("-")[0] for path in EXAMPLES.iterdir()} == {"github", "gitlab"}
    assert len(list(EXAMPLES.iterdir())) == 5


def test_the_planned_pipeline_of_gitlab(tmp_path: Path) -> None:
    choice = Choice(kernels=("6.*",))
    file = tmp_path / "planned.yml"
    file.write_text(as_gitlab(cells_of(load(), choice, load_requirements()), choice))
    valid("gitlab-ci", file, "--data-transform", "gitlab-ci")


def test_what_is_no_pipeline_is_found(tmp_path: Path) -> None:
    """The schema is looked at."""
    file = tmp_path / "wrong.yml"
    file.write_text("job:\n  script: [true]\n  tagz: [privileged]\n")
    with pytest.raises(AssertionError, match="tagz"):
        valid("gitlab-ci", file, "--data-transform", "gitlab-ci")
