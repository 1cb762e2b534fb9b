"""Where stores are: a directory on a backing filesystem."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """A directory on a backing filesystem, for stores.

    ``unfit`` says why overlay cannot work on it, ``missing`` why there is none, so that nothing can be run there,
    ``no_user_xattrs`` why it takes no attributes user.*.
    """

    backing: str
    directory: str
    unfit: str = ""
    no_user_xattrs: str = ""
    missing: str = ""
