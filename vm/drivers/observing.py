"""Observing a build: what it does with layers where the text is silent, as a column of docs/divergence.md."""

from __future__ import annotations

import json
import lzma
import re
import sys
from pathlib import Path
from typing import Final

from vm.drivers import roots
from vm.drivers.builds import Build, Builds
from vm.drivers.data import of_no_machine
from vm.drivers.judging import NotJudged, around, environment, run_to_its_end

DATA: Final = Path("docs/divergence")
_SUFFIX: Final = ".jsonl.xz"  # as of 'overlay-conformance observe'
# Root of a user namespace with no other id in it: it gives no owner away, and makes no device.
_WITHOUT: Final = ("unshare", "--user", "--map-root-user", "--mount", "--")


def column_file(build: Build, data: Path, *, user_namespace: bool) -> Path:
    """The file of a build's column, by the name of the column."""
    name = re.sub(r"[^A-Za-z0-9.]+", "-", build.column)
    return data / f"{name}{'-user-namespace' if user_namespace else ''}{_SUFFIX}"


def observe(
    build: Build, builds: Builds, place: Path, data: Path, scratch: Path | None, *, user_namespace: bool
) -> Path:
    """Observe a build, and put its observations into the data, with nothing of this machine; gives the file.

    What was there stays if the build cannot be observed. Raises NotJudged, OSError.
    """
    if why := roots.lacking(builds.roots_of([build]), place):
        raise NotJudged(f"{build.name}: {why}")
    env = environment(build, builds, place)
    with around(build, env) as directory:
        env |= build.env_in(place, directory)
        made = directory / f"observed{_SUFFIX}"
        words = [sys.executable, "-m", "conformance", "observe", build.connection_in(place, directory)]
        words += ["--name", build.column, "--output", str(made)]
        words += ["--scratch", str(scratch.absolute())] if scratch else []
        with (directory / "output.txt").open("w") as out:
            run_to_its_end([*_WITHOUT, *words] if user_namespace else words, directory, env, out)
        if not made.exists():
            raise NotJudged(f"{build.name}: it was not observed, and the lines above say why")
        text = lzma.decompress(made.read_bytes()).decode()
    data.mkdir(parents=True, exist_ok=True)
    file = column_file(build, data, user_namespace=user_namespace)
    beside = file.with_name(f".{file.name}.part")
    beside.write_bytes(lzma.compress(_as_built(text, build, builds).encode(), preset=9))
    beside.rename(file)
    return file


def _as_built(text: str, build: Build, builds: Builds) -> str:
    """The lines, with the connection string and the versions of the file of builds."""
    first, _, others = text.partition("\n")
    about = json.loads(first)
    about["driver"] = build.connection
    about["version"] = " with ".join(one.version for one in builds.roots_of([build])) or about["version"]
    return of_no_machine(f"{json.dumps(about)}\n{others}", about["kernel"])
