"""``python -m benchmarks``: measure, and print a table or JSON."""

from __future__ import annotations

import datetime
import json
import os
import platform
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from benchmarks import growth, sidebyside
from benchmarks.growth import Growth
from benchmarks.memory import LARGE_FILE, LIMIT, MANY_FILES, Peak, measure_all
from benchmarks.sidebyside import SideBySide
from benchmarks.speed import Timing, all_benchmarks, measure
from benchmarks.suite import measure_parts
from conformance.report import speedfile
from conformance.spec.values import as_plain
from refdriver import gates, trees
from refdriver.linux import libc

TMPFS = Path("/dev/shm")
_MIB = 1 << 20


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--only", metavar="TEXT", default="", help="Only the benchmarks whose names hold this.")
@click.option("--peers/--no-peers", default=True, show_default=True, help="Measure beside other programs, too.")
@click.option("--growth/--no-growth", "grow", default=True, show_default=True, help="Measure growth, too.")
@click.option("--memory/--no-memory", default=True, show_default=True, help="Measure memory, too.")
@click.option("--suite", is_flag=True, help="Only how much of the suite's time is the driver's.")
@click.option("--scale", type=click.FloatRange(0.001, 1), default=1.0, help="Part of all sizes, such as 0.25.")
@click.option("--rounds", type=click.IntRange(1), default=sidebyside.ROUNDS, help="Rounds beside other programs.")
@click.option("--smoke", is_flag=True, help="Each once and small, to see whether they run. The figures are void.")
@click.option("--json", "as_json", is_flag=True, help="Print versioned JSON, times in seconds and sizes in bytes.")
def main(
    only: str,
    peers: bool,
    grow: bool,
    memory: bool,
    suite: bool,
    scale: float,
    rounds: int,
    smoke: bool,
    as_json: bool,
) -> None:
    """Measure the reference driver, on real mounts in a private mount namespace and a scratch directory.

    TMPDIR says on which filesystem. What has peers is measured on tmpfs (/dev/shm), too.
    """
    if os.geteuid() != 0:
        raise click.UsageError("the benchmarks mount overlays; run them as root (sudo)")
    if suite:
        with _scratch() as scratch:
            _print_share(_share("python:refdriver:Driver", "smoke" if smoke else "standard", scratch), as_json)
        return
    chosen = [benchmark for benchmark in all_benchmarks() if only.lower() in benchmark.name.lower()]
    if not chosen:
        raise click.UsageError(f"no benchmark holds {only!r} in its name")
    _enter_private_mounts()
    if smoke:
        scale, rounds = 0.01, 1
    beside: list[SideBySide] = []
    with _scratch() as scratch:
        timings = [measure(one, scratch / one.name.replace("/", "-"), scale, only_once=smoke) for one in chosen]
        if peers:
            beside += sidebyside.measure_all(scratch / "peers", _filesystem(scratch), scale, rounds)
        growths = list(growth.measure_all(scratch / "growth", scale / 10 if smoke else scale)) if grow else []
        sizes = (2 * _MIB, 200) if smoke else (round(LARGE_FILE * scale), round(MANY_FILES * scale))
        peaks = list(measure_all(scratch, *sizes)) if memory else []
        on_tmpfs = _filesystem(scratch) == "tmpfs"
    if peers and not on_tmpfs:
        with _scratch(TMPFS) as scratch:
            beside += sidebyside.measure_all(scratch, "tmpfs", scale, rounds)
    if as_json:
        found = _measured(scale, timings, beside, growths, peaks)
        click.echo(json.dumps(as_plain(found), indent=1))
    else:
        _print_tables(timings, beside, growths, peaks)


def _filesystem(path: Path) -> str:
    return gates.filesystem_name(libc.filesystem_magic(str(path)))


def _enter_private_mounts() -> None:
    libc.unshare(libc.CLONE_NEWNS)
    libc.mount("none", "/", None, libc.MS_REC | libc.MS_PRIVATE, None)


@contextmanager
def _scratch(directory: Path | None = None) -> Iterator[Path]:
    path = tempfile.mkdtemp(prefix="refdriver-bench-", dir=directory)
    try:
        yield Path(path)
    finally:
        trees.remove_tree(path)


def _machine() -> str:
    """The processor, how many of it this process may use, and the memory, in words."""
    lines = [line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines()]
    facts = {name.strip(): value.strip() for name, _, value in lines}
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    processor = facts.get("model name", platform.machine())
    return f"{processor}, {len(os.sched_getaffinity(0))} processors, {memory:.0f} GiB of memory"


