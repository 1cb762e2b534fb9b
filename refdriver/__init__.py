"""A reference implementation of the overlay graph driver of containers/storage, with its errors corrected."""

from refdriver.archive.stream import ArchiveStream
from refdriver.changes import Change, ChangeKind
from refdriver.driver import Driver
from refdriver.errors import DriverError
from refdriver.idmap import IdMap

__version__ = "0.3.0"

__all__ = ["ArchiveStream", "Change", "ChangeKind", "Driver", "DriverError", "IdMap"]
