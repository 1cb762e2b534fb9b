"""The command itself, and what several verbs share."""

from __future__ import annotations

import io
import os
import re
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Final, Literal

import click

from conformance.cli.lazy import LazyGroup, Verb
from conformance.harness.interruption import Interrupted, Interruption
from conformance.history.printable import printable
from conformance.spec.errors import HarnessError

_UNITS: Final = {"s": 1, "m": 60, "h": 3600}
_JUDGE: Final = "Judge a driver"
_READ: Final = "Read the specification"
_USE: Final = "Use the results"
_WORK: Final = "Work on the suite"
VERBS: Final = {
    "run": Verb("conformance.cli.run", "Test a driver.", _JUDGE),
    "doctor": Verb("conformance.cli.doctor", "Show what this host can test, and what to install for more.", _JUDGE),
    "validate-adapter": Verb(
        "conformance.cli.validating", "Check an adapter: is it the adapter or the driver?", _JUDGE
    ),
    "replay": Verb("conformance.cli.replay", "Replay a stored case: FIXED, STILL or ERROR.", _JUDGE),
    "compare": Verb(
        "conformance.cli.comparing", "Run the same operations on two drivers: in what do they differ?", _JUDGE
    ),
    "observe": Verb("conformance.cli.observing", "Show what a driver does where the text is silent.", _JUDGE),
    "corpus": Verb(
        "conformance.cli.corpus", "Write test vectors for tools that unpack images, and check trees.", _JUDGE
    ),
    "expect": Verb("conformance.cli.expect", "Maintain a file of known failures.", _JUDGE),
    "list": Verb("conformance.cli.listing", "List requirements, or what would run for a driver.", _READ),
    "explain": Verb("conformance.cli.listing", "Show a requirement: its source, its tests and its mutants.", _READ),
    "specification": Verb("conformance.cli.specifying", "Print the whole specification as Markdown.", _READ),
    "report": Verb("conformance.cli.report", "Write HTML, JUnit, Markdown, a badge or a statement.", _USE),
    "merge": Verb("conformance.cli.report", "Merge the results of several jobs or machines.", _USE),
    "submission": Verb("conformance.cli.submission", "Check results that an implementer submits.", _USE),
    "divergence": Verb("conformance.cli.observing", "Write the table of what drivers were seen to do.", _USE),
    "schema": Verb("conformance.cli.report", "Print the JSON schema of a line of a result file.", _USE),
    "selftest": Verb("conformance.cli.mutating", "Mutation testing: run the suite on mutants and variants.", _WORK),
    "completion": Verb("conformance.cli.completion", "Print the completion script for bash, zsh or fish.", _WORK),
}
ONCE: Final = "once"  # the budget of one round with few examples
_BROKEN_PIPE: Final = 141  # 128 and the number of SIGPIPE, as of a process that died of it


class Duration(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic in some versions of click
    """Seconds from ``90s``, ``10m``, ``2h`` or ``1h30m``."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> float:
        """Parse an option of a command line."""
        parts = re.findall(r"(\d+(?:\.\d+)?)([smh])", str(value))
        if "".join(number + unit for number, unit in parts) != value or not parts:
            self.fail(f"{value!r} is not a duration; write 90s, 10m or 1h30m", param, context)
        return sum(float(number) * _UNITS[unit] for number, unit in parts)


class Budget(Duration):
    """A duration, or ``once``."""

    name = "budget"

    def convert(  # type: ignore[override]
        self, value: Any, param: click.Parameter | None, context: click.Context | None
    ) -> float | Literal["once"]:
        """Parse an option of a command line."""
        return ONCE if value == ONCE else super().convert(value, param, context)


class Verbs(LazyGroup):
    """A group whose exit status 1 is the answer of a verb, never a signal, a closed pipe or an error in code."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Read the command line, which prints ``--help``."""
        with _unless_the_pipe_is_closed():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb; its ``obj`` is the Interruption."""
        interruption = ctx.obj = Interruption(say_error)
        in_main_thread = threading.current_thread() is threading.main_thread()
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # a locale that cannot show a name
        with interruption.handled() if in_main_thread else nullcontext():
            try:
                with _unless_the_pipe_is_closed():
                    try:
                        return super().invoke(ctx)
                    finally:
                        sys.stdout.flush()
            except Interrupted:
                say_error(f"interrupted by {interruption.words}")
                raise
            except (click.ClickException, click.Abort, click.exceptions.Exit):
                raise
            except HarnessError as error:
                say_error(str(error))
                sys.exit(error.exit_status)
            except Exception:
                say_error(f"the harness failed:\n{traceback.format_exc()}")
                sys.exit(2)


@contextmanager
def _unless_the_pipe_is_closed() -> Iterator[None]:
    """Exit quietly when whoever reads the output, such as head, has enough; click would exit with status 1."""
    try:
        yield
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is flushed at exit goes nowhere
        sys.exit(_BROKEN_PIPE)


def say(text: str = "") -> None:
    """Print text, of whomever it is, on standard output."""
    click.echo(printable(text, lines=True))


def say_error(text: str) -> None:
    """Print text, of whomever it is, on standard error, with the name of the command."""
    click.echo(f"overlay-conformance: {printable(text.rstrip(), lines=True)}", err=True)


def interruption_of_verb() -> Interruption | None:
    """What the verb that is running hears of signals by; None outside of a verb."""
    context = click.get_current_context(silent=True)
    return context.find_object(Interruption) if context else None


@click.group(
    cls=Verbs,
    verbs=VERBS,
    entry_points="overlay_conformance.verbs",  # verbs of packages that the suite knows nothing of, such as vm
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="overlay-conformance", prog_name="overlay-conformance")
def main() -> None:
    """Test the conformance of container-storage overlay drivers.

    Where to begin: 'doctor' says what this host can test. 'run DRIVER --profile smoke' tries a driver with 20
    tests, and 'run DRIVER' judges it. 'explain ID' explains a requirement that failed.
    """
