"""The driver's options: ``key=value`` words, and sizes as people write them.

Pure, but for the look at an image store's directory, which must exist when the driver opens.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from refdriver.errors import BadOption

_PREFIXES: Final = ("overlay.", "overlay2.")
_KNOWN: Final = ("override_kernel_check", "size", "imagestore")
# The words that Go's strconv.ParseBool takes: stored configurations were written for it.
_TRUE: Final = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE: Final = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_SIZE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(?:([kmgtp])(?:i?b)?|b)?", re.IGNORECASE)
_SIZE_LIMIT: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Options:
    """What the driver was opened with. ``size`` is the default quota in bytes, 0 for none."""

    override_kernel_check: bool = False
    size: int = 0
    image_stores: tuple[str, ...] = ()


def parse_options(words: Iterable[str]) -> Options:
    """Read ``overlay.KEY=VALUE`` words (``overlay2.`` too; keys in any case); raises BadOption."""
    options = Options()
    for word in words:
        options = _with_option(options, *_split(word))
    return options


def parse_layer_options(storage_options: Mapping[str, str]) -> int | None:
    """The quota in bytes that the options of one layer ask for, None if they do not; raises BadOption."""
    size = None
    for key, value in storage_options.items():
        if key.lower() != "size":
            raise BadOption(f"unknown storage option {key!r}; a layer takes only 'size'")
        size = parse_size(value)
    return size


def parse_size(text: str) -> int:
    """Bytes from ``10``, ``10b``, ``1.5G``, ``10 kb`` or ``10KiB``: 1024-based, fractions truncated.

    Raises BadOption for anything else, negatives included.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise BadOption(f"size {text!r} is not a number with an optional unit (k, m, g, t, p), as in 10G")
    number, unit = match.groups()
    from decimal import Decimal  # few commands have a size

    size = int(Decimal(number) * 1024 ** (" kmgtp".index(unit.lower()) if unit else 0))
    if size > _SIZE_LIMIT:
        raise BadOption(f"size {text!r} is more than a filesystem can hold ({_SIZE_LIMIT} bytes)")
    return size


def _split(word: str) -> tuple[str, str]:
    key, equals, value = word.partition("=")
    if not equals:
        raise BadOption(f"option {word!r} has no '='; write overlay.KEY=VALUE")
    return key.strip().lower(), value.strip()


def _with_option(options: Options, key: str, value: str) -> Options:
    match next((key.removeprefix(prefix) for prefix in _PREFIXES if key.startswith(prefix)), None):
        case "override_kernel_check":
            return replace(options, override_kernel_check=_parse_bool(key, value))
        case "size":
            return replace(options, size=parse_size(value))
        case "imagestore":
            stores = tuple(_checked_store(path) for path in value.split(","))
            return replace(options, image_stores=options.image_stores + stores)
    known = ", ".join(_PREFIXES[0] + name for name in _KNOWN)
    raise BadOption(f"unknown option {key}; the driver knows {known}")


def _parse_bool(key: str, value: str) -> bool:
    if value not in _TRUE | _FALSE:
        raise BadOption(f"{key}={value!r} is neither true nor false; write true or false")
    return value in _TRUE


def _checked_store(path: str) -> str:
    # An empty path cleans to "." and is then refused as relative, with its reason.
    cleaned = os.path.normpath(path)
    if not os.path.isabs(cleaned):
        raise BadOption(f"image store {path!r} is not an absolute path")
    try:
        if not os.path.isdir(cleaned):
            os.stat(cleaned)
            raise BadOption(f"image store {cleaned!r} is not a directory")
    except (OSError, ValueError) as error:
        raise BadOption(f"image store {cleaned!r} cannot be used: {error}") from error
    return cleaned
