"""All trees that a chain of archives may make, where the image specification is silent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace

from conformance.operations.applying import IN_LOOP, applied
from conformance.operations.choices import WORDS, Choices
from conformance.operations.members import Member
from conformance.operations.trees import Node, Snapshot


@dataclass(frozen=True, slots=True)
class Alternative:
    """A tree that is permitted; ``words`` say what was chosen, "" where there was nothing to choose."""

    words: str
    tree: Snapshot


def alternatives(layers: Sequence[Sequence[Member]]) -> list[Alternative]:
    """All trees that the choices give, that of the default first; fewer deviations from it come before more."""
    names = [one.name for one in fields(Choices)]
    default = Choices()
    first = applied(layers).tree
    found: dict[_Key, tuple[frozenset[str], Snapshot]] = {_key(first): (frozenset(), first)}
    pending = [frozenset[str]()]
    while pending:
        before = pending.pop(0)
        for changed in (before | {name} for name in names if name not in before):
            tree = applied(layers, _other(default, changed)).tree
            if _key(tree) not in found:
                found[_key(tree)] = (changed, tree)
                pending.append(changed)
    seen = {name for changed, _ in found.values() for name in changed}
    return [
        Alternative(", ".join(_word(default, name, name in changed) for name in names if name in seen), tree)
        for changed, tree in found.values()
    ]


def depends_on_following(layers: Sequence[Sequence[Member]]) -> bool:
    """Whether something lies below a symlink: who follows it, and in which tree, no text says.

    In a loop of symlinks of several layers, a driver that applies an archive beside its lowers sees no loop.
    """
    followed = applied(layers, Choices(replaced_symlinks=False))
    return bool(followed.refusable & IN_LOOP) or applied(layers).tree != followed.tree


_Key = tuple[object, ...]


def _key(tree: Snapshot) -> _Key:
    nodes = frozenset((path, _fields(node)) for path, node in tree.nodes.items())
    return nodes, tree.link_groups


def _fields(node: Node) -> tuple[object, ...]:
    numbers = node.mode, node.uid, node.gid, node.mtime_ns, node.device
    return (*numbers, node.content, node.target, *sorted(node.xattrs.items()))


def _other(choices: Choices, names: Iterable[str]) -> Choices:
    return replace(choices, **{name: not getattr(choices, name) for name in names})


def _word(choices: Choices, name: str, changed: bool) -> str:
    chosen = getattr(choices, name) != changed
    return WORDS[name][0 if chosen else 1]
