"""Where stores are: a directory on a backing filesystem."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """A directory on a backing filesystem, for stores.

    ``unfit`` says why overlay cannot work on it, ``missing`` why there is none, so that nothing can be run there,
    ``no_user_xattrs`` why it takes no attributes user.*. On a filesystem that ``renews_times``, a directory has
    another time after it was moved, so after the kernel's copy-up, too.
    """

    backing: str
    directory: str
    unfit: str = ""
    no_user_xattrs: str = ""
    missing: str = ""
    renews_times: bool = False
