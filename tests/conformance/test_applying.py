"""The model of applying agrees with the model of operations, and says what no text decides."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.corpus.tables import vectors
from conformance.operations import archives, ops
from conformance.operations.alternatives import alternatives, depends_on_following
from conformance.operations.applying import applied
from conformance.operations.archives import Entry, directory, file, hard_link, symlink, whiteout
from conformance.operations.choices import WORDS, Choices
from conformance.operations.comparing import compared
from conformance.operations.entrystrategies import layer_archives
from conformance.operations.layering import layer_entries
from conformance.operations.members import Member, members_of
from conformance.operations.model import Tree
from conformance.operations.standard import STANDARD
from conformance.operations.strategies import chains
from conformance.operations.tarforms import Tarred, archive_of
from conformance.suites.applycases import CASES, Case


def _layers(chain: list[list[ops.Operation]]) -> tuple[list[list[Member]], Tree]:
    found = []
    tree = Tree()
    for operations in chain:
        below, tree = tree, tree.child()
        for operation in operations:
            if tree.permits(operation):
                tree.apply(operation)
        found.append(members_of(archive_of(layer_entries(below, tree))))
    return found, tree


@given(chains(privileged=True))
def test_both_models_agree_on_what_operations_make(chain: list[list[ops.Operation]]) -> None:
    layers, tree = _layers(chain)
    result = applied(layers)
    assert [one.text for one in compared(tree.snapshot(), result.tree)] == []
    assert not result.refusable


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.requirement}-{case.name}")
def test_the_model_makes_what_the_tests_of_the_suite_expect(case: Case) -> None:
    (below,), _ = _layers([list(STANDARD)])
    case_entries = members_of(archives.archive(case.entries))
    for alternative in alternatives([below, case_entries]):
        nodes = alternative.tree.nodes
        for path, content in case.there.items():
            assert content is None or nodes[path].content == content
            assert path in nodes
        assert not nodes.keys() & set(case.gone)


def _words(*layers: list[Entry]) -> list[str]:
    return [one.words for one in alternatives([members_of(archives.archive(layer)) for layer in layers])]


def test_a_chain_without_a_choice_has_one_tree() -> None:
    assert _words([directory("d"), file("d/f")], [whiteout("d/.wh.f")]) == [""]


def test_choices_that_matter_only_together_are_found() -> None:
    """A new directory inherits setgid from one that the archive deletes, if that one keeps its metadata."""
    assert _words([directory("d", 0o2755)], [file("d/new/f"), whiteout(".wh.d")]) == [
        "deleted directory is new, setgid is not inherited",
        "deleted directory keeps metadata, setgid is not inherited",
        "deleted directory keeps metadata, setgid is inherited",
    ]


@pytest.mark.parametrize("name", WORDS)
def test_every_choice_has_an_archive_that_it_decides(name: str) -> None:
    chosen = Choices(**{name: not getattr(Choices(), name)})
    for vector in vectors():
        if not vector.must_refuse:
            layers = [members_of(one.data) for one in vector.layers]
            if applied(layers, chosen).tree != applied(layers).tree:
                return
    assert name == "plain_directories"  # which matters together with another


def test_a_link_may_replace_the_directory_of_its_target() -> None:
    result = applied([members_of(archives.archive([file("d/f", b"f"), hard_link("d", "d/f")]))])
    assert {path: node.content for path, node in result.tree.nodes.items()} == {b"d": b"f"}
    assert "a hard link that replaces the directory of its target" in result.refusable


@pytest.mark.parametrize(
    ("child", "depends"),
    [
        ([file("d/f")], False),
        ([symlink("to-d", "d"), file("to-d/f")], True),
        # The loop is of two layers, so a driver that unpacks beside its lowers does not see it.
        ([symlink("d", "b"), file("d/f")], True),
        ([symlink("d", "b"), whiteout("d/.wh.f")], True),
    ],
)
def test_what_lies_below_a_symlink_depends_on_who_follows_it(child: list[Entry], depends: bool) -> None:
    base = [directory("d"), symlink("b", "d")]
    assert depends_on_following([members_of(archives.archive(one)) for one in (base, child)]) == depends


@given(st.lists(layer_archives(privileged=True), min_size=1, max_size=3))
def test_any_archives_have_a_tree(layers: list[list[Tarred]]) -> None:
    for choices in (Choices(), Choices(replaced_symlinks=False, linked_to_lower=False)):
        tree = applied([members_of(archive_of(one)) for one in layers], choices).tree
        for path in tree.nodes:
            above = path.rpartition(b"/")[0]
            assert not above or tree.nodes[above].is_directory


def test_what_a_link_names_is_of_the_archive_or_below() -> None:
    base, child = [file("a", b"a"), symlink("s", "a")], [hard_link("x", "a"), hard_link("y", "missing")]
    result = applied([members_of(archives.archive(one)) for one in (base, child)])
    assert result.tree.link_groups == {frozenset({b"a", b"x"})}
    assert b"y" not in result.tree.nodes
    assert result.refusable == {
        "a hard link to a file of a lower layer",
        "a hard link to what is not there, or to a directory",
    }
