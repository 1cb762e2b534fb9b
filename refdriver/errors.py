"""Every way in which the driver refuses, one class each.

A message names the thing, the reason and the next step. ``exit_code`` is what the ``refdriver`` command
exits with; the numbers are part of its interface and are never reused.
"""

from __future__ import annotations


class DriverError(Exception):
    """Something that the driver refuses or cannot do; the base of all the others."""

    exit_code = 1


class NotSupported(DriverError):
    """The kernel cannot do what the driver needs (no overlay, or a release that is too old)."""

    exit_code = 10


class IncompatibleFilesystem(DriverError):
    """Overlay does not work over the filesystem that holds the driver's home."""

    exit_code = 11


class BadOption(DriverError):
    """An option, a size, a label or an id map that the driver does not know or cannot read."""

    exit_code = 12


class BadLayerId(DriverError):
    """A layer id that could name something other than one directory of the home."""

    exit_code = 13


class LayerNotFound(DriverError):
    """No layer of that id in the home or in any additional image store."""

    exit_code = 14


class LayerExists(DriverError):
    """A layer of that id is there already."""

    exit_code = 15


class LayerInUse(DriverError):
    """Other layers are built on the layer, or it is mounted, so it cannot be changed now."""

    exit_code = 16


class ReadOnlyLayer(DriverError):
    """The layer lives in an additional image store, which the driver must not change."""

    exit_code = 17


class MaxDepthExceeded(DriverError):
    """The chain of lowers would be longer than the driver mounts."""

    exit_code = 18


class BrokenLayer(DriverError):
    """What the home holds of a layer cannot be trusted: a bad ``link``, ``lower`` or short link."""

    exit_code = 19


class MountFailed(DriverError):
    """The kernel refused to mount or unmount an overlay, or its option data cannot fit."""

    exit_code = 20


class BadArchive(DriverError):
    """A tar stream that is truncated, damaged, lying or outside what a layer may hold."""

    exit_code = 21


class BreakoutAttempt(BadArchive):
    """An archive entry that points outside the layer."""

    exit_code = 22


class UnreadableLayer(DriverError):
    """A file of the layer could not be read whole, so no archive of it can be true."""

    exit_code = 23


class QuotaFailed(DriverError):
    """Project quota is not available, or the kernel refused to set it."""

    exit_code = 24


class NeedsRoot(DriverError):
    """The operation needs real root, and the driver runs in a user namespace."""

    exit_code = 25
