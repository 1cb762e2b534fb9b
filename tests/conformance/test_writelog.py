"""Logs of the target log-writes, made by hand in the kernel's form."""

from __future__ import annotations

import io
import struct

import pytest

from conformance.lab.writelog import DISCARD, FLUSH, FUA, MARK, BadLog, Entry, between_marks, read_log

SECTOR = 512


def entry(sector: int, data: bytes = b"", flags: int = 0, sectors: int | None = None) -> bytes:
    """An entry as it lies in a log."""
    count = len(data) // SECTOR if sectors is None else sectors
    return struct.pack("<QQQQ", sector, count, flags, 0).ljust(SECTOR, b"\0") + data


def mark(name: str) -> bytes:
    return (struct.pack("<QQQQ", 0, 0, MARK, len(name)) + name.encode()).ljust(SECTOR, b"\0")


def log(*entries: bytes, count: int | None = None, magic: int = 0x6A736677736872, version: int = 1) -> io.BytesIO:
    number = len(entries) if count is None else count
    return io.BytesIO(struct.pack("<QQQI", magic, version, number, SECTOR).ljust(SECTOR, b"\0") + b"".join(entries))


def test_entries_come_with_their_data_in_order() -> None:
    one, two = b"1" * SECTOR, b"2" * SECTOR * 3
    made = log(entry(7, one), entry(100, two, FUA), entry(0, flags=FLUSH))
    found = list(read_log(made))
    assert [(item.offset, item.size, item.flags) for item in found] == [
        (7 * SECTOR, SECTOR, 0),
        (100 * SECTOR, 3 * SECTOR, FUA),
        (0, 0, FLUSH),
    ]
    assert [made.getvalue()[item.data : item.data + item.size] for item in found] == [one, two, b""]
    assert [item.keeps for item in found] == [False, True, True]
    assert [item.writes for item in found] == [True, True, False]


def test_a_discard_has_no_data_behind_it() -> None:
    made = log(entry(5, flags=DISCARD, sectors=1000), entry(9, b"x" * SECTOR))
    discard, write = read_log(made)
    assert not discard.writes
    assert made.getvalue()[write.data : write.data + write.size] == b"x" * SECTOR


def test_what_lies_between_two_marks() -> None:
    found = list(read_log(log(entry(1, b"a" * SECTOR), mark("safe"), entry(2, flags=FLUSH), mark("settled"))))
    assert [item.mark for item in found] == ["", "safe", "", "settled"]
    assert between_marks(found, "safe", "settled") == range(2, 4)
    with pytest.raises(BadLog, match="'nowhere'"):
        between_marks(found, "safe", "nowhere")


def test_entries_beyond_the_count_are_not_read() -> None:
    assert len(list(read_log(log(mark("a"), mark("b"), count=1)))) == 1


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (log(magic=1), "magic 0x1"),
        (log(version=2), "version 2"),
        (log(mark("a"), count=2), "ends at"),
        (io.BytesIO(b""), "ends at 0"),
        (log(struct.pack("<QQQQ", 0, 0, MARK, SECTOR).ljust(SECTOR, b"\0")), "a mark of 512 bytes"),
    ],
    ids=["magic", "version", "cut", "empty", "long mark"],
)
def test_what_is_no_log_is_refused(made: io.BytesIO, said: str) -> None:
    with pytest.raises(BadLog, match=said):
        list(read_log(made))


def test_a_log_of_large_sectors() -> None:
    data = struct.pack("<QQQI", 0x6A736677736872, 1, 1, 4096).ljust(4096, b"\0")
    data += struct.pack("<QQQQ", 3, 2, 0, 0).ljust(4096, b"\0") + b"z" * 8192
    assert list(read_log(io.BytesIO(data))) == [Entry(3 * 4096, 8192, 0, 8192)]
