"""Headers, against the standard library's tarfile and GNU tar as other readers and writers."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refdriver.archive import tarformat
from refdriver.archive.reader import ArchiveReader
from refdriver.archive.tarformat import Member
from refdriver.errors import BadArchive

parts = st.binary(min_size=1, max_size=255).filter(
    lambda part: not {0, ord("/")} & set(part) and part not in (b".", b"..")
)
names = st.lists(parts, min_size=1, max_size=6).map(b"/".join)
KINDS = {
    tarformat.REGULAR: tarfile.REGTYPE,
    tarformat.SYMLINK: tarfile.SYMTYPE,
    tarformat.HARD_LINK: tarfile.LNKTYPE,
    tarformat.CHARACTER: tarfile.CHRTYPE,
    tarformat.BLOCK_DEVICE: tarfile.BLKTYPE,
    tarformat.FIFO: tarfile.FIFOTYPE,
}


@st.composite
def member_values(draw: st.DrawFn) -> Member:
    kind = draw(st.sampled_from(list(KINDS)))
    linked = kind in (tarformat.SYMLINK, tarformat.HARD_LINK)
    device = kind in (tarformat.CHARACTER, tarformat.BLOCK_DEVICE)
    return Member(
        draw(names),
        kind,
        draw(st.integers(0, 0o7777)),
        draw(st.integers(0, 2**32 - 2)),
        draw(st.integers(0, 2**32 - 2)),
        0,
        draw(st.integers(-(2**60), 2**62)),
        draw(names) if linked else b"",
        draw(st.sampled_from((b"", b"root", b"a name that is longer than 32 bytes"))),
        b"",
        draw(st.integers(0, 4095)) if device else 0,
        draw(st.integers(0, 1048575)) if device else 0,
        draw(
            st.dictionaries(
                st.sampled_from(("user.a", "user.\u00e9 b", "security.capability")),
                st.binary(max_size=600),
                max_size=2,
            )
        )
        if kind == tarformat.REGULAR
        else {},
    )


def archive_of(*members: Member) -> bytes:
    return b"".join(map(tarformat.encode, members)) + tarformat.END_OF_ARCHIVE


@given(member_values())
def test_what_is_written_is_read_back(member: Member) -> None:
    (read,) = ArchiveReader(io.BytesIO(archive_of(member))).members()
    assert read == member


@given(member_values())
def test_tarfile_reads_what_is_written(member: Member) -> None:
    with tarfile.open(fileobj=io.BytesIO(archive_of(member)), errors="surrogateescape") as archive:
        (read,) = archive.getmembers()
    assert os.fsencode(read.name) == member.name.rstrip(b"/")
    assert os.fsencode(read.linkname) == member.target
    assert read.type == KINDS[member.kind]
    assert (read.mode, read.uid, read.gid) == (member.mode, member.uid, member.gid)
    assert (read.devmajor, read.devminor) == (member.major, member.minor)
    assert abs(read.mtime - member.mtime / 10**9) <= abs(member.mtime) / 10**15 + 1e-6


@given(member_values(), st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
def test_what_tarfile_writes_is_read(member: Member, form: int) -> None:
    info = tarfile.TarInfo(os.fsdecode(member.name))
    info.type, info.linkname = KINDS[member.kind], os.fsdecode(member.target)
    info.mode, info.uid, info.gid = member.mode, member.uid, member.gid
    info.devmajor, info.devminor, info.mtime = member.major, member.minor, member.mtime // 10**9
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form, errors="surrogateescape") as archive:
        archive.addfile(info)
    (read,) = ArchiveReader(io.BytesIO(buffer.getvalue())).members()
    assert (read.name, read.kind, read.target) == (member.name, member.kind, member.target)
    assert (read.mode, read.uid, read.gid) == (member.mode, member.uid, member.gid)
    assert read.mtime == member.mtime // 10**9 * 10**9


def test_an_archive_of_gnu_tar_is_read(scratch: Path) -> None:
    (scratch / "tree" / ("d" * 200)).mkdir(parents=True)
    (scratch / "tree" / ("d" * 200) / ("f" * 200)).write_text("content")
    (scratch / "tree" / "link").symlink_to("t" * 150)
    for form in ("v7", "ustar", "gnu", "pax"):
        words = ["tar", "-C", str(scratch / "tree"), f"--format={form}", "-cf", "-", "."]
        data = subprocess.run(words, capture_output=True, check=False).stdout
        found = {member.name: member for member in ArchiveReader(io.BytesIO(data)).members()}
        if form in ("gnu", "pax"):
            assert b"./" + b"d" * 200 + b"/" + b"f" * 200 in found
            assert found[b"./link"].target == b"t" * 150


def test_gnu_tar_lists_what_is_written(scratch: Path) -> None:
    members = [
        Member(b"n" * 255, tarformat.REGULAR, 0o644),
        Member(b"d/" * 150 + b"x", tarformat.REGULAR, 0o600, mtime=1),
    ]
    (scratch / "a.tar").write_bytes(archive_of(*members))
    done = subprocess.run(["tar", "-tf", str(scratch / "a.tar")], capture_output=True, check=True)
    assert done.stdout.split() == [member.name for member in members]
    assert done.stderr == b""


@settings(max_examples=300)
@given(st.binary(max_size=3000))
def test_junk_is_refused(junk: bytes) -> None:
    with pytest.raises(BadArchive):
        list(ArchiveReader(io.BytesIO(b"x" + junk)).members())


@given(member_values(), st.integers(0, 511), st.integers(1, 255))
def test_a_changed_header_is_noticed(member: Member, place: int, by: int) -> None:
    member.xattrs, member.name, member.target, member.mtime = {}, member.name[:50], member.target[:50], 0
    member.uid = member.gid = 0
    member.uname = b""
    data = bytearray(archive_of(member))
    data[place] = (data[place] + by) % 256
    # The sum is all there is to notice it by, so a change of the sum's own padding may pass.
    if not 148 <= place < 156:
        with pytest.raises(BadArchive):
            list(ArchiveReader(io.BytesIO(bytes(data))).members())


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        (b"6 a=b\n", None),
        (b"7 a=b\n", "length"),
        (b"a=b\n", "length"),
        (b"6 a=bc", "length"),
        (b"99999999999 a=b\n", "length"),
        (b"4 a\n", "length"),
        (b"14 size=lots\n", "length"),
        (b"13 size=lots\n", "size"),
        (b"16 mtime=later\n\n", "time"),
        (b"15 mtime=later\n", "time"),
        (b"22 GNU.sparse.major=1\n", "sparse"),
        (b"13 path=a\0bc\n", "NUL"),
    ],
)
def test_pax_records_are_checked(body: bytes, wrong: str | None) -> None:
    header = tarformat.encode(Member(b"pax", tarformat.PAX_HEADER, 0o644, size=len(body)))
    data = header + body + bytes(tarformat.padding(len(body))) + archive_of(Member(b"x", tarformat.REGULAR))
    if wrong is None:
        assert len(list(ArchiveReader(io.BytesIO(data)).members())) == 1
    else:
        with pytest.raises(BadArchive, match=wrong):
            list(ArchiveReader(io.BytesIO(data)).members())


@pytest.mark.parametrize("kind", [b"S", b"M", b"V", b"D", b"N", b"Z"])
def test_types_that_a_layer_cannot_hold_are_named(kind: bytes) -> None:
    with pytest.raises(BadArchive, match="type"):
        list(ArchiveReader(io.BytesIO(archive_of(Member(b"x", kind)))).members())


def test_a_header_that_asks_for_much_memory_is_refused() -> None:
    for kind in (tarformat.PAX_HEADER, tarformat.GNU_LONG_NAME):
        with pytest.raises(BadArchive, match="the most that is read"):
            list(ArchiveReader(io.BytesIO(archive_of(Member(b"x", kind, size=2**32)))).members())


@given(values=st.lists(member_values(), min_size=1, max_size=4), data=st.data())
@settings(max_examples=60)
def test_each_byte_of_a_header_is_in_its_checksum(values: list[Member], data: st.DataObject) -> None:
    """The sum is that of Python's tarfile, unsigned and signed; one changed byte anywhere is noticed."""
    for member in values:
        block = tarformat.encode(member)[-tarformat.BLOCK :]
        unsigned, signed = tarfile.calc_chksums(block)  # type: ignore[attr-defined]  # not in its stubs
        assert int(block[148:155].rstrip(b"\0"), 8) == unsigned
        in_signed = block[:148] + b"%06o\0 " % (signed % 8**6) + block[156:]
        assert signed < 0 or tarformat.decode(in_signed) is not None
        place = data.draw(st.integers(0, 511).filter(lambda place: not 148 <= place < 156))
        other = data.draw(st.integers(1, 255))
        damaged = block[:place] + bytes([block[place] ^ other]) + block[place + 1 :]
        with pytest.raises(BadArchive):
            tarformat.decode(damaged)


def test_the_sum_of_the_largest_header_is_exact() -> None:
    assert tarformat._sum(b"\xff" * 512) == 512 * 255
