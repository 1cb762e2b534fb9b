"""Other ways to the same trees: comparing instead of reading marks, other marks, applying through a mount."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from refdriver import driver, probes
from refdriver.mutants.basis import Patched, replaces
from refdriver.mutants.registration import variant

_TREES: Final = ("OVL-TREE", "OVL-WHITEOUT", "OVL-OPAQUE", "OVL-DIFF", "OVL-APPLY", "OVL-CHANGES", "OVL-SIZE")


@variant(
    source="every driver does so where redirect_dir is on",
    touches=(*_TREES, "OVL-STATUS", "OVL-PARALLEL", "OVL-RESTART-KILLED"),
)
class ComparesTrees(Patched):
    """Diffs, changes and sizes come from comparing two mounted trees, never from the upper alone."""

    @staticmethod
    @replaces(probes.why_native_diff_is_wrong)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """A reason, whatever the kernel does."""
        del original, args, kwargs
        return "it is not used by choice"


@variant(
    source="overlayfs.rst, userxattr; containers/storage without root",
    touches=(*_TREES, "OVL-MOUNT", "OVL-LAYOUT", "OVL-HOSTILE-OVERLAY", "OVL-STATUS", "OVL-META-XATTRS"),
)
class MarksInUserAttributes(Patched):
    """Overlays are mounted with userxattr, and marked in attributes of users, by root too."""

    @staticmethod
    @replaces(probes.in_user_namespace)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """As if it were one."""
        original(*args, **kwargs)
        return True


@variant(source="moby's naive diff driver", touches=("OVL-APPLY", "OVL-HOSTILE", "OVL-OPAQUE"))
class AppliesThroughTheMount(Patched):
    """Archives are unpacked into the mounted tree, so that the kernel makes the marks."""

    @staticmethod
    @replaces(driver.Driver._unpack)
    def replacement(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """As if the parent were another."""
        return original(*args, **{**kwargs, "native": False})
