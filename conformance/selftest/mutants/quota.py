"""Mutants of limits: ids, numbers and moments of project quota."""

from __future__ import annotations

import contextlib
import math
import os
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from conformance.selftest.mutants.basis import Faithful, Patched
from conformance.selftest.mutants.fault import Fault

_BLOCK: Final = 4096
_CLAIM: Final = "quota:ProjectQuota._claim"


class LimitsInThousands(Patched):
    """A kilobyte has 1000 bytes."""

    place = "options:parse_size"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Take 2.4 per cent off for each power."""
        unit = re.search("[kmgtp]", args[0].lower())
        power = " kmgtp".index(unit[0]) if unit else 0
        return int(original(*args, **kwargs) * (1000 / 1024) ** power)


class RoundsFractionsUp(Patched):
    """1.5 G is 2 G."""

    place = "options:parse_size"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Read another number."""
        return original(re.sub(r"[0-9]+\.[0-9]+", lambda found: str(math.ceil(float(found[0]))), args[0]), **kwargs)


class TakesAnySize(Patched):
    """What is no size is none."""

    place = "options:parse_size"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Hide the refusal."""
        try:
            return original(*args, **kwargs)
        except Exception:
            return 0


class TakesNothingForUnsaid(Faithful):
    """A size of 0 is taken for no word about a size."""

    def create_read_write(self, layer_id: str, parent: str = "", options: dict[str, str] | None = None) -> None:
        """Leave it out."""
        said = {key: value for key, value in (options or {}).items() if value.strip("0. bBgG")}
        self.inner.create_read_write(layer_id, parent, said)


class LimitsSoftly(Patched):
    """The limit is a soft one: it may be passed for a week."""

    place = "linux.projectquota:pack_limit"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Leave the hard limit out (struct fs_disk_quota)."""
        data = original(*args, **kwargs)
        return bytes(data[:8] + bytes(8) + data[16:])


