"""What the files of a corpus hold, as values: the index, an expected file, and the answer of ``corpus check``.

Names, targets and attributes are bytes. A text of UTF-8 is written as it is; any other is in base64, under a key of
its own, so that a reader in any language finds one of both.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

from conformance.spec.values import Count, Key, RequirementId

FORMAT: Final = 1
VERSION: Final = "1"  # of the vectors; the next one if a vector is added, changed or removed
TYPES: Final = ("file", "directory", "symlink", "fifo", "character", "block")
KEEPS: Final = ("owners", "special-bits", "devices", "xattrs", "capabilities", "times", "fractions", "links")


@dataclass(frozen=True, slots=True)
class Time:
    """A modification time: seconds since 1970, rounded down, and the nanoseconds in that second."""

    seconds: int
    nanoseconds: Annotated[Count, Key("0 to 999999999.")]


@dataclass(frozen=True, slots=True)
class Entry:
    """One path of a tree. The root has none."""

    path: Annotated[str | None, Key("Relative path, if it is UTF-8.", omitted=True)] = None
    path_base64: Annotated[str | None, Key("Relative path, if it is not UTF-8.", omitted=True)] = None
    type: Annotated[str, Key(among=TYPES)] = "file"
    mode: Annotated[str, Key("Permission bits as four octal digits.", pattern="^[0-7]{4}$")] = "0644"
    uid: Count = 0
    gid: Count = 0
    mtime: Annotated[Time | None, Key("Any time is right if it is absent.", omitted=True)] = None
    size: Annotated[Count | None, Key("Bytes of a file.", omitted=True)] = None
    sha256: Annotated[
        str | None, Key("Digest of the content of a file.", pattern="^[0-9a-f]{64}$", omitted=True)
    ] = None
    target: Annotated[str | None, Key("Target of a symlink, if it is UTF-8.", omitted=True)] = None
    target_base64: Annotated[str | None, Key("Target of a symlink, if it is not UTF-8.", omitted=True)] = None
    major: Annotated[Count | None, Key("Of a device.", omitted=True)] = None
    minor: Annotated[Count | None, Key("Of a device.", omitted=True)] = None
    xattrs: Annotated[
        Mapping[str, str],
        Key("user.* and security.capability of files and directories: name to value in base64."),
    ] = field(default_factory=dict)
    links: Annotated[
        Count | None,
        Key("Paths with the same number are hard links of one inode; absent for others.", omitted=True),
    ] = None

    @property
    def name(self) -> bytes:
        """The path."""
        return base64.b64decode(self.path_base64) if self.path_base64 is not None else (self.path or "").encode()


@dataclass(frozen=True, slots=True)
class Tree:
    """A tree that is permitted."""

    choice: Annotated[str, Key("What was chosen where the text is silent; empty if there is no choice.")]
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of an image. In the OCI layout, it is the blob with its digest."""

    file: Annotated[str, Key("Name of the file beside the expected file.")]
    media_type: str
    digest: Annotated[str, Key("Of the file.", pattern="^sha256:[0-9a-f]{64}$")]
    diff_id: Annotated[str, Key("Of the uncompressed archive.", pattern="^sha256:[0-9a-f]{64}$")]
    size: Annotated[Count, Key("Bytes of the file.")]


@dataclass(frozen=True, slots=True)
class Expected:
    """What an unpacker has to make of the layers of one vector, the base first."""

    format: Literal[1]
    corpus: Annotated[str, Key("Version of the vectors.")]
    name: Annotated[str, Key("Name of the vector, and tag of its image.", pattern="^[a-z0-9][a-z0-9.-]{0,127}$")]
    subject: Annotated[
        str,
        Key(
            among=(
                "whiteouts",
                "opaque",
                "links",
                "kinds",
                "metadata",
                "names",
                "formats",
                "implied",
                "damaged",
                "hostile",
            )
        ),
    ]
    hostile: Annotated[bool, Key("The archives try to reach files outside, or are damaged.")]
    requirement: RequirementId
    level: Annotated[str, Key("Of the requirement.", among=("MUST", "SHOULD", "MAY"))]
    sentence: Annotated[str, Key("What the requirement says.")]
    source: Annotated[tuple[str, ...], Key("References of the requirement.")]
    question: Annotated[str, Key("The question on which tools differ, A1 to A22 of docs/corpus.md, or empty.")]
    open: Annotated[bool, Key("No text decides a part: a tree that is not listed is an observation.")]
    needs: Annotated[tuple[str, ...], Key("What the trees have that not every tool can keep; see --ignore.")]
    layers: Annotated[tuple[Layer, ...], Key(least=1)]
    refusal: Annotated[
        str, Key("Whether the unpacker may refuse the image.", among=("required", "permitted", "forbidden"))
    ]
    reasons: Annotated[tuple[str, ...], Key("For what it may or must refuse the image.")]
    trees: Annotated[tuple[Tree, ...], Key("The permitted trees; none if the image must be refused.")]


@dataclass(frozen=True, slots=True)
class Listed:
    """A vector in an index."""

    name: str
    subject: str
    requirement: RequirementId
    question: str
    open: bool
    refusal: str
    expected: Annotated[str, Key("Path of its expected file, from the index.")]
    needs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Index:
    """All vectors of a directory with an OCI layout."""

    format: Literal[1]
    corpus: Annotated[str, Key("Version of the vectors.")]
    hostile: Annotated[bool, Key("Whether these are the hostile vectors.")]
    layout: Annotated[str, Key("Path of the OCI layout, from the index: an image for each vector.")]
    vectors: tuple[Listed, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference from the expected tree that is nearest."""

    path: Annotated[str, Key("As a text; bytes that are not UTF-8 are escaped.")]
    attribute: Annotated[str, Key("missing, unexpected, or a key of an entry.")]
    expected: str
    actual: str


@dataclass(frozen=True, slots=True)
class Checked:
    """The answer of 'corpus check'."""

    format: Literal[1]
    corpus: Annotated[str, Key("Version of the vectors.")]
    name: Annotated[str, Key("Name of the vector.")]
    question: Annotated[str, Key("The question on which tools differ, or empty.")]
    open: Annotated[bool, Key("No text decides a part: a difference is an observation, and no verdict.")]
    accepted: bool
    choice: Annotated[str, Key("What the unpacker chose, or of the nearest tree.")]
    ignored: Annotated[tuple[str, ...], Key("What was not compared.")]
    differences: tuple[Difference, ...]


def text_or_base64(value: bytes) -> tuple[str | None, str | None]:
    """A value as the two keys have it."""
    try:
        return value.decode(), None
    except UnicodeDecodeError:
        return None, base64.b64encode(value).decode()
