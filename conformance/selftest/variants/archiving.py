"""Other archives of the same layer: in another order, with other names of links, in other formats."""

from __future__ import annotations

import io
import itertools
import tarfile
from collections.abc import Sequence
from decimal import Decimal
from typing import IO, ClassVar, Final, Literal

from conformance.selftest.mutants.basis import Faithful
from conformance.selftest.variants.tarparts import PAX_XATTR, Part, archive, parts, without
from conformance.selftest.variants.variant import variant

_DIFFS: Final = ("OVL-DIFF", "OVL-APPLY", "OVL-WHITEOUT", "OVL-OPAQUE")
_WHOLE_SECONDS: Final = {"fine-times": "headers of ustar and GNU tar have whole seconds"}
_PAST: Final = 1_234_567_890


@variant(source="OCI image specification, layer.md: no order of entries is prescribed", touches=_DIFFS)
class ArchivesByDepth(Faithful):
    """A diff goes from the root down level by level, later names first, with all hard links at its end."""

    def diff(self, layer_id: str, parent: str = "") -> IO[bytes]:
        """The same entries, each after its directory and after what it is a link of."""

        def depth(part: Part) -> tuple[bool, int]:
            return part.member.islnk(), part.member.name.strip("/").count("/")

        with self.inner.diff(layer_id, parent) as stream:
            found = parts(stream)
        found.reverse()
        return archive(sorted(found, key=depth))


@variant(
    source="pax(1): a link names any earlier entry of the archive",
    touches=(*_DIFFS, "OVL-META-HARD-LINKS", "OVL-SIZE"),
)
class NamesLinksByTheLast(Faithful):
    """Of the names of one inode a diff gives the content to the last, and the others as links to that."""

    def diff(self, layer_id: str, parent: str = "") -> IO[bytes]:
        """What has several names comes at the end, when all directories are there."""
        with self.inner.diff(layer_id, parent) as stream:
            found = parts(stream)
        links: dict[str, list[Part]] = {}
        for part in found:
            if part.member.islnk():
                links.setdefault(part.member.linkname, []).append(part)
        single = [one for one in found if not one.member.islnk() and one.member.name not in links]
        linked = [_turned(one, links[one.member.name]) for one in found if one.member.name in links]
        return archive([*single, *itertools.chain.from_iterable(linked)])


def _turned(first: Part, links: Sequence[Part]) -> list[Part]:
    last = links[-1].member.name
    records = without(first.member.pax_headers, "path")
    others = (first.member.name, *(one.member.name for one in links[:-1]))
    return [
        first.changed(name=last, pax_headers=records),
        *(one.changed(name=name, linkname=last, pax_headers={}) for name, one in zip(others, links, strict=True)),
    ]


@variant(source="containers/storage and moby: modes of whiteouts are 0 or 0600", touches=_DIFFS)
class MakesWhiteoutsOfItsOwn(Faithful):
    """Whiteouts in a diff have no permissions, and a time of their own."""

    def diff(self, layer_id: str, parent: str = "") -> IO[bytes]:
        """The opaque whiteouts too."""

        def another(part: Part) -> Part:
            return part.changed(mode=0, mtime=_PAST, pax_headers={}) if _is_mark(part) else part

        with self.inner.diff(layer_id, parent) as stream:
            return archive(map(another, parts(stream)))


def _is_mark(part: Part) -> bool:
    return part.member.name.rpartition("/")[2].startswith(".wh.")


@variant(source="OCI image specification, layer.md: whiteouts speak of lower layers only", touches=_DIFFS)
class MarksOpaqueLast(Faithful):
    """The opaque whiteout of a directory comes after all that is in the directory."""

    def diff(self, layer_id: str, parent: str = "") -> IO[bytes]:
        """The deepest mark first, at the end of all."""
        with self.inner.diff(layer_id, parent) as stream:
            found = parts(stream)
        marks = [one for one in found if one.member.name.rpartition("/")[2] == ".wh..wh..opq"]
        return archive([*(one for one in found if one not in marks), *reversed(marks)])


@variant(source="ustar headers: whole seconds", touches=(*_DIFFS, "OVL-META-TIMES", "OVL-CHANGES"))
class CutsTimes(Faithful):
    """The times in a diff are whole seconds."""

    declined_capabilities: ClassVar = _WHOLE_SECONDS

    def diff(self, layer_id: str, parent: str = "") -> IO[bytes]:
        """As a header without records has them."""
        with self.inner.diff(layer_id, parent) as stream:
            return archive([_cut(part, tarfile.PAX_FORMAT) for part in parts(stream)])


def _cut(part: Part, form: Literal[0, 1, 2]) -> Part:
    records = part.member.pax_headers
    seconds, _, fraction = records.get("mtime", str(int(part.member.mtime))).partition(".")
    down = 1 if seconds.startswith("-") and fraction.strip("0") else 0
    return part.changed(form, mtime=int(seconds) - down, pax_headers=without(records, "mtime"))


@variant(
    source="Go's archive/tar since 1.10 rounds what a header has no room for",
    touches=(*_DIFFS, "OVL-META", "OVL-CHAIN-DIFF-DEEP", "OVL-LIFE-HISTORY", "OVL-PARALLEL-DIFF", "OVL-STORE"),
    waives=("OVL-META-TIMES-DOWN",),
)
class RoundsTimesToSeconds(Faithful):
    """The times in a diff are rounded to the nearest second."""

    declined_capabilities: ClassVar = _WHOLE_SECONDS

    def diff(self, layer_id: str, parent: str = "") -> IO[bytes]:
        """A half and more goes up."""

        def rounded(part: Part) -> Part:
            records = part.member.pax_headers
            seconds = round(Decimal(records.get("mtime", str(int(part.member.mtime)))))
            return part.changed(mtime=seconds, pax_headers=without(records, "mtime"))

        with self.inner.diff(layer_id, parent) as stream:
            return archive(map(rounded, parts(stream)))


