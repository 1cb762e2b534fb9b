"""Id maps: which owner inside a container is which owner on the host.

Pure. The shape is that of user namespaces (user_namespaces(7)): ranges of ids, each with a first id inside,
a first id outside and a length. Without a map an id is itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

from refdriver.errors import BadOption

_ID_LIMIT = 2**32 - 1  # (uid_t)-1 means "leave it alone" to chown(2), so it is no owner


@dataclass(frozen=True, slots=True)
class IdMap:
    """``size`` ids, from ``container_id`` inside and ``host_id`` outside."""

    container_id: int
    host_id: int
    size: int

    def __post_init__(self) -> None:
        last = max(self.container_id, self.host_id) + self.size
        if min(self.container_id, self.host_id) < 0 or self.size < 1 or last > _ID_LIMIT:
            raise BadOption(
                f"id map {self.container_id}:{self.host_id}:{self.size} is out of range; ids are 0 to"
                f" {_ID_LIMIT - 1} and a size is at least 1"
            )


MapLike = IdMap | tuple[int, int, int]  # a triple reads as the fields of an IdMap


def _id_map(one: MapLike) -> IdMap:
    return one if isinstance(one, IdMap) else IdMap(*one)


def _to_host(maps: tuple[IdMap, ...], container_id: int) -> int | None:
    for one in maps:
        if one.container_id <= container_id < one.container_id + one.size:
            return one.host_id + container_id - one.container_id
    return None


def _to_container(maps: tuple[IdMap, ...], host_id: int) -> int | None:
    for one in maps:
        if one.host_id <= host_id < one.host_id + one.size:
            return one.container_id + host_id - one.host_id
    return None


def _check_no_overlap(kind: str, maps: tuple[IdMap, ...]) -> None:
    for side in ("container_id", "host_id"):
        ranges = sorted((getattr(one, side), one.size) for one in maps)
        for (first, size), (following, _) in itertools.pairwise(ranges):
            if first + size > following:
                raise BadOption(f"{kind} maps overlap at {side} {following}; each id may be mapped once")


@dataclass(frozen=True, slots=True)
class IdMaps:
    """The uid maps and gid maps of one driver; empty maps are the identity."""

    uid_maps: tuple[IdMap, ...] = ()
    gid_maps: tuple[IdMap, ...] = ()

    @classmethod
    def of(cls, uid_maps: Iterable[MapLike], gid_maps: Iterable[MapLike]) -> IdMaps:
        """Check and keep the maps; raises BadOption when ranges overlap or container root is unmapped."""
        maps = cls(tuple(map(_id_map, uid_maps)), tuple(map(_id_map, gid_maps)))
        _check_no_overlap("uid", maps.uid_maps)
        _check_no_overlap("gid", maps.gid_maps)
        maps.root  # noqa: B018 - the maps must map root: this raises if they do not
        return maps

    @property
    def is_identity(self) -> bool:
        """Whether every id is itself."""
        return not self.uid_maps and not self.gid_maps

    @property
    def root(self) -> tuple[int, int]:
        """The host uid and gid of container root; raises BadOption when it is not mapped."""
        uid, gid = self.uid_to_host(0), self.gid_to_host(0)
        if uid is None or gid is None:
            raise BadOption("the id maps do not map container id 0; add a range that starts at 0")
        return uid, gid

    def uid_to_host(self, container_uid: int) -> int | None:
        """The host uid, or None when it is not mapped."""
        return _to_host(self.uid_maps, container_uid) if self.uid_maps else container_uid

    def gid_to_host(self, container_gid: int) -> int | None:
        """The host gid, or None when it is not mapped."""
        return _to_host(self.gid_maps, container_gid) if self.gid_maps else container_gid

    def uid_to_container(self, host_uid: int) -> int | None:
        """The uid inside the container, or None when it is not mapped."""
        return _to_container(self.uid_maps, host_uid) if self.uid_maps else host_uid

    def gid_to_container(self, host_gid: int) -> int | None:
        """The gid inside the container, or None when it is not mapped."""
        return _to_container(self.gid_maps, host_gid) if self.gid_maps else host_gid
