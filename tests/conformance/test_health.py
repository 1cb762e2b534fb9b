"""How the kernel fares is judged by its own words and its taint, and by nobody else's."""

from __future__ import annotations

from pathlib import Path

import pytest
from commanding import command
from reading import records, verdicts

from conformance.lab.kernellog import KernelLog, why_not
from conformance.spec import health
from conformance.spec.verdicts import TestOutcome, Verdict

HEALTHY = [
    "overlayfs: upper fs does not support RENAME_WHITEOUT.",
    "XFS (loop0): Mounting V5 Filesystem",
    "overlayfs: conflicting options: userxattr,metacopy=on",
    "EXT4-fs warning (device loop1): ext4_end_bio: I/O error",
]
A_TEST = TestOutcome("test_something", ("OVL-LIFE-CREATE",), Verdict.PASS)
SKIPPED = TestOutcome("test_something", ("OVL-LIFE-CREATE",), Verdict.NOT_APPLICABLE)


@pytest.mark.parametrize(
    "line",
    [
        "WARNING: CPU: 0 PID: 812 at fs/overlayfs/copy_up.c:987 ovl_copy_up_flags+0x1a/0x40 [overlay]",
        "WARNING: fs/overlayfs/dir.c:1290 at ovl_rename+0x5ab/0x7e0, CPU#0: python3/812",
        "WARNING: possible circular locking dependency detected",
        "BUG: kernel NULL pointer dereference, address: 0000000000000008",
        "kernel BUG at fs/overlayfs/super.c:201!",
        "Oops: 0002 [#1] PREEMPT SMP NOPTI",
        "general protection fault, probably for non-canonical address 0xdead000000000108: 0000 [#1] SMP",
        "Kernel panic - not syncing: sysrq triggered crash",
        "INFO: task python3:812 blocked for more than 120 seconds.",
        "watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [python3:812]",
        "rcu: INFO: rcu_preempt self-detected stall on CPU",
    ],
)
def test_what_no_healthy_kernel_writes_is_found_with_what_follows(line: str) -> None:
    trace = ["Call Trace:", " <TASK>", " ovl_copy_up_flags+0x1a/0x40 [overlay]"]
    found = health.judged([*HEALTHY, line, *trace], 0, [A_TEST], "xfs")
    assert (found.verdict, found.requirements, found.backing) == (Verdict.FAIL, ("OVL-KERNEL-WELL",), "xfs")
    assert found.kernel == (line, *trace)
    assert line in found.reason


def test_a_healthy_log_is_no_finding() -> None:
    assert health.judged(HEALTHY, 1 << 12 | 1 << 13, [A_TEST], "xfs").verdict is Verdict.PASS


STOPPED = [
    "F2FS-fs (dm-0): Stopped filesystem due to reason: 3",
    "CPU: 0 UID: 0 PID: 471 Comm: kworker/u4:5 Not tainted 7.2.7 #1 VOLUNTARY",
    "Workqueue: writeback wb_workfn (flush-253:0)",
    "Stack:",
    "Call Trace:",
    " [<6003209e>] ? _printk+0x0/0x45",
]


# Linux 6.18.15 and 7.3.4 say the reason behind the stack.
STOPS = [
    "CPU: 0 UID: 0 PID: 327 Comm: f2fs_ckpt-254:0 Not tainted 7.3.4 #1 VOLUNTARY",
    "Stack:",
    "Call Trace:",
    " [<600647b2>] dump_stack+0x1a/0x1c",
    " [<60508465>] f2fs_stop_checkpoint+0x1b5/0x240",
    " [<600671c9>] new_thread_handler+0x49/0x70",
    "F2FS-fs (dm-0): Stopped filesystem due to reason: 3",
]


def test_f2fs_that_stops_on_a_write_error_is_no_finding() -> None:
    """The stack of a warning is one, also behind it, and so is that of any other reason to stop."""
    assert health.trouble(STOPPED * 2) == []
    warned = ["WARNING: CPU: 0 PID: 1 at fs/f2fs/node.c:1", "Call Trace:"]
    assert health.trouble([*STOPPED, *warned]) == warned
    other = [STOPPED[0].replace("3", "7"), *STOPPED[1:]]
    assert health.trouble(other) == other[4:]
    assert health.trouble([*STOPPED, *["a line"] * 20, "Call Trace:"]) == ["Call Trace:"]
    assert health.trouble(STOPS * 3) == []
    assert health.trouble([*STOPS, *warned]) == warned
    assert health.trouble([*STOPS[:-1], *warned, STOPS[-1]])[0] == "Call Trace:"
    without = [line for line in STOPS if "f2fs_stop_checkpoint" not in line]
    assert health.trouble(without) == without[2:]
    assert health.trouble([*STOPS[:-1], STOPS[-1].replace("3", "7")])[0] == "Call Trace:"


@pytest.mark.parametrize(("bit", "fatal"), [(4, True), (5, True), (7, True), (9, False), (14, True)])
def test_taint_is_a_finding(bit: int, fatal: bool) -> None:
    found = health.judged([], 1 << bit, [A_TEST], "")
    assert found.verdict is Verdict.FAIL
    assert f"(bit {bit})" in found.reason
    assert health.is_beyond_trust(1 << bit) is fatal


def test_a_kernel_that_was_asked_nothing_is_not_said_to_be_well() -> None:
    assert health.judged([], 0, [SKIPPED], "").verdict is Verdict.NOT_APPLICABLE
    assert health.judged([], 0, [], "").verdict is Verdict.NOT_APPLICABLE
    assert health.judged(["Oops: 0002"], 0, [], "").verdict is Verdict.FAIL


@pytest.mark.skipif(bool(why_not()), reason=why_not())
def test_only_the_kernel_speaks_for_itself() -> None:
    log = KernelLog()
    log.write("WARNING: CPU: 0 PID: 1 at nowhere")
    assert health.trouble(log.of_the_kernel()) == []
    log.write("WARNING: CPU: 0 PID: 1 at nowhere")
    assert any("at nowhere" in line for line in log.news()) is False  # an information, and not a warning
    log.close()


@pytest.mark.mounts
def test_a_run_judges_it_only_where_it_is_asked_or_fails(scratch: Path) -> None:
    results = scratch / "results.jsonl"
    words = ["--requirement", "OVL-LIFE-CREATE", "--results", str(results), "--scratch", str(scratch)]
    assert command("run", "python:refdriver:Driver", *words).returncode == 0
    assert verdicts(results) == {"OVL-LIFE-CREATE": "PASS"}
    words += ["--requirement", health.REQUIREMENT]
    assert command("run", "python:refdriver:Driver", *words).returncode == 0
    assert verdicts(results)[health.REQUIREMENT] == ("NOT-APPLICABLE" if why_not() else "PASS")
    assert {one["test"] for one in records(results, "outcome")} > {health.TEST}
