"""A badge in SVG: the profile, examples and kernels that it is about, and never a bare percentage."""

from __future__ import annotations

import re
from html import escape
from typing import Final

from conformance.history.printable import one_line
from conformance.report.statement import CONFORMANT, NOT_CONFORMANT, Statement, span
from conformance.spec.naming import counted

_COLOURS: Final = {CONFORMANT: "#2e7d32", NOT_CONFORMANT: "#b3261e"}
_UNDETERMINED: Final = "#5f6368"
_CHARACTER: Final = 6.6  # pixels of one in 11 px Verdana, on average
_PADDING: Final = 10


def badge(statement: Statement) -> str:
    """The badge of one statement."""
    kernels = span(tuple(re.sub(r"^(\d+\.\d+).*", r"\1", one) for one in statement.kernels))
    examples = counted(min(statement.examples, default=0), "example")
    left = one_line(f"overlay {'+'.join(statement.profiles)}, {examples}, Linux {kernels}")
    right = statement.conclusion
    if statement.conclusion == NOT_CONFORMANT:
        failed = len(statement.failed) + len(statement.known)
        right = f"{failed} {'requirement fails' if failed == 1 else 'requirements fail'}"
    widths = [round(len(text) * _CHARACTER) + 2 * _PADDING for text in (left, right)]
    total = sum(widths)
    colour = _COLOURS.get(statement.conclusion, _UNDETERMINED)
    title = escape(one_line(f"{statement.driver} {statement.version}: {left}: {right}"))
    label = title.replace('"', "&quot;")
    return f"""<svg xmlns="http://www.w3.org/2000/svg" width="{total}" height="20" role="img" aria-label="{label}">
  <title>{title}</title>
  <rect width="{widths[0]}" height="20" fill="#3c4043"/>
  <rect x="{widths[0]}" width="{widths[1]}" height="20" fill="{colour}"/>
  <g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" text-anchor="middle">
    <text x="{widths[0] / 2}" y="14">{escape(left)}</text>
    <text x="{widths[0] + widths[1] / 2}" y="14">{escape(right)}</text>
  </g>
</svg>
"""
