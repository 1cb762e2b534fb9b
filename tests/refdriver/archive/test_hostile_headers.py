"""Raw header fields that no library would write: an archive is kept whole, or refused by an error of the driver."""

from __future__ import annotations

import io
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from headers import END, Header, base256, extended, octal, pax, record
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refdriver import Driver, errors, trees
from refdriver.archive import tarformat
from refdriver.archive.reader import ArchiveReader
from refdriver.archive.unpack import Merged, Native, unpack
from refdriver.idmap import IdMaps
from refdriver.overlayxattr import TRUSTED

NUMBERS = (0, 1, 0o7777777, 0o7777777 + 1, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1, 2**32, 2**33)
WIDE = (*NUMBERS, 2**34, 9223372035, 9223372037, 2**62, 2**63 - 1, 2**63, 2**64, 2**90)
JUNK = (b"", b" ", b"-1", b"8", b"0x10", b"\xff", b"\x80", b"7 7", b"zzzz")


def numeric(width: int) -> st.SearchStrategy[bytes]:
    """A field of a header: octal, base-256 of either sign, or junk."""
    numbers = [number for number in WIDE if number < 1 << (8 * width - 2)]
    return st.one_of(
        st.sampled_from([octal(number, width) for number in numbers if number < 8 ** (width - 1)]),
        st.sampled_from([base256(number, width) for number in numbers]),
        st.sampled_from([base256(-number, width) for number in numbers]),
        st.sampled_from([junk.ljust(width, b"\0") for junk in JUNK]),
        st.binary(min_size=width, max_size=width),
    )


LENGTHS = (1, 2, 99, 100, 101, 154, 155, 156, 254, 255, 256, 259, 260, 1024, 4094, 4095, 4096, 4097, 70_000)
PLACES = (b"", b".", b"/", b"..", b"../outside", b"d", b"d/x", b"d/../..", b"s/x", b"x\0y", b".wh.x", b"d/.wh.x")
MARKS = (b".wh..wh..opq", b"d/.wh..wh..opq", b".wh.", b".wh..", b".wh.d/x", b".wh..wh.plnk/1", b".wh." + b"n" * 252)
places = st.one_of(
    st.sampled_from(PLACES + MARKS),
    st.sampled_from([b"n" * length for length in LENGTHS]),
    st.sampled_from([(b"d/" * length)[:length] for length in LENGTHS]),
    st.binary(max_size=12),
)
decimals = st.one_of(
    st.sampled_from([b"%d" % number for number in WIDE]),
    st.sampled_from([b"-%d" % number for number in WIDE]),
    st.sampled_from(
        (b"", b"1.5", b"-1.5", b"1.", b".5", b"1e9", b"nan", b"0x1", b" 1", b"1" * 30, b"\xd9\xa1", b"+1")
    ),
)
XATTRS = (b"user.a", b"user.", b"", b"a", b"user.a\0b", b"user." + b"n" * 250, b"user." + b"n" * 251)
OTHERS = (b"user.\xff", b"user.overlay.opaque", b"trusted.overlay.opaque", b"security.capability", b"system.x")
records = st.lists(
    st.one_of(
        st.tuples(st.sampled_from((b"uid", b"gid", b"size", b"mtime", b"atime", b"ctime")), decimals),
        st.tuples(st.sampled_from((b"path", b"linkpath", b"uname", b"gname", b"hdrcharset", b"comment")), places),
        st.tuples(
            st.sampled_from([b"SCHILY.xattr." + name for name in XATTRS + OTHERS]),
            st.sampled_from((b"", b"v", b"\0", b"v" * 65536, b"v" * 65537)),
        ),
        st.tuples(st.sampled_from((b"GNU.sparse.map", b"", b"\xff", b"a\0b", b"VENDOR.x")), decimals),
    ),
    max_size=2,
).map(tuple)
raw_headers = st.builds(
    Header,
    name=places,
    kind=st.sampled_from([bytes([kind]) for kind in b"0123456700\0xgLKSZ"]),
    mode=st.one_of(st.just(b"0000644\0"), numeric(8)),
    uid=st.one_of(st.just(b"0000000\0"), numeric(8)),
    gid=st.one_of(st.just(b"0000000\0"), numeric(8)),
    size=st.one_of(st.just(b"00000000000\0"), numeric(12)),
    mtime=st.one_of(st.just(b"00000000000\0"), numeric(12)),
    target=places,
    magic=st.sampled_from((b"ustar\x0000", b"ustar  \0", bytes(8))),
    major=st.one_of(st.just(b"0000000\0"), numeric(8)),
    minor=st.one_of(st.just(b"0000001\0"), numeric(8)),
    prefix=st.one_of(st.just(b""), places.map(lambda name: name[:155])),
    pax=records,
)


