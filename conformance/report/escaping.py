"""How a driver's text becomes Markdown, for what makes pages of results and sees no other room."""

from __future__ import annotations

from conformance.history.printable import fenced, markdown

__all__ = ["fenced", "markdown"]
