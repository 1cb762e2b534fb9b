"""Mutants of quota of the reference driver."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from refdriver import driver, layermounts, options, quota
from refdriver.linux import libc, projectquota
from refdriver.linux.projectquota import ProjectId
from refdriver.mutants.basis import Patched, replaces
from refdriver.mutants.registration import mutant
from refdriver.quota import _project_of, _put_into

_BLOCK: Final = 4096


@mutant(
    breaks=("OVL-QUOTA-SIZE-DRIVER", "OVL-QUOTA-SIZE-LAYER"),
    source="boundary: units of 1000 and 1024",
    backing="xfs",
    needs="xfs-quota",
)
class QuotaUnitsAreThousands(Patched):
    """A kilobyte has 1000 bytes."""

    @staticmethod
    @replaces(options.parse_size)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Take 2.4 per cent off for each power."""
        unit = re.search("[kmgtp]", args[0].lower())
        power = " kmgtp".index(unit[0]) if unit else 0
        return int(original(*args, **kwargs) * (1000 / 1024) ** power)


@mutant(
    breaks=("OVL-QUOTA-SIZE-LAYER", "OVL-QUOTA-SIZE-DRIVER"),
    source="boundary: a fraction is cut",
    backing="xfs",
    needs="xfs-quota",
)
class QuotaRoundsFractionsUp(Patched):
    """1.5 G is 2 G."""

    @staticmethod
    @replaces(options.parse_size)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Read another number."""
        return original(re.sub(r"[0-9]+\.[0-9]+", lambda found: str(math.ceil(float(found[0]))), args[0]), **kwargs)


@mutant(breaks=("OVL-QUOTA-SIZE-FORM",), source="boundary: what is a size", backing="xfs", needs="xfs-quota")
class QuotaAcceptsAnySize(Patched):
    """What is no size is none."""

    @staticmethod
    @replaces(options.parse_size)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Hide the refusal."""
        try:
            return original(*args, **kwargs)
        except Exception:
            return 0


