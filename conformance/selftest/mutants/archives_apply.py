"""Mutants of applying archives."""

from __future__ import annotations

import io
import os
import tarfile
from typing import IO, Any, Final

from conformance.selftest.mutants.basis import Faithful
from conformance.selftest.mutants.mutant import mutant
from conformance.selftest.mutants.rewriting import filtered, rewritten


@mutant(breaks=("OVL-APPLY-TRUNCATED",), source="CVE-2021-20291")
class ApplyAcceptsTruncatedArchive(Faithful):
    """An archive that is cut off is applied as far as it goes."""

    def apply_diff(self, layer_id: str, parent: str, archive: IO[bytes]) -> int:
        """Apply what there is."""
        try:
            kept = filtered(archive, lambda member: member)
        except tarfile.TarError:
            return 0
        return int(self.inner.apply_diff(layer_id, parent, kept))


@mutant(breaks=("OVL-APPLY-PIECES",), source="read(2): fewer bytes than asked for are no end", hard=True)
class ApplyTakesShortReadForEnd(Faithful):
    """An archive is read in blocks of 512 bytes, and a shorter one is taken for the last."""

    def apply_diff(self, layer_id: str, parent: str, archive: IO[bytes]) -> int:
        """Read up to the first short block, which is then filled up."""
        data = b""
        while len(block := archive.read(512)) == 512:
            data += block
        return int(self.inner.apply_diff(layer_id, parent, io.BytesIO(data + block)))


@mutant(breaks=("OVL-APPLY-NO-END",), source="POSIX/utilities/pax: an archive without its end; quay/claircore#683")
class ApplyDropsLastEntryWithoutEnd(Faithful):
    """Of an archive without an end all but the last entry are applied."""

    def apply_diff(self, layer_id: str, parent: str, archive: IO[bytes]) -> int:
        """The last may not be whole."""
        data = archive.read()
        if data and not data.endswith(bytes(1024)):
            with tarfile.open(fileobj=io.BytesIO(data)) as tar:
                last = tar.getmembers()[-1].name
            data = rewritten(io.BytesIO(data), lambda one: [one] if one.name != last else []).read()
        return int(self.inner.apply_diff(layer_id, parent, io.BytesIO(data)))


@mutant(breaks=("OVL-APPLY-LAST-WINS",), source="behaviour#applying: an existing entry is replaced")
class ApplyKeepsFirstOfEqualNames(Faithful):
    """Of two entries with one name the first stays."""

    def apply_diff(self, layer_id: str, parent: str, archive: Any) -> int:
        """Leave out what came before."""
        target, seen = io.BytesIO(), set()
        with tarfile.open(fileobj=archive, mode="r:") as source, tarfile.open(fileobj=target, mode="w") as tar:
            for member in source.getmembers():
                if member.name not in seen:
                    tar.addfile(member, source.extractfile(member) if member.isreg() else None)
                seen.add(member.name)
        target.seek(0)
        return int(self.inner.apply_diff(layer_id, parent, target))


_BLOCK: Final = 512


@mutant(breaks=("OVL-APPLY-FORMATS",), source="POSIX/utilities/pax: global headers, as ustar readers take them")
class ApplyUnpacksGlobalHeaders(Faithful):
    """A global header becomes a file 'pax_global_header', as with programs that do not know it."""

    def apply_diff(self, layer_id: str, parent: str, archive: IO[bytes]) -> int:
        """Put the file in front."""
        data = archive.read()
        if data[156:157] == b"g":
            first = io.BytesIO()
            with tarfile.open(fileobj=first, mode="w") as tar:
                tar.addfile(tarfile.TarInfo("pax_global_header"))
            data = first.getvalue()[:_BLOCK] + data
        return int(self.inner.apply_diff(layer_id, parent, io.BytesIO(data)))


@mutant(
    breaks=(
        "OVL-APPLY-PARENTS",
        "OVL-APPLY-NAME-FORMS",
        "OVL-APPLY-FORMATS",
        "OVL-APPLY-WHITEOUT-MISSING",
        "OVL-APPLY-WHITEOUT-AFTER",
        "OVL-HOSTILE-MANY",
        "OVL-APPLY-SECOND-DIFF",
        "OVL-SIZE-APPLIED",
        "OVL-LIFE-HISTORY",
        "OVL-CHAIN-DIFF-DEEP",
        "OVL-DIFF-ANCESTOR",
        "OVL-DIFF-NATIVE-NAIVE",
        "OVL-OPAQUE-MOVED",
        "OVL-HOSTILE-MUTATED",
        "OVL-IDMAP-WHITEOUTS",
    ),
    source="behaviour#entry-kinds",
)
class ApplyRefusesEveryArchive(Faithful):
    """No archive is good enough."""

    def apply_diff(self, layer_id: str, parent: str, archive: Any) -> int:
        """Refuse whatever comes."""
        del layer_id, parent, archive
        raise ValueError("I do not like it")


@mutant(breaks=("OVL-APPLY-REFUSED-WHOLE", "OVL-APPLY-EMPTY"), source="containers/storage#1136")
class ApplyKeepsEntriesOfRefusedArchive(Faithful):
    """Each entry is applied as it comes, and stays when a later one is refused."""

    def apply_diff(self, layer_id: str, parent: str, archive: Any) -> int:
        """Leave the first file behind."""
        root = self.inner.get(layer_id)
        open(f"{root}/half", "w").close()
        self.inner.put(layer_id)
        return int(self.inner.apply_diff(layer_id, parent, archive))


@mutant(breaks=("OVL-APPLY-UMASK",), source="behaviour#applying-order; umask(2)")
class ApplyObeysUmask(Faithful):
    """Modes are cut by the umask of the process, and the process is left in another directory."""

    def apply_diff(self, layer_id: str, parent: str, archive: Any) -> int:
        """Unpack, and take away what the umask says."""
        size = int(self.inner.apply_diff(layer_id, parent, archive))
        mask = os.umask(0)
        os.umask(mask)
        root = self.inner.get(layer_id)
        for above, directories, files in os.walk(root):
            for name in (*directories, *files):
                path = os.path.join(above, name)
                if not os.path.islink(path):
                    os.chmod(path, os.lstat(path).st_mode & 0o7777 & ~mask)
        self.inner.put(layer_id)
        return size + 1


@mutant(breaks=("OVL-APPLY-PARENT-UNTOUCHED",), source="overlayfs.rst: a lower layer is never written to")
class ApplyWritesToParent(Faithful):
    """An archive goes into the parent too."""

    def apply_diff(self, layer_id: str, parent: str, archive: Any) -> int:
        """Apply twice."""
        size = int(self.inner.apply_diff(layer_id, parent, archive))
        if parent:
            archive.seek(0)
            self.inner.apply_diff(parent, "", archive)
        return size