@variant(
    source="GNU tar, and layers in the wild (quay/claircore#683); OVL-APPLY-NO-END: refused, or applied whole",
    touches=("OVL-APPLY", "OVL-HOSTILE"),
)
class TakesArchivesWithoutAnEnd(Faithful):
    """The end of the data is taken for the end of an archive, where it is between two entries."""

    def apply_diff(self, layer_id: str, parent: str, archive: IO[bytes]) -> int:
        """Apply the archive with an end of its own."""
        data = archive.read()
        end = bytes(1024) if _ends_between_entries(data) else b""
        return int(self.inner.apply_diff(layer_id, parent, io.BytesIO(data + end)))


def _ends_between_entries(data: bytes) -> bool:
    """Whether an archive without an end holds all of its last entry."""
    begin, extends = 0, False
    while begin + tarfile.BLOCKSIZE <= len(data) and any(header := data[begin : begin + tarfile.BLOCKSIZE]):
        kind = header[156:157]
        try:
            size = tarfile.nti(header[124:136]) if kind in b"0\0007xgLK" else 0  # type: ignore[attr-defined]
        except tarfile.HeaderError:
            return False
        begin += tarfile.BLOCKSIZE + size + -size % tarfile.BLOCKSIZE
        extends = kind in b"xLK"
    return begin == len(data) and not extends


@variant(source="GNU tar; OVL-APPLY-FORMATS", touches=(*_DIFFS, "OVL-META", "OVL-NAMES"))
class WritesGnuHeaders(Faithful):
    """A diff is in the format of GNU tar, but for the entries with attributes, which only pax can carry."""

    declined_capabilities: ClassVar = _WHOLE_SECONDS

    def diff(self, layer_id: str, parent: str = "") -> IO[bytes]:
        """Long names are entries of their own there, large numbers are binary, and times are whole seconds."""

        def rewritten(part: Part) -> Part:
            attributes = any(name.startswith(PAX_XATTR) for name in part.member.pax_headers)
            return part if attributes else _cut(part, tarfile.GNU_FORMAT)

        with self.inner.diff(layer_id, parent) as stream:
            return archive(map(rewritten, parts(stream)))


@variant(source="pax(1); git archive writes global headers", touches=(*_DIFFS, "OVL-META", "OVL-NAMES"))
class SaysAllInRecords(Faithful):
    """A diff says names, numbers and times of every entry in pax records, behind a global header."""

    def diff(self, layer_id: str, parent: str = "") -> IO[bytes]:
        """What the header says already, again; and what nobody asked for."""
        comment = tarfile.TarInfo.create_pax_global_header({"comment": "an archive of a layer"})
        with self.inner.diff(layer_id, parent) as stream:
            found = parts(stream)
        return archive(map(_with_records, found), before=comment if found else b"")


def _with_records(part: Part) -> Part:
    member = part.member
    records = {"path": member.name, "mtime": str(int(member.mtime)), "atime": str(_PAST), "ctime": str(_PAST)}
    if member.linkname:
        records["linkpath"] = member.linkname
    records |= {"uid": str(member.uid), "gid": str(member.gid), "LIBARCHIVE.creationtime": str(_PAST)}
    return part.changed(pax_headers={**records, **member.pax_headers})


@variant(
    source="pax(1): sizes of directories are limits, those of links may be told",
    touches=(*_DIFFS, "OVL-SIZE", "OVL-META-OWNERS"),
)
class GivesMoreFields(Faithful):
    """A diff gives every owner a name, a directory a size, and a hard link the size of what it links."""

    def diff(self, layer_id: str, parent: str = "") -> IO[bytes]:
        """pax(1) has readers ignore the one, and look for content behind neither."""
        with self.inner.diff(layer_id, parent) as stream:
            found = parts(stream)
        sizes = {one.member.name: one.member.size for one in found}

        def fuller(part: Part) -> Part:
            member = part.member
            size = 4096 if member.isdir() else sizes.get(member.linkname, 0) if member.islnk() else member.size
            return part.changed(size=size, uname=f"u{member.uid}", gname=f"g{member.gid}")

        return archive(map(fuller, found))


@variant(
    source="GNU tar; OVL-APPLY-NAME-FORMS", touches=(*_DIFFS, "OVL-NAMES", "OVL-META-DIRECTORIES", "OVL-IDMAP")
)
class NamesFromTheDot(Faithful):
    """The names in a diff begin with ./, and the root has an entry before the others."""

    def diff(self, layer_id: str, parent: str = "") -> IO[bytes]:
        """As GNU tar writes a directory that is archived as a dot."""
        with self.inner.diff(layer_id, parent) as stream:
            found = parts(stream)
        root = tarfile.TarInfo("./")
        root.type, root.mode, root.mtime = tarfile.DIRTYPE, 0o755, _PAST
        first = [Part(root, root.tobuf(), b"")] if found else []
        return archive([*first, *map(_dotted, found)])


def _dotted(part: Part) -> Part:
    link = f"./{part.member.linkname}" if part.member.islnk() else part.member.linkname
    records = without(part.member.pax_headers, "path", *(("linkpath",) if part.member.islnk() else ()))
    return part.changed(name=f"./{part.member.name}", linkname=link, pax_headers=records)