@mutant(breaks=("OVL-QUOTA-ENFORCED",), source="field-bugs#quota-test", backing="xfs", needs="xfs-quota")
class QuotaLimitIsSoft(Patched):
    """The limit is a soft one: it may be passed for a week."""

    @staticmethod
    @replaces(projectquota.pack_limit)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Leave the hard limit out (struct fs_disk_quota)."""
        data = original(*args, **kwargs)
        return bytes(data[:8] + bytes(8) + data[16:])


@mutant(breaks=("OVL-QUOTA-STATFS",), source="boundary: soft and hard limits", backing="xfs", needs="xfs-quota")
class QuotaSoftLimitIsHalf(Patched):
    """The soft limit is half of the hard one, and the filesystem tells the soft one."""

    @staticmethod
    @replaces(projectquota.pack_limit)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Set the soft limit apart."""
        project, limit = args
        whole = original(*args, **kwargs)
        return bytes(whole[:16] + original(project, limit // 2)[16:24] + whole[24:])


@mutant(
    breaks=("OVL-QUOTA-ENFORCED", "OVL-QUOTA-BELOW"), source="boundary: one block", backing="xfs", needs="xfs-quota"
)
class QuotaStopsBlockEarly(Patched):
    """A size is rounded down once too often."""

    @staticmethod
    @replaces(projectquota.pack_limit)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """One block less."""
        project, limit = args
        return original(project, max(0, limit - _BLOCK), **kwargs)


@mutant(breaks=("OVL-QUOTA-ENFORCED",), source="boundary: one block", backing="xfs", needs="xfs-quota")
class QuotaStopsBlockLate(Patched):
    """A size is rounded up once too often."""

    @staticmethod
    @replaces(projectquota.pack_limit)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """One block more."""
        project, limit = args
        return original(project, limit + _BLOCK if limit else 0, **kwargs)


@mutant(breaks=("OVL-QUOTA-BELOW",), source="boundary: what fits", backing="xfs", needs="xfs-quota")
class QuotaKeepsReserve(Patched):
    """A twentieth of each layer is kept for bad days."""

    @staticmethod
    @replaces(projectquota.pack_limit)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Less."""
        project, limit = args
        return original(project, limit - limit // 20, **kwargs)


@mutant(breaks=("OVL-QUOTA-ENFORCED",), source="field-bugs#quota-test", backing="xfs", needs="xfs-quota")
class QuotaIsNotInherited(Patched):
    """The layer's directory is of a project, and what is made in it is not."""

    @staticmethod
    @replaces(projectquota.set_project)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Without FS_XFLAG_PROJINHERIT."""
        fd, project = args
        return original(fd, type(project)(project.number, inherit=False), **kwargs)


@mutant(breaks=("OVL-QUOTA-LOWERS",), source="boundary: what counts", backing="xfs", needs="xfs-quota")
class QuotaCountsLowers(Patched):
    """What is in the home already is taken off the size of a new layer."""

    @staticmethod
    @replaces(quota.ProjectQuota.limit)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Add up the files of all layers."""
        quota, directory, size = args
        files = Path(quota._home).glob("*/diff/*")
        held = sum(path.lstat().st_size for path in files if path.is_file())
        return original(quota, directory, max(size - held, _BLOCK * 64) if size else 0, **kwargs)


def put_into(directory: str, number: int) -> int:
    """Put a directory into a project, whoever has it; its number."""
    _put_into(directory, ProjectId(number, inherit=True))
    return number


def base_of(quota: Any) -> int:
    """The home's own project id."""
    return _project_of(str(quota._home)).number


@mutant(
    breaks=("OVL-QUOTA-OWN", "OVL-QUOTA-IDS"),
    source="behaviour#quota-project-ids; moby/moby@31ed121cb8",
    backing="xfs",
    needs="xfs-quota",
)
class QuotaSharesOneProject(Patched):
    """All layers with a limit are one project."""

    @staticmethod
    @replaces(quota.ProjectQuota._claim)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Find it, or make it the first time."""
        quota, directory = args
        found = max(quota._ids_in_use(), default=0)
        return put_into(directory, found) if found else original(quota, directory, **kwargs)


@mutant(
    breaks=("OVL-QUOTA-IDS",),
    source="behaviour#quota-project-ids; moby/moby@31ed121cb8",
    backing="xfs",
    hard=True,
    needs="xfs-quota",
)
class QuotaNumbersByCount(Patched):
    """The id of a project is how many there are, and one; a removal makes it that of another layer."""

    @staticmethod
    @replaces(quota.ProjectQuota._claim)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Count."""
        del original, kwargs
        quota, directory = args
        base = base_of(quota)
        return put_into(directory, base + 1 + sum(number > base for number in quota._ids_in_use()))


@mutant(
    breaks=("OVL-QUOTA-REOPEN", "OVL-QUOTA-IDS"),
    source="behaviour#quota-project-ids; containers/storage@ffeddaae9",
    backing="xfs",
    needs="xfs-quota",
)
class QuotaIdsRestartAtReopen(Patched):
    """Ids are counted in memory, and begin anew when the home is opened again."""

    @staticmethod
    @replaces(quota.ProjectQuota._claim)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Count up from the home's own."""
        del original, kwargs
        quota, directory = args
        quota.given = getattr(quota, "given", base_of(quota)) + 1
        return put_into(directory, quota.given)


@mutant(
    breaks=("OVL-QUOTA-PROCESSES",),
    source="behaviour#quota-project-ids; containers/storage@ffeddaae9",
    backing="xfs",
    hard=True,
    needs="xfs-quota",
)
class QuotaIdsAreReadOnce(Patched):
    """Ids in use are looked for when the home is opened, and then each process counts for itself."""

    @staticmethod
    @replaces(quota.ProjectQuota._claim)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The first claim is that of the opening."""
        del original, kwargs
        quota, directory = args
        last = getattr(quota, "given", None)
        quota.given = max([base_of(quota), *quota._ids_in_use()]) + 1 if last is None else last + 1
        return put_into(directory, quota.given)


@mutant(
    breaks=("OVL-QUOTA-HOMES",),
    source="behaviour#quota-project-ids; containers/storage@ffeddaae9",
    backing="xfs",
    needs="xfs-quota",
)
class QuotaIdsIgnoreOtherHomes(Patched):
    """An id that no layer of this home has is free."""

    @staticmethod
    @replaces(quota.ProjectQuota._claim)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The next one."""
        del original, kwargs
        quota, directory = args
        return put_into(directory, max([base_of(quota), *quota._ids_in_use()]) + 1)


@mutant(
    breaks=("OVL-QUOTA-REOPEN",),
    source="behaviour#quota-project-ids: the test limit of an opening, on an id that is in use",
    backing="xfs",
    needs="xfs-quota",
)
class QuotaProbeClearsLimit(Patched):
    """Whether limits work is tried when the home is opened, on the last layer's project."""

    @staticmethod
    @replaces(quota.ProjectQuota._try)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Set its limit to nothing."""
        del original, kwargs
        quota = args[0]
        quota._records.set_limit(quota._device, max(1, *quota._ids_in_use()), 0)


@mutant(
    breaks=("OVL-QUOTA-BASE",),
    source="behaviour#quota-project-ids; moby/moby@31ed121cb8",
    backing="xfs",
    needs="xfs-quota",
)
class QuotaIdsIgnoreHome(Patched):
    """Ids begin with 1, whatever project the home is of."""

    @staticmethod
    @replaces(quota.next_project_id)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Leave out the home's own."""
        base, in_use = args
        found: Iterable[int] = [number for number in in_use if number != base]
        return original(0, iter(found), **kwargs)


@mutant(
    breaks=("OVL-QUOTA-BASE",),
    source="behaviour#quota-project-ids; moby/moby@31ed121cb8",
    backing="xfs",
    needs="xfs-quota",
)
class QuotaMoveIgnoresProject(Patched):
    """A layer is moved into the home without a thought for what project the home passes on."""

    @staticmethod
    @replaces(quota.ProjectQuota.move_in)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """rename(2) and no more."""
        del original, kwargs
        os.rename(*args[1:])


@mutant(breaks=("OVL-QUOTA-CLEARED",), source="containers/container-libs#886", backing="xfs", needs="xfs-quota")
class RemoveKeepsQuotaLimit(Patched):
    """The limit of a project stays when its layer is removed."""

    @staticmethod
    @replaces(quota.ProjectQuota.release)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Do nothing."""


@mutant(
    breaks=("OVL-QUOTA-FULL",),
    source="derived: mkdir(2): EDQUOT, a layer that is full can be opened (refdriver 0.3.0)",
    backing="xfs",
    needs="xfs-quota",
)
class FullLayerCannotBeMounted(Patched):
    """A full layer cannot be mounted: overlay has made no work directory, which mapped root should get."""

    @staticmethod
    @replaces(layermounts.LayerMounts._mount_overlay)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Undo the mount, and complain."""
        original(*args, **kwargs)
        _, request = args
        if request.work and not os.path.isdir(f"{request.work}/work"):
            libc.umount(request.target, 2)
            raise FileNotFoundError(f"{request.work}/work")


@mutant(breaks=("OVL-QUOTA-DEVICE",), source="containers/storage@aa0d39469", backing="xfs", needs="xfs-quota")
class QuotaTrustsDeviceNode(Patched):
    """A device node that is there is the right one."""

    @staticmethod
    @replaces(quota.ProjectQuota._make_device_node)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Make it only where there is none."""
        if not os.path.lexists(args[0]._device):
            original(*args, **kwargs)


@mutant(breaks=("OVL-QUOTA-NO-PQUOTA",), source="boundary: what is refused", backing="xfs-noquota")
class OpenIgnoresMissingPquota(Patched):
    """A size is forgotten where quota does not work."""

    @staticmethod
    @replaces(driver.Driver._open_quota)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Hide the refusal."""
        try:
            return original(*args, **kwargs)
        except Exception:
            return None