@pytest.fixture
def place(scratch: Path) -> Iterator[Path]:
    """Beside a file that nobody may touch."""
    (scratch / "outside").write_text("secret")
    before = os.lstat(scratch / "outside")
    yield scratch
    after = os.lstat(scratch / "outside")
    assert (before.st_mtime_ns, before.st_mode, before.st_nlink) == (
        after.st_mtime_ns,
        after.st_mode,
        after.st_nlink,
    )
    assert sorted(path.name for path in scratch.iterdir()) == ["outside"]


def unpacked(place: Path, data: bytes, *, native: bool) -> dict[bytes, os.stat_result]:
    """What an archive leaves in a layer that holds ``d/x`` and the symlink ``s``; raises the driver's errors."""
    layer = tempfile.mkdtemp(dir=place)
    try:
        os.mkdir(f"{layer}/d")
        Path(layer, "d", "x").touch()
        os.symlink("../outside", f"{layer}/s")
        unpack(io.BytesIO(data), layer, IdMaps(), Native(TRUSTED) if native else Merged())
        return {name: os.lstat(os.fsencode(layer) + b"/" + name) for name in os.listdir(os.fsencode(layer))}
    finally:
        trees.remove_tree(layer)


@pytest.mark.mounts
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(raw_headers, min_size=1, max_size=3), st.booleans())
def test_every_archive_is_unpacked_or_refused(place: Path, headers: list[Header], native: bool) -> None:
    data = b"".join(header.blocks() for header in headers) + END
    descriptors = len(os.listdir("/proc/self/fd"))
    with suppress(errors.DriverError):
        unpacked(place, data, native=native)
    assert len(os.listdir("/proc/self/fd")) == descriptors


DIRECTORY = Header(b"new", b"5", mode=b"0000755\0")
SYMLINK = Header(b"new", b"2", target=b"t")
XATTR = b"SCHILY.xattr."
REFUSED = {
    "uid of 2^32 - 1, no change to chown(2)": Header(uid=base256(2**32 - 1, 8)),
    "uid of 2^32": Header(uid=base256(2**32, 8)),
    "negative uid": Header(uid=base256(-1, 8)),
    "negative gid": Header(gid=base256(-5, 8)),
    "gid beyond 64 bits": Header(pax=((b"gid", b"99999999999999999999"),)),
    "time beyond 64 bits": Header(mtime=base256(2**63, 12)),
    "time of a directory beyond 64 bits": replace(DIRECTORY, mtime=base256(2**80, 12)),
    "negative time beyond 64 bits": replace(DIRECTORY, mtime=base256(-(2**63) - 1, 12)),
    "time of a record beyond 64 bits": Header(pax=((b"mtime", b"9999999999999999999.5"),)),
    "NUL in the name of an attribute": Header(pax=((XATTR + b"user.a\0b", b"v"),)),
    "attribute without a name": Header(pax=((XATTR + b"user.", b"v"),)),
    "name of an attribute of 256 bytes": Header(pax=((XATTR + b"user." + b"n" * 251, b"v"),)),
    "value of an attribute beyond 64 KiB": Header(pax=((XATTR + b"user.a", b"v" * 65537),)),
    "capability that is none": Header(pax=((XATTR + b"security.capability", b"v"),)),
    "symlink without a target": replace(SYMLINK, target=b""),
    "symlink to 4,096 bytes": replace(SYMLINK, pax=((b"linkpath", b"t" * 4096),)),
    "symlink to a megabyte": replace(SYMLINK, pax=((b"linkpath", b"t" * 900_000),)),
    "path of 4,200 bytes": replace(DIRECTORY, pax=((b"path", b"d/" * 2100),)),
    "path of 900,000 bytes": replace(DIRECTORY, pax=((b"path", b"d/" * 450_000),)),
    "whiteout at a path of 900,000 bytes": Header(pax=((b"path", b"d/" * 450_000 + b".wh.x"),)),
    "hard link to a path of 900,000 bytes": Header(kind=b"1", pax=((b"linkpath", b"d/" * 450_000),)),
    "entry below a whiteout": Header(b".wh.d/x"),
    "hard link to the root": Header(kind=b"1", target=b"/"),
    "negative device": Header(kind=b"3", major=base256(-1, 8)),
}


