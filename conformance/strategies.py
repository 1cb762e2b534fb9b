"""Operations and chains of layers for hypothesis, made to collide and to shrink.

Every operation is drawn on its own from small pools; what makes no sense in its place fails with an errno,
which the model knows, so nothing has to be filtered and any part of a chain can be left out when it shrinks.
Names collide on purpose: what is a file in one layer is a directory in the next, and back.
"""

from __future__ import annotations

from typing import Final

from hypothesis import strategies as st

from conformance import ops

_LONG: Final = b"n" * 255
PATHS: Final = (
    b"a",
    b"b",
    b"d",
    b"d/a",
    b"d/b",
    b"d/d",
    b"d/d/a",
    b"e",
    b"e/a",
    b"d-",
    b"new\nline \\",
    b"\xff\xfe",
    b"d/" + _LONG,
)
_CONTENTS: Final = (b"", b"x", b"y", b"xy", b"z" * 5000)
_MODES: Final = (0o644, 0o600, 0o755, 0o4755, 0o2711, 0o1777, 0)
_TIMES: Final = (0, 1, 10**9, 1_400_000_000_123_456_789, 1_400_000_000_999_999_999, 4_000_000_000 * 10**9)
# vfs_cap_data, revision 2 (capabilities(7)): cap_net_bind_service permitted and effective
CAPABILITY: Final = bytes.fromhex("0100000200040000000000000000000000000000")

STANDARD: Final[tuple[ops.Operation, ...]] = (
    ops.CreateFile(b"a", b"a in the base", 0o644),
    ops.MakeDirectory(b"d", 0o755),
    ops.CreateFile(b"d/a", b"d/a in the base", 0o644),
    ops.MakeDirectory(b"d/d", 0o2755),
    ops.CreateFile(b"d/d/a", b"d/d/a in the base", 0o600),
    ops.MakeDirectory(b"e", 0o1777),
    ops.MakeSymlink(b"b", b"d"),
)


def operations(*, privileged: bool) -> st.SearchStrategy[ops.Operation]:
    """One operation; devices, foreign owners and capabilities only for real root."""
    paths = st.sampled_from(PATHS)
    modes = st.sampled_from(_MODES)
    contents = st.sampled_from(_CONTENTS)
    targets = st.sampled_from((b"a", b"d", b"../a", b"/d/a", b"missing", b"t" * 200))
    kinds: list[st.SearchStrategy[ops.Operation]] = [
        st.builds(ops.CreateFile, paths, contents, modes),
        st.builds(ops.MakeDirectory, paths, modes),
        st.builds(ops.RemoveTree, paths),
        st.builds(ops.Rename, paths, paths),
        st.builds(ops.MakeHardLink, paths, paths),
        # Most pairs of paths make no link; these mostly do, and links are worth having.
        st.builds(ops.MakeHardLink, st.sampled_from((b"hard", b"e/hard")), st.sampled_from((b"a", b"d/a", b"b"))),
        st.builds(ops.MakeSymlink, paths, targets),
        st.builds(ops.WriteAt, paths, st.sampled_from((0, 1, 6000, 100_000)), st.sampled_from((b"w", b"ww"))),
        st.builds(ops.Truncate, paths, st.sampled_from((0, 1, 9000))),
        st.builds(ops.Chmod, paths, modes),
        st.builds(ops.SetTimes, paths, st.sampled_from(_TIMES)),
        st.builds(ops.SetXattr, paths, st.just("user.colour"), st.sampled_from((b"", b"red", b"\xff\0" * 100))),
        st.builds(ops.Unlink, paths),
        st.builds(ops.RemoveDirectory, paths),
        st.builds(ops.MakeFifo, paths, modes),
    ]
    if privileged:
        numbers = st.sampled_from(((1, 3), (0, 1), (5, 300), (4095, 1048575)))
        devices = st.builds(
            lambda path, kind, number, mode: ops.MakeDevice(path, kind, number[0], number[1], mode),
            paths,
            st.sampled_from((ops.CHARACTER, ops.BLOCK)),
            numbers,
            modes,
        )
        owners = st.sampled_from(((0, 7), (1000, 1000), (2**31, 5)))
        kinds += [
            devices,
            st.builds(lambda path, owner: ops.Chown(path, *owner), paths, owners),
            st.builds(ops.SetXattr, paths, st.just("security.capability"), st.just(CAPABILITY)),
        ]
    return st.one_of(kinds)


def layers(*, privileged: bool) -> st.SearchStrategy[tuple[ops.Operation, ...]]:
    """What is done in one layer."""
    return st.lists(operations(privileged=privileged), max_size=8).map(tuple)


def chains(*, privileged: bool, least: int = 1) -> st.SearchStrategy[list[tuple[ops.Operation, ...]]]:
    """A chain of layers; the base is mostly filled, so that there is something to change."""
    base = st.one_of(st.just(STANDARD), layers(privileged=privileged))
    above = st.lists(layers(privileged=privileged), min_size=least - 1, max_size=3)
    return st.builds(lambda first, rest: [first, *rest], base, above)
