"""How a kernel fares, by its log and its taint: pure, so that a guest's can be judged from outside as well."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from typing import Final

from conformance.spec.causes import UNKNOWN
from conformance.spec.verdicts import TestOutcome, Verdict

REQUIREMENT: Final = "OVL-KERNEL-WELL"
TEST: Final = "the_kernel_stays_well"
_RAN: Final = (Verdict.PASS, Verdict.FAIL, Verdict.XFAIL, Verdict.XPASS, Verdict.ERROR)
_TRACE: Final = 120  # lines to keep, from the first that tells of trouble
# What no healthy kernel writes.
_TROUBLE: Final = re.compile(
    r"kernel BUG|\bBUG: |\bOops\b|general protection fault|Kernel panic|WARNING: (?:CPU: |.* at |possible )|"
    r"INFO: (?:task|rcu)|blocked for more than \d+ seconds|soft lockup|hard LOCKUP|Call Trace:"
)
# f2fs writes a stack, and no warning, where it stops because a disk answered an error (f2fs_stop_checkpoint,
# reasons META_PAGE and WRITE_FAIL); the crash tests make a disk answer errors. The stack follows the reason, or
# comes before it, with the function in it (6.18.15 and 7.3.4).
_STOPPED: Final = re.compile(r"F2FS-fs \([\w-]+\): Stopped filesystem due to reason: [23]\b")
_STOPS: Final = "f2fs_stop_checkpoint+"
_STACK: Final = 12  # lines from the reason to the one that begins the stack
# Of the bits of taint (kernel document tainted-kernels) those that something going wrong sets.
_TAINTS: Final = {4: "a machine check", 5: "a bad page", 7: "an oops", 9: "a warning", 14: "a lockup"}
_FATAL: Final = (4, 5, 7, 14)


def trouble(log: Sequence[str]) -> list[str]:
    """The lines of a log from the first that no healthy kernel writes; none if there is none."""
    told = (number for number, line in enumerate(log) if _TROUBLE.search(line))
    first = next((number for number in told if not _is_of_a_stop(log, number)), len(log))
    return list(log[first : first + _TRACE])


def _is_of_a_stop(log: Sequence[str], number: int) -> bool:
    if "Call Trace:" not in log[number]:
        return False
    if any(map(_STOPPED.search, log[max(0, number - _STACK) : number])):
        return True
    after = log[number + 1 : number + _TRACE]
    stack = itertools.takewhile(lambda line: not _STOPPED.search(line) and not _TROUBLE.search(line), after)
    frames = list(stack)
    return any(_STOPS in line for line in frames) and any(map(_STOPPED.search, after[len(frames) :][:1]))


def taints(mask: int) -> list[str]:
    """What bits of taint say that went wrong."""
    return [f"{what} (bit {bit})" for bit, what in _TAINTS.items() if mask >> bit & 1]


def is_beyond_trust(mask: int) -> bool:
    """Whether what this kernel does says nothing any more."""
    return any(mask >> bit & 1 for bit in _FATAL)


def judged(log: Sequence[str], mask: int, outcomes: Iterable[TestOutcome], backing: str) -> TestOutcome:
    """The outcome of the requirement, from what the kernel wrote during tests and the taint that is new since.

    A kernel that was asked nothing, as no test came to run, is not said to be well.
    """
    trace, bits = trouble(log), taints(mask)
    if not trace and not bits:
        if not any(one.verdict in _RAN for one in outcomes):
            return unknown("no test came to run")
        return TestOutcome(TEST, (REQUIREMENT,), Verdict.PASS, backing=backing)
    reason = [f"it tainted itself: {one}" for one in bits] + _telling(trace)
    return TestOutcome(
        TEST, (REQUIREMENT,), Verdict.FAIL, "; ".join(reason), backing=backing, kernel=tuple(trace), cause=UNKNOWN
    )


def broken(trace: Sequence[str], backing: str, evidence: str) -> TestOutcome:
    """The outcome where the kernel broke down, with what it wrote; ``evidence`` is a folder with more."""
    reason = "; ".join(_telling(trace))
    return TestOutcome(
        TEST,
        (REQUIREMENT,),
        Verdict.FAIL,
        reason,
        backing=backing,
        kernel=tuple(trace),
        evidence=evidence,
        cause=UNKNOWN,
    )


def _telling(trace: Sequence[str]) -> list[str]:
    return [f"it wrote: {line.strip()}" for line in trace if _TROUBLE.search(line)][:3]


def unknown(why: str) -> TestOutcome:
    """The outcome where nothing can be told."""
    return TestOutcome(TEST, (REQUIREMENT,), Verdict.NOT_APPLICABLE, why)
