"""SELinux mount labels: the ``context=`` option of a mount (mount(8))."""

from __future__ import annotations

from refdriver import files
from refdriver.errors import BadOption


def label_option(label: str) -> str:
    """``context="LABEL"``, quoted because a label may hold commas; empty for no label.

    Raises BadOption for a label with a quote, a backslash or a control character: it would end the quoted
    value, and so could add mount options.
    """
    if not label:
        return ""
    if any(character in '"\\' or not character.isprintable() for character in label):
        raise BadOption(f"mount label {label!r} holds a quote, a backslash or a control character")
    return f'context="{label}"'


def kernel_takes_labels() -> bool:
    """Whether the kernel has SELinux, without which it refuses the option."""
    return "nodev\tselinuxfs" in files.read_text("/proc/filesystems").splitlines()
