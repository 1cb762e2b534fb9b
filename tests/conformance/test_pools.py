"""Operations that are drawn are fitted to the tree that they are done in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from conformance.operations import ops
from conformance.operations.model import Tree
from conformance.operations.pools import DELETIONS, POOLS, PRIVILEGED_POOLS, fit
from conformance.operations.standard import STANDARD
from conformance.operations.strategies import operations

DRAWN = st.lists(operations(privileged=True), max_size=8)


def grown(*layers: tuple[ops.Operation, ...]) -> Tree:
    tree = Tree()
    for layer in layers:
        tree = tree.child()
        fit(tree, layer)
    return tree


@given(base=st.sampled_from(((), STANDARD)), drawn=DRAWN)
def test_what_was_fitted_to_a_tree_fits_it(base: tuple[ops.Operation, ...], drawn: list[ops.Operation]) -> None:
    """A stored case, whose operations are fitted again when it is replayed, does the same again."""
    done = fit(grown(base), drawn)
    assert fit(grown(base), done) == done


@given(drawn=DRAWN, last=operations(privileged=True))
def test_what_would_fail_is_replaced_by_one_of_its_kind_that_succeeds(
    drawn: list[ops.Operation], last: ops.Operation
) -> None:
    tree = grown(STANDARD, tuple(drawn))
    (done,) = fit(tree.copy(), [last])
    assert type(done) is type(last)
    if done != last:
        assert not tree.permits(last)
        assert tree.permits(done)


def test_most_operations_of_each_kind_succeed_and_some_fail() -> None:
    for pool in (*POOLS, *PRIVILEGED_POOLS):
        succeed = [Tree.permits(grown(STANDARD), fit(grown(STANDARD), [one])[0]) for one in pool]
        assert sum(succeed) >= len(pool) * 0.7, pool[0]
    failing = [one for one in DELETIONS[0] if not grown(STANDARD).permits(fit(grown(STANDARD), [one])[0])]
    assert failing, "what fails is tested too"


def test_an_operation_of_no_pool_stays() -> None:
    mine = ops.Unlink(b"of no pool")
    assert fit(grown(STANDARD), [mine]) == (mine,)
