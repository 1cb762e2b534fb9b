"""Refusals of two runs, compared: the same words, whatever directory, process and time they were said in.

Both a script (sed(1), in the C locale) and Python reduce a text by the same rules, so a refusal that was recorded
is found in what a driver's command prints, which may have more around it.
"""

from __future__ import annotations

import re
from typing import Final

_LIMIT: Final = 300  # characters of a refusal that are compared
# Extended regular expressions that sed and Python read alike, with what replaces a match.
RULES: Final = (
    (r"\\u[0-9a-fA-F]{4}", ""),  # escapes of JSON, which some commands print
    (r"\\[nrt]", " "),
    (r"""["'`\\<>&]""", ""),
    (r"/[^ :;,()]*", "/"),  # a path is another in each run
    (r"0x[0-9a-f]+", "0"),
    (r"[0-9a-f]{12,}", "0"),
    (r"[A-Z0-9]{26}", "0"),  # the name of a short link
    (r"[0-9]+", "0"),  # processes, times, sizes
    (r" +", " "),
)


def plain(text: str) -> str:
    """What is the same of a refusal in every run; not more than its beginning."""
    data = text.replace("\n", " ")
    data = "".join(one for one in data if " " <= one <= "~")
    for pattern, replacement in RULES:
        data = re.sub(pattern, replacement, data)
    return data[:_LIMIT].strip()


def as_shell() -> str:
    """The function ``plain`` of a script, from standard input to standard output."""
    words = [f"s|{pattern}|{replacement}|g".replace("'", "'\\''") for pattern, replacement in RULES]
    commands = " ".join(f"-e '{word}'" for word in words)
    return f"plain() {{ tr '\\n' ' ' | tr -cd '\\040-\\176' | sed -E {commands}; }}"
