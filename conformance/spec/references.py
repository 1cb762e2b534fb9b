"""Typed references: where a requirement comes from, as a value that a reader can open and a test can check.

A reference is written as its target, with a note after a colon and a space where one is needed::

    behaviour#opaque-directories
    image-spec/layer.md#whiteouts
    containers/storage#1432: accepts zfs

The target tells the kind. A target of no known form is refused when it is read, so that a source that nobody can
open does not get into the specification.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

# The commit of the image specification that the requirements were written from (2026-05-14).
IMAGE_SPEC: Final = "13cff54902ec9ad6320cbc487a685b66fcd67171"


class Kind(enum.Enum):
    """What a reference names."""

    PAGE = "a statement of this project's documents"
    REQUIREMENT = "a requirement"
    ISSUE = "an issue or pull request on GitHub"
    COMMIT = "a commit on GitHub"
    RELEASE = "a release on GitHub"
    CVE = "a vulnerability"
    IMAGE_SPEC = "the OCI image specification"
    KERNEL = "a document of the Linux kernel"
    MANUAL = "a manual page"
    POSIX = "POSIX.1-2017"
    XFSTESTS = "a test of xfstests"
    DOI = "a publication"
    WEB = "a page of the web"


@dataclass(frozen=True, slots=True)
class Reference:
    """A source: what it is, its target as written, and the address to open.

    ``address`` is a URL, or for a page of this project the path from the root of the repository, with an anchor.
    ``note`` says what there matters, "" if the whole does.
    """

    kind: Kind
    target: str
    address: str
    note: str = ""

    @property
    def text(self) -> str:
        """As it was written."""
        return f"{self.target}: {self.note}" if self.note else self.target


_REPOSITORY: Final = r"(?P<repository>[A-Za-z0-9][\w.-]*/[\w.-]+)"
_ANCHOR: Final = r"(?P<anchor>#[\w-]+)?"
_HUB: Final = "https://github.com"
# The form of a target, and its address with the groups of the form. The first that matches counts.
_FORMS: Final = tuple(
    (kind, re.compile(form, re.ASCII), address)
    for kind, form, address in (
        (Kind.WEB, r"https://[^\s:]\S*[^\s:]", "{0}"),
        (Kind.PAGE, r"(?P<page>behaviour|field-bugs)#(?P<name>[a-z0-9-]+)", "docs/{page}.md#{name}"),
        (Kind.REQUIREMENT, r"OVL(-[A-Z0-9]+){2,}", "docs/specification.md#{lower}"),
        (Kind.CVE, r"CVE-\d{4}-\d{4,}", "https://www.cve.org/CVERecord?id={0}"),
        (Kind.DOI, r"doi:(?P<doi>10\.\d{4,}/\S+)", "https://doi.org/{doi}"),
        (
            Kind.IMAGE_SPEC,
            rf"image-spec/(?P<file>[\w-]+\.md){_ANCHOR}",
            f"{_HUB}/opencontainers/image-spec/blob/{IMAGE_SPEC}/{{file}}{{anchor}}",
        ),
        (
            Kind.XFSTESTS,
            r"xfstests/(?P<test>[a-z0-9]+/\d{3})",
            "https://git.kernel.org/pub/scm/fs/xfs/xfstests-dev.git/tree/tests/{test}",
        ),
        (
            Kind.POSIX,
            r"POSIX/(?P<file>(utilities|functions|basedefs)/\w+)",
            "https://pubs.opengroup.org/onlinepubs/9699919799/{file}.html",
        ),
        (
            Kind.KERNEL,
            rf"(?P<file>overlayfs)\.rst{_ANCHOR}",
            "https://docs.kernel.org/filesystems/{file}.html{anchor}",
        ),
        (Kind.KERNEL, rf"(?P<file>[\w-]+(/[\w-]+)+)\.rst{_ANCHOR}", "https://docs.kernel.org/{file}.html{anchor}"),
        (
            Kind.MANUAL,
            r"(?P<name>[\w.-]+)\((?P<section>[1-8])\)",
            "https://man7.org/linux/man-pages/man{section}/{name}.{section}.html",
        ),
        (Kind.ISSUE, rf"{_REPOSITORY}#(?P<number>[1-9]\d*)", f"{_HUB}/{{repository}}/issues/{{number}}"),
        (Kind.COMMIT, rf"{_REPOSITORY}@(?P<hash>[0-9a-f]{{7,40}})", f"{_HUB}/{{repository}}/commit/{{hash}}"),
        (Kind.RELEASE, rf"{_REPOSITORY}@(?P<tag>v\d+(\.\d+)+)", f"{_HUB}/{{repository}}/releases/tag/{{tag}}"),
    )
)


def parse_reference(text: str) -> Reference:
    """A reference as it is written in the specification; raises ValueError for one of no known form."""
    target, _, note = text.partition(": ")
    for kind, form, address in _FORMS:
        if match := form.fullmatch(target):
            groups = {name: value or "" for name, value in match.groupdict().items()}
            if text.endswith(":") or (": " in text and not note.strip()):
                break
            return Reference(kind, target, address.format(target, lower=target.lower(), **groups), note)
    raise ValueError(
        f"source {text!r} is no reference: behaviour#ANCHOR, field-bugs#ANCHOR, OWNER/REPOSITORY#NUMBER,"
        " OWNER/REPOSITORY@COMMIT, CVE-YEAR-NUMBER, image-spec/FILE.md#ANCHOR, overlayfs.rst#ANCHOR, name(SECTION),"
        " POSIX/utilities/NAME, xfstests/GROUP/NUMBER, doi:NUMBER or https://..., and ': ' before a note"
    )


def in_words(references: Iterable[Reference]) -> str:
    """All of them in one line, as they were written."""
    return "; ".join(one.text for one in references)


def in_markdown(references: Iterable[Reference]) -> str:
    """All of them in one line of Markdown: links, or the path of a page of this project."""
    return "; ".join(_one_in_markdown(one) for one in references)


def _one_in_markdown(reference: Reference) -> str:
    elsewhere = reference.address.startswith("https://")
    said = f"[{reference.target}]({reference.address})" if elsewhere else reference.address
    return f"{said} ({reference.note})" if reference.note else said