class WarnsAtHalf(Patched):
    """The soft limit is half of the hard one, and the filesystem tells the soft one."""

    place = "linux.projectquota:pack_limit"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Set the soft limit apart."""
        project, limit = args
        whole = original(*args, **kwargs)
        return bytes(whole[:16] + original(project, limit // 2)[16:24] + whole[24:])


class StopsABlockEarly(Patched):
    """A size is rounded down once too often."""

    place = "linux.projectquota:pack_limit"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """One block less."""
        project, limit = args
        return original(project, max(0, limit - _BLOCK), **kwargs)


class StopsABlockLate(Patched):
    """A size is rounded up once too often."""

    place = "linux.projectquota:pack_limit"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """One block more."""
        project, limit = args
        return original(project, limit + _BLOCK if limit else 0, **kwargs)


class KeepsAReserve(Patched):
    """A twentieth of each layer is kept for bad days."""

    place = "linux.projectquota:pack_limit"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Less."""
        project, limit = args
        return original(project, limit - limit // 20, **kwargs)


class PassesNothingOn(Patched):
    """The layer's directory is of a project, and what is made in it is not."""

    place = "linux.projectquota:set_project"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Without FS_XFLAG_PROJINHERIT."""
        fd, project = args
        return original(fd, type(project)(project.number, inherit=False), **kwargs)


class PrefersItsDefault(Faithful):
    """Where the driver has a size, that of a layer is not looked at."""

    def __init__(self, home: str, **asked: Any) -> None:
        super().__init__(home, **asked)
        self.limited = any("size=" in word for word in asked.get("options", ()))

    def create_read_write(self, layer_id: str, parent: str = "", options: dict[str, str] | None = None) -> None:
        """Leave it out."""
        self.inner.create_read_write(layer_id, parent, {} if self.limited else options)


class LimitsImages(Faithful):
    """Layers of images get the driver's size too."""

    def create(self, layer_id: str, parent: str = "") -> None:
        """As a container's."""
        self.inner.create_read_write(layer_id, parent, {})


class CountsLowers(Patched):
    """What is in the home already is taken off the size of a new layer."""

    place = "quota:ProjectQuota.limit"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Add up the files of all layers."""
        quota, directory, size = args
        files = Path(quota._home).glob("*/diff/*")
        held = sum(path.lstat().st_size for path in files if path.is_file())
        return original(quota, directory, max(size - held, _BLOCK * 64) if size else 0, **kwargs)


def put_into(quota: Any, directory: str, number: int) -> int:
    """Put a directory into a project, whoever has it; its number."""
    module = sys.modules[type(quota).__module__]
    module._put_into(directory, module.ProjectId(number, inherit=True))
    return number


def base_of(quota: Any) -> int:
    """The home's own project id."""
    return int(sys.modules[type(quota).__module__]._project_of(quota._home).number)


class OneProjectForAll(Patched):
    """All layers with a limit are one project."""

    place = _CLAIM

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Find it, or make it the first time."""
        quota, directory = args
        found = max(quota._ids_in_use(), default=0)
        return put_into(quota, directory, found) if found else original(quota, directory, **kwargs)


class NumbersByCount(Patched):
    """The id of a project is how many there are, and one; a removal makes it that of another layer."""

    place = _CLAIM

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Count."""
        del original, kwargs
        quota, directory = args
        base = base_of(quota)
        return put_into(quota, directory, base + 1 + sum(number > base for number in quota._ids_in_use()))


class BeginsAnew(Patched):
    """Ids are counted in memory, and begin anew when the home is opened again."""

    place = _CLAIM

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Count up from the home's own."""
        del original, kwargs
        quota, directory = args
        quota.given = getattr(quota, "given", base_of(quota)) + 1
        return put_into(quota, directory, quota.given)


class LooksOnce(Patched):
    """Ids in use are looked for when the home is opened, and then each process counts for itself."""

    place = _CLAIM

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The first claim is that of the opening."""
        del original, kwargs
        quota, directory = args
        last = getattr(quota, "given", None)
        quota.given = max([base_of(quota), *quota._ids_in_use()]) + 1 if last is None else last + 1
        return put_into(quota, directory, quota.given)


class KnowsOneHome(Patched):
    """An id that no layer of this home has is free."""

    place = _CLAIM

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The next one."""
        del original, kwargs
        quota, directory = args
        return put_into(quota, directory, max([base_of(quota), *quota._ids_in_use()]) + 1)


class TriesAUsedId(Patched):
    """Whether limits work is tried when the home is opened, on the last layer's project."""

    place = "quota:ProjectQuota._try"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Set its limit to nothing."""
        del original, kwargs
        quota = args[0]
        quota._records.set_limit(quota._device, max(1, *quota._ids_in_use()), 0)


class IgnoresBase(Patched):
    """Ids begin with 1, whatever project the home is of."""

    place = "quota:next_project_id"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Leave out the home's own."""
        base, in_use = args
        found: Iterable[int] = [number for number in in_use if number != base]
        return original(0, iter(found), **kwargs)


class MovesAsItIs(Patched):
    """A layer is moved into the home without a thought for what project the home passes on."""

    place = "quota:ProjectQuota.move_in"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """rename(2) and no more."""
        del original, kwargs
        os.rename(*args[1:])


class KeepsOldSizes(Faithful):
    """The size that an id had once is that of all later layers of the id."""

    def create_read_write(self, layer_id: str, parent: str = "", options: dict[str, str] | None = None) -> None:
        """Look it up."""
        self.sizes = getattr(self, "sizes", {})
        self.inner.create_read_write(layer_id, parent, self.sizes.setdefault(layer_id, options))


class LimitsOnce(Faithful):
    """An id that had a limit is thought to have it still."""

    def create_read_write(self, layer_id: str, parent: str = "", options: dict[str, str] | None = None) -> None:
        """Set none the second time."""
        self.known: set[str] = getattr(self, "known", set())
        if layer_id in self.known:
            self.inner.create(layer_id, parent)
        else:
            self.inner.create_read_write(layer_id, parent, options)
        self.known.add(layer_id)


class KeepsWhatWasRemoved(Faithful):
    """Files of layers that were removed stay under other names."""

    def remove(self, layer_id: str) -> None:
        """Link them first."""
        os.makedirs(f"{self.home}/.kept", 0o700, exist_ok=True)
        for path in Path(self.home, layer_id, "diff").iterdir():
            with contextlib.suppress(OSError):
                os.link(path, f"{self.home}/.kept/{os.urandom(8).hex()}")
        self.inner.remove(layer_id)


class ClearsNothing(Patched):
    """The limit of a project stays when its layer is removed."""

    place = "quota:ProjectQuota.release"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Do nothing."""


class WantsAWorkDirectory(Patched):
    """A full layer cannot be mounted: overlay has made no work directory, which mapped root should get."""

    place = "layermounts:LayerMounts._mount_overlay"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Undo the mount, and complain."""
        original(*args, **kwargs)
        mounts, request = args
        if request.work and not os.path.isdir(f"{request.work}/work"):
            sys.modules[type(mounts).__module__].libc.umount(request.target, 2)
            raise FileNotFoundError(f"{request.work}/work")


class OpensWhenIdle(Faithful):
    """A home is not opened while a layer of it is mounted."""

    def __init__(self, home: str, **asked: Any) -> None:
        if any(os.path.ismount(path) for path in Path(home).glob("*/merged")):
            raise ValueError("the home is busy")
        super().__init__(home, **asked)


class TrustsItsNode(Patched):
    """A device node that is there is the right one."""

    place = "quota:ProjectQuota._make_device_node"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Make it only where there is none."""
        if not os.path.lexists(args[0]._device):
            original(*args, **kwargs)


class OpensWithoutQuota(Patched):
    """A size is forgotten where quota does not work."""

    place = "driver:Driver._open_quota"

    @staticmethod
    def wrong(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Hide the refusal."""
        try:
            return original(*args, **kwargs)
        except Exception:
            return None


def _fault(driver: type[Any], source: str, *breaks: str, hard: bool = False) -> Fault:
    """One that shows on xfs with project quota only."""
    ids = tuple(f"OVL-QUOTA-{one}" for one in breaks)
    return Fault(driver, ids, source, backing="xfs", hard=hard, needs="xfs-quota")


FAULTS: Final = (
    _fault(LimitsInThousands, "boundary: units of 1000 and 1024", "SIZE-DRIVER", "SIZE-LAYER"),
    _fault(RoundsFractionsUp, "boundary: a fraction is cut", "SIZE-LAYER", "SIZE-DRIVER"),
    _fault(TakesAnySize, "boundary: what is a size", "SIZE-FORM"),
    _fault(TakesNothingForUnsaid, "boundary: a size of 0", "SIZE-ZERO"),
    _fault(LimitsSoftly, "field-bugs#quota-test", "ENFORCED"),
    _fault(StopsABlockEarly, "boundary: one block", "ENFORCED", "BELOW"),
    _fault(StopsABlockLate, "boundary: one block", "ENFORCED"),
    _fault(PassesNothingOn, "field-bugs#quota-test", "ENFORCED"),
    _fault(KeepsAReserve, "boundary: what fits", "BELOW"),
    _fault(WarnsAtHalf, "boundary: soft and hard limits", "STATFS"),
    _fault(PrefersItsDefault, "moby/moby#34701", "DEFAULT"),
    _fault(LimitsImages, "containers/storage@3ccd3208d", "IMAGES"),
    _fault(CountsLowers, "boundary: what counts", "LOWERS"),
    _fault(OneProjectForAll, "behaviour#quota-project-ids; moby/moby@31ed121cb8", "OWN", "IDS"),
    _fault(BeginsAnew, "behaviour#quota-project-ids; containers/storage@ffeddaae9", "REOPEN", "IDS"),
    _fault(
        TriesAUsedId, "behaviour#quota-project-ids: the test limit of an opening, on an id that is in use", "REOPEN"
    ),
    _fault(NumbersByCount, "behaviour#quota-project-ids; moby/moby@31ed121cb8", "IDS", hard=True),
    _fault(LooksOnce, "behaviour#quota-project-ids; containers/storage@ffeddaae9", "PROCESSES", hard=True),
    _fault(KnowsOneHome, "behaviour#quota-project-ids; containers/storage@ffeddaae9", "HOMES"),
    _fault(IgnoresBase, "behaviour#quota-project-ids; moby/moby@31ed121cb8", "BASE"),
    _fault(MovesAsItIs, "behaviour#quota-project-ids; moby/moby@31ed121cb8", "BASE"),
    _fault(KeepsOldSizes, "moby/moby#34701; moby/moby#53107", "ID-AGAIN"),
    _fault(LimitsOnce, "containers/container-libs#886", "ID-AGAIN"),
    _fault(
        KeepsWhatWasRemoved,
        "unlink(2): a file that has another name keeps its space",
        "SPACE",
    ),
    _fault(ClearsNothing, "containers/container-libs#886", "CLEARED"),
    _fault(
        WantsAWorkDirectory,
        "derived: mkdir(2): EDQUOT, a layer that is full can be opened (refdriver 0.3.0)",
        "FULL",
    ),
    _fault(OpensWhenIdle, "moby/moby#42832", "OPEN-MOUNTED"),
    _fault(TrustsItsNode, "containers/storage@aa0d39469", "DEVICE"),
    Fault(OpensWithoutQuota, ("OVL-QUOTA-NO-PQUOTA",), "boundary: what is refused", backing="xfs-noquota"),
)
