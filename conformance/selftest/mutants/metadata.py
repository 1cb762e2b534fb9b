"""Mutants of file metadata and names."""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
import unicodedata
from collections.abc import Iterator
from typing import IO, Any, Final

from conformance.selftest.mutants.basis import Faithful
from conformance.selftest.mutants.mutant import mutant
from conformance.selftest.mutants.rewriting import RewritingWrapper, lowers_of, rewritten


@mutant(breaks=("OVL-META-SPECIAL-BITS", "OVL-META-OWNERS-AND-BITS"), source="containers/fuse-overlayfs@v0.6")
class DiffOmitsSpecialBits(RewritingWrapper):
    """No setuid, setgid or sticky."""

    def changed(self, member: tarfile.TarInfo) -> tarfile.TarInfo:
        """Clear them."""
        member.mode &= 0o777
        return member


@mutant(breaks=("OVL-META-MODES",), source="behaviour#entry-metadata")
class DiffOmitsModes(RewritingWrapper):
    """Everything is readable by everybody."""

    def changed(self, member: tarfile.TarInfo) -> tarfile.TarInfo:
        """Add rights to read."""
        member.mode |= 0o444
        return member


@mutant(breaks=("OVL-META-OWNERS",), source="moby/moby#20240")
class DiffOmitsOwners(RewritingWrapper):
    """Everything is root's."""

    def changed(self, member: tarfile.TarInfo) -> tarfile.TarInfo:
        """Clear the owner."""
        member.uid = member.gid = 0
        return member


@mutant(
    breaks=(
        "OVL-META-XATTRS",
        "OVL-META-XATTRS-LARGE",
        "OVL-META-CAPABILITY",
        "OVL-OPAQUE-METADATA",
        "OVL-TREE-COPY-UP",
    ),
    source="containers/storage#217",
)
class DiffOmitsXattrs(RewritingWrapper):
    """No attribute comes along, capabilities included."""

    def changed(self, member: tarfile.TarInfo) -> tarfile.TarInfo:
        """Drop the records of attributes."""
        kept = {key: value for key, value in member.pax_headers.items() if not key.startswith("SCHILY.xattr.")}
        member.pax_headers = kept
        return member


@mutant(
    breaks=("OVL-META-TIMES", "OVL-META-TIMES-DOWN", "OVL-META-TIMES-FINE"),
    source="behaviour#pax-extensions; boundary: 32 bits of seconds",
)
class DiffClampsTimes(RewritingWrapper):
    """Times begin in 1970 and end in 2038, and have no fraction; halves are rounded up."""

    def changed(self, member: tarfile.TarInfo) -> tarfile.TarInfo:
        """Round and clip."""
        member.pax_headers = {key: value for key, value in member.pax_headers.items() if key != "mtime"}
        member.mtime = min(int(member.mtime + 0.5), 2**31 - 1)
        return member


