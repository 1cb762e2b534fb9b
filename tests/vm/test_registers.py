"""The library for kernels of user-mode Linux that do not know all registers of a processor."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vm import registers

AMX = "flags\t\t: fpu avx512f amx_bf16 avx512_fp16 amx_tile amx_int8\n"
TRACEME, PEEKUSER, GETREGSET, SETREGSET, XSTATE = 0, 3, 0x4204, 0x4205, 0x202
LEGACY = (
    576  # bytes of the registers that every processor has, and of the header; bytes 160 to 416 are xmm0 to xmm15
)
XMM = slice(160, 416)


@pytest.fixture
def cpuinfo(tmp_path: Path) -> Path:
    path = tmp_path / "cpuinfo"
    path.write_text(AMX)
    return path


@pytest.mark.parametrize(
    ("release", "wanted"), [("5.10.5", True), ("6.12.74", True), ("6.13", False), ("7.2.12", False)]
)
def test_kernels_before_6_13_need_it(cpuinfo: Path, release: str, wanted: bool) -> None:
    assert registers.needed(release, cpuinfo=cpuinfo) is wanted


def test_processors_without_amx_do_not(cpuinfo: Path) -> None:
    cpuinfo.write_text(AMX.replace("amx_tile ", ""))
    assert not registers.needed("6.1.0", cpuinfo=cpuinfo)


class Part(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("start", ctypes.c_void_p), ("length", ctypes.c_size_t))


@contextmanager
def traced() -> Iterator[int]:
    """A process that is stopped, and traced by this one."""
    process = os.fork()
    if process == 0:
        ctypes.CDLL(None).ptrace(TRACEME, 0, 0, 0)
        os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(1)
    try:
        os.waitpid(process, 0)
        yield process
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


def ask(library: ctypes.CDLL, request: int, process: int, address: int, data: object) -> int:
    library.ptrace.restype = ctypes.c_long
    answer = library.ptrace(ctypes.c_long(request), process, ctypes.c_long(address), data)
    assert isinstance(answer, int)
    return answer


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_the_library_of_a_root_sets_a_part_of_the_registers(tmp_path: Path, cpuinfo: Path) -> None:
    (tmp_path / "lib").mkdir()
    registers.complete(tmp_path, "6.1.0", cpuinfo=cpuinfo)
    name = (tmp_path / "etc/ld.so.preload").read_text().strip()
    library = ctypes.CDLL(f"{tmp_path}{name}")
    held = bytearray(LEGACY)
    part = ctypes.byref(Part(ctypes.addressof(ctypes.c_char.from_buffer(held)), LEGACY))
    with traced() as process:
        assert ask(library, GETREGSET, process, XSTATE, part) == 0
        held[XMM] = bytes(range(256))
        held[512] = 3  # the header: x87 and SSE are in use
        assert ask(library, SETREGSET, process, XSTATE, part) == 0
        held[XMM] = bytes(256)
        assert ask(library, GETREGSET, process, XSTATE, part) == 0
        assert held[XMM] == bytes(range(256))
        assert ask(library, PEEKUSER, process, 15 * 8, None) == 62  # orig_rax: the number of kill(2)
    assert ask(library, GETREGSET, process, XSTATE, part) == -1


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_a_root_that_needs_none_stays_as_it_is(tmp_path: Path, cpuinfo: Path) -> None:
    registers.complete(tmp_path, "7.2.12", cpuinfo=cpuinfo)
    assert [path.name for path in tmp_path.iterdir()] == ["cpuinfo"]
