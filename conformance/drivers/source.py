"""How a driver is reached: what an adapter gives to the suite."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from conformance.drivers.protocol import Answer, DriverInfo, DriverUnderTest, OpenRequest
from conformance.history.steps import Called, Opened


class Dialect(Protocol):
    """How a driver is used from a shell, without this project: for a reproducer.

    Commands stand alone, end with a status other than 0 when the driver refuses, and say why on either channel.
    ``$work`` is the directory of everything; a store's own is ``$work/STORE``, an archive's file ``$work/LABEL``.
    Every method raises conformance.operations.shell.NoScript for what the driver's own commands cannot do.
    """

    @property
    def needs(self) -> Sequence[str]:
        """Commands that have to be installed."""

    def prologue(self) -> str:
        """Functions and variables, said once; may name ``$work``."""

    def home(self, store: str, below: str) -> str:
        """The directory of the layers, a path that may have ``$work`` in it, to stand between double quotes."""

    def opened(self, step: Opened) -> str:
        """The command that opens a store, in its last line; the lines before prepare it."""

    def called(self, step: Called) -> str:
        """The command of a call.

        ``get`` prints the path of the tree, ``exists`` "yes" or "no", ``diff-size`` a number, ``changes`` lines of
        kind, space and path; ``diff`` writes ``$work/LABEL`` and ``apply`` reads it. A comment if there is
        nothing to do.
        """

    def refusal(self, said: str) -> str:
        """Of a refusal that an adapter reported, the part that the commands print too."""

    def epilogue(self) -> str:
        """Ends what was started; "" if nothing was."""


@dataclass(frozen=True, slots=True)
class DriverSource:
    """How to open a driver under test.

    ``close`` ends what was started to reach it, such as a daemon. ``attempt`` opens the driver, and closes it,
    in a process of its own that is started behind a command prefix; a driver that runs elsewhere takes none.
    ``dialect`` is how a reproducer reaches it; None if there is no way. ``writable`` are directories
    outside of all stores that it writes to, such as the root of a daemon that runs already. ``sets_umask`` says
    whether OpenRequest.umask is heeded. ``late`` says that an archive is read when its layer is got, and not when
    it is applied: then ``get`` refuses it, and the layer is without it afterwards. ``unprivileged`` says why the
    driver has not the privileges of the run, "" where it has. ``next_step`` says what to try when the driver cannot
    be used, such as a command; "" if there is nothing to say. ``alone`` says why only one process may use it, ""
    where several may. ``commands`` says that each call starts a process, and so takes as long as many of others.
    """

    info: DriverInfo
    open: Callable[[OpenRequest], DriverUnderTest]
    close: Callable[[], None] = lambda: None
    attempt: Callable[[OpenRequest, Sequence[str]], Answer] | None = None
    dialect: Dialect | None = None
    writable: tuple[Path, ...] = ()
    sets_umask: bool = False
    late: bool = False
    unprivileged: str = ""
    next_step: str = ""
    alone: str = ""
    commands: bool = False