def _kernel() -> str:
    """The release without what a host adds to it."""
    return platform.release().partition("-")[0]


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _measured(
    scale: float, timings: list[Timing], beside: list[SideBySide], growths: list[Growth], peaks: list[Peak]
) -> speedfile.Benchmarks:
    return speedfile.Benchmarks(
        version=speedfile.FORMAT,
        machine=_machine(),
        scale=scale,
        kernel=_kernel(),
        python=platform.python_version(),
        load=os.getloadavg()[0],
        date=_now(),
        speed=tuple(speedfile.Timing(one.name, one.seconds, one.least, one.most, one.samples) for one in timings),
        peers=tuple(
            speedfile.Peer(
                *(one.name, one.peer, one.filesystem, one.load),
                speedfile.Ratio(*one.ratios("cpu")),
                speedfile.Ratio(*one.ratios("wall")),
                tuple(speedfile.Sample(sample.wall, sample.cpu) for sample in one.driver),
                tuple(speedfile.Sample(sample.wall, sample.cpu) for sample in one.other),
            )
            for one in beside
        ),
        growth=tuple(
            speedfile.Growth(
                *(one.name, one.unit),
                tuple(speedfile.Point(size, seconds) for size, seconds in one.points),
                speedfile.Fit(*one.fit, one.worst),
            )
            for one in growths
        ),
        memory=tuple(speedfile.Memory(one.name, one.peak, one.added, one.ratio) for one in peaks),
    )


def _print_tables(
    timings: list[Timing], beside: list[SideBySide], growths: list[Growth], peaks: list[Peak]
) -> None:
    load = " ".join(f"{one:.1f}" for one in os.getloadavg())
    click.echo(f"{_machine()}, kernel {_kernel()}, Python {platform.python_version()}, load {load}\n")
    click.echo(f"{'wall time':28}{'median':>12}{'minimum':>12}{'maximum':>12}")
    for one in timings:
        click.echo(f"{one.name:28}{_duration(one.seconds):>12}{_duration(one.least):>12}{_duration(one.most):>12}")
    if beside:
        click.echo(f"\n{'driver / peer':36}{'peer':20}{'on':8}{'load':>5}{'CPU ratio':>18}{'wall ratio':>18}")
    for pair in beside:
        cpu, wall = (
            f"{m:.2f} ({low:.2f}-{high:.2f})" for m, low, high in (pair.ratios("cpu"), pair.ratios("wall"))
        )
        click.echo(f"{pair.name:36}{pair.peer:20}{pair.filesystem:8}{pair.load:>5.1f}{cpu:>18}{wall:>18}")
    if growths:
        click.echo("\ngrowth, CPU time")
    for grown in growths:
        first, each = grown.fit
        points = ", ".join(f"{size}: {_duration(seconds)}" for size, seconds in grown.points)
        click.echo(f"{grown.name}, by {grown.unit}: {points}")
        click.echo(
            f"  fit: {first * 1e3:.3g} ms + {each * 1e6:.3g} us each, and no point is off by more than"
            f" {grown.worst:.0%}"
        )
    if peaks:
        title = f"memory, of {LIMIT // _MIB} MiB"
        click.echo(f"\n{title:46}{'peak MiB':>10}{'added MiB':>11}{'ratio':>9}")
    for peak in peaks:
        click.echo(f"{peak.name:46}{peak.peak / _MIB:>10.1f}{peak.added / _MIB:>11.1f}{peak.ratio:>9.2f}")


def _share(driver: str, profile: str, scratch: Path) -> speedfile.Share:
    parts = measure_parts(driver, profile, scratch)
    seconds = sum(one.seconds for one in parts)
    return speedfile.Share(
        version=speedfile.SHARE_FORMAT,
        machine=_machine(),
        kernel=_kernel(),
        python=platform.python_version(),
        load=os.getloadavg()[0],
        date=_now(),
        driver=driver,
        profile=profile,
        seconds=seconds,
        share=sum(one.driver_seconds for one in parts) / seconds,
        parts=parts,
    )


def _print_share(share: speedfile.Share, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(as_plain(share), indent=1))
        return
    click.echo(f"kernel {share.kernel}, Python {share.python}, one core, load {share.load:.1f}")
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
