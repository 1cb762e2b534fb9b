"""What hypothesis draws for a seed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

DRAWS = """
import sys
from hypothesis import Phase, given, seed, settings
from hypothesis import strategies as st
from conformance.harness.selecting import load_settings
load_settings(200)
if sys.argv[1] == "local":
    sys.path.insert(0, sys.argv[2])
    import of_the_user
drawn = []
@seed(7)
@settings(phases=[Phase.generate])
@given(st.integers(0, 1000))
def draw(number):
    drawn.append(number)
draw()
print(drawn)
"""


def test_a_seed_draws_the_same_whatever_source_files_are_there(tmp_path: Path) -> None:
    """Those of an editable install count as the user's own to hypothesis, which draws their constants."""
    (tmp_path / "of_the_user.py").write_text(f"HERE = {list(range(201, 260))}\n")
    first, second = (
        subprocess.run(
            [sys.executable, "-c", DRAWS, way, tmp_path], capture_output=True, text=True, check=True
        ).stdout
        for way in ("none", "local")
    )
    assert first == second
