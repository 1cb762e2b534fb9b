"""The comparison with an expected file: one changed attribute is refused, what is ignored is not compared."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner
from corpora import Corpus, built, expectations
from hypothesis import given
from hypothesis import strategies as st

from conformance.cli import main
from conformance.corpus.check import check
from conformance.corpus.listing import listed
from conformance.corpus.trees import entries_of, tree_of
from conformance.corpus.values import Entry, Expected, Time
from conformance.operations import archives
from conformance.operations.members import members_of
from conformance.report.schemas import CORPUS

BUILT = (
    *("whiteouts-are-of-one-layer", "whiteout-symlink-to-a-directory", "a4-file", "a11-bare-name"),
    "hostile-junk-text",
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return built(tmp_path_factory.mktemp("corpus") / "a", *BUILT)


def _changes(one: Entry) -> Iterator[Entry]:
    """The entry with one attribute changed, of each that it has."""
    yield replace(one, type="fifo" if one.type == "file" else "file")
    yield replace(one, uid=one.uid + 1)
    yield replace(one, gid=one.gid + 1)
    if one.type != "symlink":
        for bit in (0o4000, 0o1, 0o400):
            yield replace(one, mode=f"{int(one.mode, 8) ^ bit:04o}")
    if one.mtime:
        yield replace(one, mtime=Time(one.mtime.seconds + 1, one.mtime.nanoseconds))
        yield replace(one, mtime=Time(one.mtime.seconds, one.mtime.nanoseconds ^ 1))
    if one.size is not None:
        yield replace(one, size=one.size + 1)
        yield replace(one, sha256="0" * 64)
    if one.type == "symlink":
        yield replace(one, target=(one.target or "") + "x")
    if one.major is not None and one.minor is not None:
        yield replace(one, major=one.major + 1)
        yield replace(one, minor=one.minor + 1)
    if one.type in ("file", "directory"):
        yield replace(one, xattrs={**one.xattrs, "user.more": "eA=="})
    for name in one.xattrs:
        yield replace(one, xattrs={key: value for key, value in one.xattrs.items() if key != name})
        yield replace(one, xattrs={**one.xattrs, name: "eA=="})
    if one.links is not None:
        yield replace(one, links=one.links + 1000)


@given(st.data())
def test_a_tree_with_one_attribute_changed_is_refused(data: st.DataObject) -> None:
    decided = [one for one in expectations().values() if any(tree.entries for tree in one.trees)]
    expected = data.draw(st.sampled_from(decided))
    tree = data.draw(st.sampled_from([one for one in expected.trees if one.entries]))
    expected = replace(expected, trees=(tree,))
    assert check(expected, tree.entries).accepted
    number = data.draw(st.integers(0, len(tree.entries) - 1))
    for changed in _changes(tree.entries[number]):
        entries = (*tree.entries[:number], changed, *tree.entries[number + 1 :])
        answer = check(expected, entries)
        assert not answer.accepted, changed
        assert answer.differences[0].path or answer.differences[0].attribute
    assert not check(expected, tree.entries[:number] + tree.entries[number + 1 :]).accepted
    more = Entry("not-of-the-tree", uid=0)
    assert [one.attribute for one in check(expected, (*tree.entries, more)).differences] == ["unexpected"]


def _of(name: str) -> tuple[Expected, tuple[Entry, ...]]:
    return expectations()[name], expectations()[name].trees[0].entries


@pytest.mark.parametrize(
    ("name", "option", "change"),
    [
        ("meta-owners-every-kind", "owners", {"uid": 5, "gid": 6}),
        ("meta-special-bits-files-and-directories", "special-bits", {"mode": "0755"}),
        ("meta-xattrs-values", "xattrs", {"xattrs": {}}),
        ("meta-capability-of-another-owner", "capabilities", {"xattrs": {}}),
        ("meta-times-past-and-future", "times", {"mtime": Time(7, 0)}),
        ("meta-times-fine-nanoseconds", "fractions", {"mtime": Time(1_400_000_000, 0)}),
        ("meta-directories-empty-and-changed", "directory-times", {"mtime": Time(7, 0)}),
        ("links-across-directories", "links", {"links": None}),
        ("meta-devices-numbers", "devices", {"major": None, "minor": None, "type": "file", "size": 0}),
    ],
)
def test_what_is_ignored_is_not_compared(name: str, option: str, change: dict[str, object]) -> None:
    expected, entries = _of(name)
    changed = tuple(replace(one, **change) for one in entries)  # type: ignore[arg-type]  # names of fields
    if option == "special-bits":
        changed = (*entries[:-1], replace(entries[-1], mode="0" + entries[-1].mode[1:]))
        assert changed != entries
    expected = replace(expected, trees=expected.trees[:1])
    assert not check(expected, changed).accepted
    answer = check(expected, changed, [option])
    assert answer.accepted, answer.differences
    assert answer.ignored == (option,)


def _command(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["corpus", "check", *map(str, words)])
    return done.exit_code, done.output


def test_the_command_says_what_differs(corpus: Corpus, tmp_path: Path) -> None:
    expected = corpus.expected("whiteouts-are-of-one-layer")
    right = archives.write(tmp_path / "right.tar", [archives.file("x", b"3")])
    wrong = archives.write(tmp_path / "wrong.tar", [archives.file("x", b"3", 0o600), archives.file("y", b"1")])
    assert _command(expected, right) == (0, "whiteouts-are-of-one-layer: permitted\n")
    code, said = _command(expected, wrong)
    assert code == 1
    assert said.splitlines()[:3] == [
        "x: mode: expected 0644, actual 0600",
        "y: unexpected: expected nothing, actual file",
        "whiteouts-are-of-one-layer: 2 differences",
    ]
    assert "OVL-WHITEOUT-HIDES (MUST): " in said
    assert _command(expected, wrong, "--ignore", "owners")[1].count("not compared: owners") == 1


def test_the_command_prints_json_of_its_schema(corpus: Corpus, tmp_path: Path) -> None:
    tree = archives.write(tmp_path / "tree.tar", [archives.file("x", b"3", 0o600)])
    code, said = _command(corpus.expected("whiteouts-are-of-one-layer"), tree, "--json", "--ignore", "times")
    jsonschema.validate(json.loads(said), json.loads(CORPUS["check"].read_text()))
    assert code == 1
    assert json.loads(said)["differences"] == [
        {"path": "x", "attribute": "mode", "expected": "0644", "actual": "0600"}
    ]
    assert json.loads(said)["ignored"] == ["times"]


@pytest.mark.parametrize(
    ("name", "code"),
    [("whiteouts-are-of-one-layer", 1), ("a11-bare-name", 0), ("hostile-junk-text", 0)],
)
def test_a_refusal_is_permitted_or_not(corpus: Corpus, name: str, code: int) -> None:
    assert _command(corpus.expected(name), "--refused")[0] == code


def test_no_tree_is_right_where_the_image_must_be_refused(corpus: Corpus, tmp_path: Path) -> None:
    tree = archives.write(tmp_path / "tree.tar", [])
    code, said = _command(corpus.expected("hostile-junk-text"), tree)
    assert (code, "the image is refused" in said) == (1, True)


def test_an_open_question_is_an_observation(corpus: Corpus, tmp_path: Path) -> None:
    tree = archives.write(tmp_path / "tree.tar", [archives.file("d", b"not d")])
    for name, is_open in (("a4-file", True), ("a11-bare-name", False)):
        code, said = _command(corpus.expected(name), tree)
        assert code == 1
        assert ("this is an observation" in said, "(MUST): " in said) == (is_open, not is_open)


def test_what_cannot_be_read_is_exit_status_2(corpus: Corpus, tmp_path: Path) -> None:
    junk = tmp_path / "junk"
    junk.write_text("{}")
    expected = corpus.expected("a4-file")
    for words in ((junk, tmp_path), (expected, junk), (expected,), (expected, tmp_path, "--refused")):
        assert _command(*words)[0] == 2
    assert CliRunner().invoke(main, ["corpus", "build", str(tmp_path)]).exit_code == 2


def test_an_archive_of_a_tree_is_read_as_the_tree() -> None:
    """Its whiteouts are files, a hard link is a further name, and a directory without an entry is there."""
    made = [archives.file("d/f", b"f"), archives.hard_link("d/g", "d/f"), archives.file(".wh.x", b"")]
    found = {one.name: one for one in entries_of(tree_of(members_of(archives.archive(made))))}
    assert set(found) == {b"d", b"d/f", b"d/g", b".wh.x"}
    assert found[b"d"].type == "directory"
    assert found[b"d/f"].links == found[b"d/g"].links == 1
    assert found[b"d/g"].size == 1
    assert found[b".wh.x"].links is None


def _lines(entries: Sequence[Entry]) -> bytes:
    return b"".join(one.name + (b"/" if one.type == "directory" else b"") + b"\n" for one in entries)


def _json_lines(entries: Sequence[Entry]) -> bytes:
    plain = [{"path": one.path, "path_base64": one.path_base64, "type": one.type} for one in entries]
    return "".join(f"{json.dumps({k: v for k, v in one.items() if v is not None})}\n" for one in plain).encode()


def test_a_list_of_the_expected_paths_is_permitted() -> None:
    for expected in expectations().values():
        for tree in expected.trees:
            assert check(expected, listed(_json_lines(tree.entries)), ["attributes"]).accepted
            if not any(b"\n" in one.name for one in tree.entries):
                assert check(expected, listed(_lines(tree.entries)), ["attributes"]).accepted


@pytest.mark.parametrize(
    ("text", "attributes"),
    [
        ("x\n", []),
        ('{"path": "x"}\n', []),
        ("./x\n./\n", []),
        ("x/\n", ["type"]),
        ('{"path": "x", "type": "symlink"}\n', ["type"]),
        ("", ["missing"]),
        ("x\ny\n", ["unexpected"]),
        ("x/f\n", ["type", "unexpected"]),
    ],
)
def test_a_list_is_compared_by_names_and_types(text: str, attributes: list[str]) -> None:
    expected = expectations()["whiteouts-are-of-one-layer"]
    answer = check(expected, listed(text.encode()), ["attributes"])
    assert [one.attribute for one in answer.differences] == attributes


def test_the_command_reads_a_list(corpus: Corpus, tmp_path: Path) -> None:
    listing = tmp_path / "listing"
    expected = corpus.expected("whiteouts-are-of-one-layer")
    for text, code in (("x\n", 0), ("x\ny\n", 1), ('{"name": "x"}\n', 2), ('{"path": "x", "type": "door"}\n', 2)):
        listing.write_text(text)
        assert _command(expected, listing, "--listing")[0] == code
    listing.write_text("x\n")
    assert "not compared: attributes" in _command(expected, listing, "--listing")[1]


def test_a_layer_is_compared_over_those_below(corpus: Corpus, tmp_path: Path) -> None:
    """The last layer of a vector makes its tree over the others; one without its whiteouts does not."""
    expected = corpus.expected("whiteout-symlink-to-a-directory")
    base, last = (expected.with_name(f"layer-{number}.tar") for number in (1, 2))
    assert _command(expected, last, "--over", base)[0] == 0
    empty = archives.write(tmp_path / "empty.tar", [])
    code, said = _command(expected, empty, "--over", base)
    assert (code, said.splitlines()[0]) == (1, "link: unexpected: expected nothing, actual symlink")
    assert _command(expected, last)[0] == 1
    assert _command(expected, last, "--over", base, "--listing")[0] == 2
