"""What an unpacker may choose where the image specification is silent, and in which words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Choices:
    """What an unpacker may choose where no text decides; True is the first word of ``WORDS``."""

    lower_directories: bool = True
    hidden_directories: bool = True
    plain_directories: bool = True
    replaced_symlinks: bool = True
    whiteouts_make_parents: bool = False
    linked_to_lower: bool = True
    linked_groups: bool = True
    replaced_attributes: bool = True
    no_aufs_metadata: bool = True
    kept_names: bool = True
    kept_fractions: bool = True


WORDS: Final[Mapping[str, tuple[str, str]]] = {
    "lower_directories": ("implied directory keeps metadata", "implied directory is 0755 root"),
    "hidden_directories": ("deleted directory is new", "deleted directory keeps metadata"),
    "plain_directories": ("setgid is not inherited", "setgid is inherited"),
    "replaced_symlinks": ("replaces the symlink", "follows the symlink"),
    "whiteouts_make_parents": ("whiteout makes its directories", "whiteout makes no directory"),
    "linked_to_lower": ("linked to the lower", "copied from the lower"),
    "linked_groups": ("lower names stay linked", "lower names are split"),
    "replaced_attributes": ("attributes are replaced", "attributes are added"),
    "no_aufs_metadata": ("AUFS metadata is left out", "AUFS metadata is made"),
    "kept_names": ("outside name is moved inside", "outside name is left out"),
    "kept_fractions": ("fractions kept", "whole seconds"),
}
