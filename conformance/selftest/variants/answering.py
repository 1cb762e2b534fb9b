"""Other answers: more words, other refusals, callers one after another, a store that is mended."""

from __future__ import annotations

import io
import os
import tarfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from conformance.selftest.mutants.basis import Faithful
from conformance.selftest.variants.variant import variant


@variant(
    source="drivers of moby and of containers/storage each have their own", touches=("OVL-STATUS", "OVL-LIFE-M")
)
class TellsMore(Faithful):
    """Status and metadata have more entries than anybody asks for, in another order."""

    def status(self) -> list[tuple[str, str]]:
        """As drivers on other filesystems have them."""
        return [("Driver Version", "0"), *reversed(self.inner.status()), ("userxattr", "false"), ("", "")]

    def metadata(self, layer_id: str) -> dict[str, str]:
        """Beside the directories."""
        told = self.inner.metadata(layer_id)
        return {"ID": layer_id, "Note": "", **dict(reversed(told.items()))}


@variant(
    source="OVL-OPTION-UNKNOWN and others: by its name, in whatever words",
    touches=("OVL-OPEN", "OVL-OPTION", "OVL-GATE", "OVL-LIFE-REMOVE", "OVL-STORE", "OVL-RESTART", "OVL-QUOTA"),
)
class RefusesInOtherWords(Faithful):
    """Every refusal is one kind of error, which quotes the first words within its own."""

    def __init__(self, home: str, **asked: Any) -> None:
        _ask(lambda: Faithful.__init__(self, home, **asked))

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        return found if name == "close" else lambda *args, **kwargs: _ask(lambda: found(*args, **kwargs))


def _ask(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:
        raise RuntimeError(f"graph driver failed (status 1):\n\t{error}\n") from None


@variant(
    source="OVL-LIFE-REMOVE-MISSING: whether it is refused or not",
    touches=("OVL-LIFE", "OVL-PARALLEL", "OVL-RESTART"),
)
class RefusesToRemoveNothing(Faithful):
    """To remove a layer that is not there is an error."""

    def remove(self, layer_id: str) -> None:
        """It was asked for by somebody who is wrong."""
        if not self.inner.exists(layer_id):
            raise FileNotFoundError(f"no layer {layer_id!r}")
        self.inner.remove(layer_id)


@variant(
    source="OVL-APPLY-LAST-WINS: the later stays, or the archive is refused",
    touches=("OVL-APPLY", "OVL-HOSTILE", "OVL-WHITEOUT"),
)
class RefusesRepeatedNames(Faithful):
    """An archive with two entries of one name is refused."""

    def apply_diff(self, layer_id: str, parent: str, archive: IO[bytes]) -> int:
        """Read it once before."""
        data = archive.read()
        with suppress(tarfile.TarError), tarfile.open(fileobj=io.BytesIO(data)) as tar:
            names = [os.path.normpath(f"/{name}") for name in tar.getnames()]
            twice = {name for name in names if names.count(name) > 1}
            if twice:
                raise ValueError(f"the archive has several entries called {', '.join(sorted(twice))!r}")
        return int(self.inner.apply_diff(layer_id, parent, io.BytesIO(data)))


@variant(source="the order of calls is the driver's", touches=("OVL-PARALLEL", "OVL-LIFE-NO"))
class AnswersOneAtATime(Faithful):
    """Of several concurrent callers all but one wait."""

    def __init__(self, home: str, **asked: Any) -> None:
        self.lock = threading.RLock()
        super().__init__(home, **asked)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)

        def alone(*args: Any, **kwargs: Any) -> Any:
            with self.lock:
                return found(*args, **kwargs)

        return alone

    def diff(self, layer_id: str, parent: str = "") -> IO[bytes]:
        """Whole, before the next caller's turn."""
        with self.lock, self.inner.diff(layer_id, parent) as stream:
            return io.BytesIO(stream.read())


@variant(
    source="containers/storage makes short links anew; OVL-RESTART-LINK-GONE: mended or refused",
    touches=("OVL-RESTART", "OVL-LAYOUT", "OVL-OPEN", "OVL-STORE"),
)
class MendsItsHome(Faithful):
    """Short links that are gone are made again when a home is opened, and so are files 'link'."""

    def __init__(self, home: str, **asked: Any) -> None:
        _mend(Path(home))
        super().__init__(home, **asked)


def _mend(home: Path) -> None:
    links = {os.readlink(one): one.name for one in sorted(home.glob("l/*")) if one.is_symlink()}
    for layer in (one.parent for one in sorted(home.glob("*/diff"))):
        target = f"../{layer.name}/diff"
        name = layer / "link"
        if not os.path.lexists(name) and target in links:
            name.write_text(links[target])
        if name.is_file() and target not in links and _is_short(name.read_bytes()):
            with suppress(FileExistsError):
                (home / "l" / name.read_text()).symlink_to(target)


def _is_short(text: bytes) -> bool:
    return len(text) == 26 and all(one in b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567" for one in text)
