"""``python -m benchmarks``: measure, and print a table or JSON."""

from __future__ import annotations

import json
import os
import platform
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from benchmarks.memory import LARGE_FILE, LIMIT, MANY_FILES, Peak, measure_all
from benchmarks.speed import Timing, all_benchmarks, measure
from benchmarks.suite import Share, measure_share
from refdriver import trees
from refdriver.linux import libc

JSON_VERSION = 1
_MIB = 1 << 20


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--only", metavar="TEXT", default="", help="Only the benchmarks whose names hold this.")
@click.option("--memory/--no-memory", default=True, show_default=True, help="Measure memory too.")
@click.option("--suite", is_flag=True, help="Only how much of the suite's time is the driver's.")
@click.option("--smoke", is_flag=True, help="Each once and small, to see whether they run. The figures are void.")
@click.option("--json", "as_json", is_flag=True, help="Print versioned JSON, times in seconds and sizes in bytes.")
def main(only: str, memory: bool, suite: bool, smoke: bool, as_json: bool) -> None:
    """Measure the reference driver, on real mounts in a private mount namespace and a scratch directory.

    TMPDIR says on which filesystem.
    """
    if os.geteuid() != 0:
        raise click.UsageError("the benchmarks mount overlays; run them as root (sudo)")
    if suite:
        with _scratch() as scratch:
            _print_share(
                measure_share("python:refdriver:Driver", "smoke" if smoke else "standard", scratch), as_json
            )
        return
    chosen = [benchmark for benchmark in all_benchmarks() if only.lower() in benchmark.name.lower()]
    if not chosen:
        raise click.UsageError(f"no benchmark holds {only!r} in its name")
    _enter_private_mounts()
    with _scratch() as scratch:
        scale = 0.01 if smoke else 1.0
        timings = [measure(one, scratch / one.name.replace("/", "-"), scale, only_once=smoke) for one in chosen]
        sizes = (2 * _MIB, 200) if smoke else (LARGE_FILE, MANY_FILES)
        peaks = list(measure_all(scratch, *sizes)) if memory else []
    if as_json:
        click.echo(json.dumps(_as_json(timings, peaks), indent=1))
    else:
        _print_tables(timings, peaks)


def _enter_private_mounts() -> None:
    libc.unshare(libc.CLONE_NEWNS)
    libc.mount("none", "/", None, libc.MS_REC | libc.MS_PRIVATE, None)


@contextmanager
def _scratch() -> Iterator[Path]:
    path = tempfile.mkdtemp(prefix="refdriver-bench-")
    try:
        yield Path(path)
    finally:
        trees.remove_tree(path)


def _as_json(timings: list[Timing], peaks: list[Peak]) -> dict[str, object]:
    return {
        "version": JSON_VERSION,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "speed": [
            {
                "name": one.name,
                "seconds": one.seconds,
                "published_seconds": one.published,
                "ratio": one.ratio,
                "samples": one.samples,
            }
            for one in timings
        ],
        "memory": [
            {"name": one.name, "peak_bytes": one.peak, "added_bytes": one.added, "ratio": one.ratio}
            for one in peaks
        ],
    }


def _print_tables(timings: list[Timing], peaks: list[Peak]) -> None:
    click.echo(f"kernel {platform.release()}, Python {platform.python_version()}\n")
    click.echo(f"{'benchmark':28}{'median':>12}{'published':>12}{'ratio':>9}")
    for one in timings:
        published = _duration(one.published) if one.published else "-"
        ratio = f"{one.ratio:.2f}" if one.ratio is not None else "-"
        click.echo(f"{one.name:28}{_duration(one.seconds):>12}{published:>12}{ratio:>9}")
    if peaks:
        title = f"memory, of {LIMIT // _MIB} MiB"
        click.echo(f"\n{title:46}{'peak MiB':>10}{'added MiB':>11}{'ratio':>9}")
    for peak in peaks:
        click.echo(f"{peak.name:46}{peak.peak / _MIB:>10.1f}{peak.added / _MIB:>11.1f}{peak.ratio:>9.2f}")


def _print_share(share: Share, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"version": JSON_VERSION, "share": share.share, "seconds": share.seconds}))
        return
    click.echo(f"kernel {platform.release()}, Python {platform.python_version()}, one core")
    click.echo(f"{share.share:.0%} of {share.seconds:.1f} s of tests were the driver's or the kernel's\n")
    click.echo(f"{'the suite itself in':62}{'suite':>10}{'all':>10}")
    for part in share.parts[:12]:
        click.echo(f"{part.test:62}{_duration(part.harness_seconds):>10}{_duration(part.seconds):>10}")


def _duration(seconds: float) -> str:
    for unit, length in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"


if __name__ == "__main__":
    main()