@pytest.mark.mounts
@pytest.mark.parametrize("native", [True, False], ids=["native", "merged"])
@pytest.mark.parametrize("what", REFUSED)
def test_what_no_filesystem_can_hold_is_refused(place: Path, what: str, native: bool) -> None:
    with pytest.raises(errors.BadArchive):
        unpacked(place, REFUSED[what].blocks() + END, native=native)


KEPT = {
    "year 2262 and later": (9223372037, 9223372037),
    "year 2286, the last of octal digits and later": (0o77777777777 + 1, 0o77777777777 + 1),
    "before 1970": (-5, -5),
}


@pytest.mark.mounts
@pytest.mark.parametrize("what", KEPT)
@pytest.mark.parametrize("kind", [b"0", b"5", b"2", b"6"])
@pytest.mark.parametrize("form", ["base-256", "PAX"])
def test_times_that_a_filesystem_can_hold_are_kept(what: str, kind: bytes, form: str) -> None:
    seconds, expected = KEPT[what]
    header = Header(b"new", kind, target=b"t" if kind == b"2" else b"")
    if form == "PAX":
        header = replace(header, pax=((b"mtime", b"%d" % seconds),))
    else:
        header = replace(header, mtime=base256(seconds, 12))
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory:  # tmpfs holds all times
        found = unpacked(Path(memory), header.blocks() + END, native=True)
    assert found[b"new"].st_mtime_ns // 10**9 == expected


@pytest.mark.mounts
def test_limits_themselves_are_kept(place: Path) -> None:
    headers = [
        Header(b"ids", uid=base256(2**32 - 2, 8), gid=base256(2**32 - 2, 8)),
        Header(b"link", b"2", pax=((b"linkpath", b"t" * 4095),)),
        Header(b"named", pax=((b"SCHILY.xattr.user." + b"n" * 250, b""),)),
        Header(b"empty records", pax=((b"uid", b""), (b"path", b""), (b"mtime", b""))),
    ]
    found = unpacked(place, b"".join(header.blocks() for header in headers) + END, native=True)
    assert found[b"ids"].st_uid == found[b"ids"].st_gid == 2**32 - 2
    assert found[b"link"].st_size == 4095
    assert stat.S_ISREG(found[b"named"].st_mode)
    assert b"empty records" in found


@pytest.mark.mounts
def test_a_refused_archive_leaves_the_layer_as_it_was(scratch: Path) -> None:
    with Driver(scratch / "home") as driver:
        driver.create("layer")
        Path(driver.get("layer"), "old").write_text("old")
        before = os.listdir(scratch / "home")
        for header in REFUSED.values():
            with pytest.raises(errors.BadArchive):
                driver.apply_diff("layer", "", io.BytesIO(Header(b"first").blocks() + header.blocks() + END))
            assert os.listdir(driver.get("layer")) == ["old"]
            assert os.listdir(scratch / "home") == before
        driver.cleanup()


class CountedBytes(bytes):
    """Counts how many bytes are copied out of it, and out of what was copied."""

    copied = 0

    def __getitem__(self, key: object) -> bytes | int:  # type: ignore[override]
        part = super().__getitem__(key)  # type: ignore[call-overload]
        if isinstance(part, int):  # one byte, which is no copy
            return part
        assert isinstance(part, bytes)
        CountedBytes.copied += len(part)
        return CountedBytes(part)

    def partition(self, separator: object) -> tuple[bytes, bytes, bytes]:
        CountedBytes.copied += len(self)
        return super().partition(separator)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [100, 10_000])
def test_records_are_decoded_in_linear_time(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CountedBytes, "copied", 0)
    body = CountedBytes(b"".join(record(b"VENDOR.%d" % number, b"") for number in range(count)))
    assert len(tarformat.decode_pax(body)) == count
    assert CountedBytes.copied < 3 * len(body)


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"])
def test_the_headers_of_an_entry_are_bounded_together(kind: bytes) -> None:
    one = extended(record(b"comment", b"c" * 300_000) if kind in b"xg" else b"n" * 300_000, kind)
    assert list(ArchiveReader(io.BytesIO(pax((b"a", b"b"), kind=b"g") + Header().blocks() + END)).members())
    with pytest.raises(errors.BadArchive, match="the most"):
        list(ArchiveReader(io.BytesIO(one * 4 + Header().blocks() + END)).members())


def test_the_bound_is_of_one_entry_and_not_of_the_archive() -> None:
    one = extended(record(b"comment", b"c" * 600_000)) + Header().blocks()
    assert len(list(ArchiveReader(io.BytesIO(one * 4 + END)).members())) == 4
