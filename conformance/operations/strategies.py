"""Operations and chains of layers for hypothesis, made to collide and to shrink.

Every operation is drawn on its own from small pools, and fitted to the tree afterwards (see pools.py). What still
fails does so with an errno that the model knows, so nothing has to be filtered and any part of a chain can be left
out when it shrinks.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

from hypothesis import strategies as st

from conformance.operations import ops
from conformance.operations.model import Tree
from conformance.operations.pools import DELETIONS, POOLS, PRIVILEGED_POOLS, fit
from conformance.operations.standard import STANDARD


@functools.cache  # a strategy is checked by hypothesis when it is first drawn from, and again if it is made again
def operations(*, privileged: bool) -> st.SearchStrategy[ops.Operation]:
    """One operation; devices, foreign owners and capabilities only for real root.

    Each kind is as likely as any other, but deletions, which are twice as likely. The operations of a kind are
    listed beforehand, the plainest first, so that one takes two choices only: which costs little, and shrinks to
    the first of the list.
    """
    kinds = [*POOLS, *DELETIONS, *(PRIVILEGED_POOLS if privileged else ())]
    # By index, because hypothesis writes out what it samples from.
    return st.one_of([st.integers(0, len(pool) - 1).map(pool.__getitem__) for pool in kinds])


@functools.cache
def layers(*, privileged: bool) -> st.SearchStrategy[tuple[ops.Operation, ...]]:
    """What is done in one layer."""
    return st.lists(operations(privileged=privileged), max_size=8).map(tuple)


@functools.cache
def chains(*, privileged: bool, least: int = 1) -> st.SearchStrategy[list[tuple[ops.Operation, ...]]]:
    """A chain of layers; the base is mostly filled, so that there is something to change."""
    base = st.one_of(st.just(STANDARD), layers(privileged=privileged))
    above = st.lists(layers(privileged=privileged), min_size=least - 1, max_size=max(3, least))
    return st.builds(lambda first, rest: _fitted_chain([first, *rest], privileged=privileged), base, above)


def _fitted_chain(drawn: Iterable[Iterable[ops.Operation]], *, privileged: bool) -> list[tuple[ops.Operation, ...]]:
    tree = Tree(privileged=privileged)
    chain = []
    for layer in drawn:
        tree = tree.child()
        chain.append(fit(tree, layer))
    return chain
