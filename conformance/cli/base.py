"""The command itself, and what several verbs share."""

from __future__ import annotations

import re
from typing import Any, Final

import click

_UNITS: Final = {"s": 1, "m": 60, "h": 3600}


class Duration(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic in some versions of click
    """Seconds from ``90s``, ``10m``, ``2h`` or ``1h30m``."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> float:
        """Read the words of a command line."""
        parts = re.findall(r"(\d+(?:\.\d+)?)([smh])", str(value))
        if "".join(number + unit for number, unit in parts) != value or not parts:
            self.fail(f"{value!r} is no duration; write 90s, 10m or 1h30m", param, context)
        return sum(float(number) * _UNITS[unit] for number, unit in parts)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="overlay-conformance", prog_name="overlay-conformance")
def main() -> None:
    """Judge container-storage overlay drivers by what they do."""