@mutant(
    breaks=("OVL-META-DEVICES", "OVL-META-FIFOS", "OVL-TREE-KINDS-CHANGE"), source="containerd/containerd@0205398ac"
)
class DiffOmitsDevices(RewritingWrapper):
    """Devices and pipes are left out."""

    def changed(self, member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        """Keep the rest."""
        return None if member.isdev() else member


@mutant(breaks=("OVL-META-DIRECTORIES",), source="behaviour#entry-kinds: a directory is an entry of its own")
class DiffOmitsEmptyDirectories(RewritingWrapper):
    """Directories come only with what they hold."""

    def changed(self, member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        """Keep the rest."""
        return None if member.isdir() else member


@mutant(breaks=("OVL-META-HOLES", "OVL-DIFF-COPY-UP-DATA"), source="containers/storage#640")
class DiffOmitsDataOfLargeFiles(RewritingWrapper):
    """Large files are empty, as when a copy-up of metadata alone is taken for all of a file."""

    def changed(self, member: tarfile.TarInfo) -> tarfile.TarInfo:
        """Cut them."""
        if member.isreg() and member.size > 60_000:
            member.size = 0
        return member


@mutant(
    breaks=("OVL-NAMES-255", "OVL-NAMES-LONG-PATHS", "OVL-WHITEOUT-LONG-NAME"),
    source="boundary: 255 bytes of a name, 100 and 155 of a ustar header",
)
class DiffOmitsLongNames(RewritingWrapper):
    """Names of more than 200 bytes, and paths and targets of more than 155, are left out."""

    def changed(self, member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        """Keep the rest."""
        longest = max(map(len, member.name.split("/")))
        return None if longest > 200 or len(member.name) > 155 or len(member.linkname) > 155 else member


@mutant(
    breaks=("OVL-NAMES-BYTES", "OVL-NAMES-UTF8", "OVL-NAMES-CONTROL", "OVL-NAMES-CASE", "OVL-NAMES-ORDER"),
    source="behaviour#names: bytes without NUL and '/'",
)
class DiffManglesOddNames(RewritingWrapper):
    """Bytes that are no UTF-8 become question marks; other names are normalised and put in lower case."""

    def changed(self, member: tarfile.TarInfo) -> tarfile.TarInfo:
        """Make names what somebody thinks that they should be."""
        name = os.fsencode(member.name).decode("utf-8", "replace")
        member.name = unicodedata.normalize("NFC", name).lower().replace("\n", " ").replace("d-", "d/")
        return member


@mutant(
    breaks=("OVL-NAMES-WHITEOUT-PREFIX",),
    source="image-spec/layer.md#whiteouts: names that begin with .wh. are reserved",
)
class DiffKeepsReservedNames(RewritingWrapper):
    """A file of a layer that is called like a whiteout goes into the archive as it is."""

    def diff(self, layer_id: str, parent: str = "") -> Any:
        """As somebody who does not look at names."""
        try:
            return super().diff(layer_id, parent)
        except Exception as error:
            if ".wh." not in str(error):
                raise
        target = io.BytesIO()
        upper = self.inner.metadata(layer_id)["UpperDir"]
        with tarfile.open(fileobj=target, mode="w") as tar, contextlib.chdir(upper):
            tar.add(".")
        return io.BytesIO(target.getvalue())


@mutant(breaks=("OVL-NAMES-HOME",), source="moby/moby#40939")
class HomeWithColonIsRefused(Faithful):
    """A colon in the path of the home ends it."""

    def get(self, layer_id: str) -> str:
        """Refuse such homes."""
        if ":" in self.home:
            raise OSError(22, "Invalid argument")
        return str(self.inner.get(layer_id))


_CAPABILITY: Final = "security.capability"


@mutant(breaks=("OVL-META-CAPABILITY",), source="containers/buildah#3294: copied up", hard=True)
class DiffOmitsCapabilitiesOfLowers(Faithful):
    """What was copied up comes without the capability that it has in the layer below."""

    def diff(self, layer_id: str, parent: str = "") -> IO[bytes]:
        """Leave out what the layer did not set itself."""
        lowers = lowers_of(self, layer_id)
        record = f"SCHILY.xattr.{_CAPABILITY}"

        def bare(member: tarfile.TarInfo) -> Iterator[tarfile.TarInfo]:
            if record in member.pax_headers and any(os.path.isfile(f"{one}/{member.name}") for one in lowers):
                member.pax_headers = {key: value for key, value in member.pax_headers.items() if key != record}
            yield member

        with self.inner.diff(layer_id, parent) as stream:
            return rewritten(stream, bare)


@mutant(breaks=("OVL-META-OWNERS",), source="boundary: a uid and a gid that differ", hard=True)
class DiffTakesLargeUidsForGids(RewritingWrapper):
    """A gid beyond the digits of a header becomes the uid of the entry."""

    def changed(self, member: tarfile.TarInfo) -> tarfile.TarInfo:
        """Take the wrong one."""
        if member.gid > 2**31:
            member.gid = member.uid
            member.pax_headers = {key: value for key, value in member.pax_headers.items() if key != "gid"}
        return member


@mutant(breaks=("OVL-META-SPECIAL-BITS",), source="containers/fuse-overlayfs@v0.6: of directories", hard=True)
class DiffOmitsSetuidOfDirectories(RewritingWrapper):
    """Setuid of a directory, which means nothing on Linux, is left out."""

    def changed(self, member: tarfile.TarInfo) -> tarfile.TarInfo:
        """Clear it."""
        member.mode &= 0o3777 if member.isdir() else 0o7777
        return member


@mutant(breaks=("OVL-META-XATTRS",), source="behaviour#overlay-xattrs: a prefix ends with a dot", hard=True)
class DiffOmitsXattrsLikeOverlays(RewritingWrapper):
    """Attributes whose names begin like those of overlay are taken for its own."""

    def changed(self, member: tarfile.TarInfo) -> tarfile.TarInfo:
        """Drop them."""
        own = "SCHILY.xattr.user.overlay"
        member.pax_headers = {key: value for key, value in member.pax_headers.items() if not key.startswith(own)}
        return member


@mutant(breaks=("OVL-META-CAPABILITY",), source="capabilities(7): revision 3 has four bytes more", hard=True)
class DiffCutsCapabilities(RewritingWrapper):
    """A capability has the size of revision 2."""

    def changed(self, member: tarfile.TarInfo) -> tarfile.TarInfo:
        """Drop what is longer."""
        key = f"SCHILY.xattr.{_CAPABILITY}"
        if len(member.pax_headers.get(key, "").encode("utf-8", "surrogateescape")) > 20:
            member.pax_headers = {name: value for name, value in member.pax_headers.items() if name != key}
        return member


@mutant(breaks=("OVL-META-DEVICES",), source="makedev(3): a minor number has 20 bits", hard=True)
class DiffCutsMinorNumbers(RewritingWrapper):
    """A minor number has 16 bits."""

    def changed(self, member: tarfile.TarInfo) -> tarfile.TarInfo:
        """Cut it."""
        member.devminor &= 0xFFFF
        return member


@mutant(breaks=("OVL-META-TIMES-EARLY",), source="behaviour#early-times: the epoch instead")
class DiffSetsEpochForEarlyTimes(RewritingWrapper):
    """A time before 1970 is the epoch."""

    def changed(self, member: tarfile.TarInfo) -> tarfile.TarInfo:
        """Round it up, and out of the record."""
        if float(member.pax_headers.get("mtime", member.mtime)) < 0:
            member.pax_headers = {key: value for key, value in member.pax_headers.items() if key != "mtime"}
            member.mtime = 0
        return member
