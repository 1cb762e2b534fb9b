"""What the author of an adapter says of a command: the words of each call.

Both the adapter and the reproducer are made of them, so a failure has a script without another line of code. The
author passes on paths unchanged: in a script they begin with a variable.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from conformance.history.calls import Call


class Unsupported(Exception):
    """The command cannot do this call; the text says why. The call is refused, and a script says so."""


@dataclass(frozen=True, slots=True)
class CommandStore:
    """What a store is opened with, as texts for a command line.

    ``directory`` is the store's own: the driver keeps everything below it. ``options`` are ``KEY=VALUE`` words.
    ``id_map`` and ``gid_map`` have triples: first container id, first host id, how many. ``gid_map`` is that of
    users where a test asks for none. ``image_stores`` are directories of other stores.
    """

    directory: str
    options: tuple[str, ...] = ()
    id_map: tuple[tuple[int, int, int], ...] = ()
    gid_map: tuple[tuple[int, int, int], ...] = ()
    image_stores: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Command:
    """A driver that is a command.

    ``opens`` gives the whole command line that opens a store, ``words`` that of a call; no words are nothing to do.
    In ``Diff`` and ``ApplyDiff``, ``archive`` is the path of a file. Both may raise Unsupported. An exit status
    other than 0 is a refusal, with what the command printed as its text. Of what it prints on standard output:

    - ``Get``: the path of the tree, and a line feed
    - ``Exists``: nothing; the status is 0, or ``absent`` if there is no such layer
    - ``DiffSize``, ``ApplyDiff``: the size in bytes, the last word; an apply may print nothing
    - ``Changes``: lines of a kind, a space and an absolute path, which ``path_of`` reads. The kind is a word or a
      letter, such as ``A``, ``M`` (or ``C``) and ``D``
    - ``Status``, ``Metadata``: lines ``NAME: VALUE``

    ``home`` is the directory of the layers, and ``image_store`` what another store is given as an image store, both
    relative to the store's directory. ``binary`` is the command; scripts look whether it is installed.
    """

    binary: str
    opens: Callable[[CommandStore], Sequence[str]]
    words: Callable[[CommandStore, Call], Sequence[str]]
    home: str = ""
    image_store: str = ""
    absent: int = 1
    path_of: Callable[[str], bytes] = os.fsencode
