"""The corpus: what the model expects, correct unpackers make; what differs from it in one attribute is refused."""

from __future__ import annotations

import functools
import gzip
import io
import json
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from conformance.cli import main
from conformance.corpus.build import build
from conformance.corpus.check import check, check_refused, read_expected
from conformance.corpus.expecting import expected_of
from conformance.corpus.listing import listed
from conformance.corpus.packing import Packing, packed
from conformance.corpus.silent import QUESTIONS
from conformance.corpus.tables import vectors
from conformance.corpus.trees import entries_of, seen, tree_of
from conformance.corpus.values import Entry, Expected, Time
from conformance.corpus.vector import DECIDED, Vector, chain_of
from conformance.drivers.unpacker.layout import write_layout
from conformance.lab.removal import remove_tree
from conformance.operations import archives
from conformance.operations.members import members_of
from conformance.report.schemas import CORPUS, corpus_schemas
from conformance.spec import load_requirements
from conformance.suites.cases import CASES
from refdriver import Driver
from refdriver.errors import DriverError

NAIVE = Path(__file__).parents[1] / "support" / "naive_unpacker.py"
VECTORS = vectors()


@functools.cache
def expectations() -> Mapping[str, Expected]:
    return {one.name: expected_of(one, load_requirements()) for one in VECTORS}


@dataclass(frozen=True)
class Corpus:
    """A corpus that was built, and where."""

    directory: Path

    def expected(self, name: str) -> Path:
        (found,) = self.directory.glob(f"**/vectors/{name}/expected.json")
        return found


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    directory = tmp_path_factory.mktemp("corpus") / "a"
    build(directory, VECTORS, corpus_schemas())
    return Corpus(directory)


def test_there_are_enough_vectors_of_each_subject() -> None:
    assert len(VECTORS) == len(expectations()) >= 150
    subjects = [one.subject for one in VECTORS]
    assert all(subjects.count(one) >= 10 for one in subjects)
    assert {one.question for one in VECTORS} - {""} == set(QUESTIONS)


def test_a_case_of_a_suite_is_a_vector_as_it_is() -> None:
    chains = {one.layers for one in VECTORS}
    assert all(chain_of(case.chain) in chains for case in CASES)


def _files(directory: Path) -> dict[Path, bytes]:
    return {path.relative_to(directory): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_two_builds_have_equal_bytes(corpus: Corpus, tmp_path: Path) -> None:
    """In a process of its own, with other hashes, zone and umask."""
    env = {**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"}
    text = "import os, sys; os.umask(0o077); from conformance.cli import main; main(sys.argv[1:])"
    words = [sys.executable, "-c", text, "corpus", "build", str(tmp_path / "b")]
    assert os.spawnve(os.P_WAIT, sys.executable, words, env) == 0
    assert _files(tmp_path / "b") == _files(corpus.directory)


def test_files_are_of_their_schemas(corpus: Corpus) -> None:
    for name in ("expected", "index"):
        schema = json.loads((corpus.directory / "schemas" / f"{name}.schema.json").read_text())
        assert schema == json.loads(CORPUS[name].read_text())
        check_file = jsonschema.Draft202012Validator(schema).validate
        pattern = "**/expected.json" if name == "expected" else "**/corpus.json"
        found = list(corpus.directory.glob(pattern))
        assert len(found) == (len(VECTORS) if name == "expected" else 2)
        for path in found:
            check_file(json.loads(path.read_text()))


def test_an_index_has_what_is_beside_it(corpus: Corpus) -> None:
    for place, hostile in ((corpus.directory, False), (corpus.directory / "hostile", True)):
        index = json.loads((place / "corpus.json").read_text())
        tagged = json.loads((place / index["layout"] / "index.json").read_text())["manifests"]
        tags = {one["annotations"]["org.opencontainers.image.ref.name"]: one["digest"] for one in tagged}
        assert index["hostile"] == hostile
        assert [one["name"] for one in index["vectors"]] == list(tags)
        assert set(tags) == {one.name for one in VECTORS if one.hostile == hostile}
        for one in index["vectors"]:
            expected = read_expected(place / one["expected"])
            assert expected == expectations()[one["name"]]
            manifest = json.loads(_blob(place / "oci", tags[one["name"]]))
            config = json.loads(_blob(place / "oci", manifest["config"]["digest"]))
            assert config["rootfs"]["diff_ids"] == [layer.diff_id for layer in expected.layers]
            for layer, said in zip(expected.layers, manifest["layers"], strict=True):
                assert said == {"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size}
                assert (
                    _blob(place / "oci", layer.digest)
                    == (place / one["expected"]).with_name(layer.file).read_bytes()
                )


def _blob(layout: Path, digest: str) -> bytes:
    return (layout / "blobs" / digest.replace(":", "/")).read_bytes()


def test_only_hostile_vectors_reach_for_paths_outside() -> None:
    """A tool that follows every name and symlink stays in its directory, so that nobody's host is changed."""
    for vector in (one for one in VECTORS if not one.hostile):
        links: set[bytes] = set()
        for member in (one for layer in vector.layers for one in members_of(layer.data)):
            above = member.name.rpartition(b"/")[0]
            assert not member.name.startswith(b"/"), vector.name
            assert not any((above + b"/").startswith(link + b"/") for link in links), vector.name
            assert not os.path.normpath(member.name).startswith(b".."), vector.name
            if member.is_link:
                assert not member.node.target.startswith((b"/", b"..")), vector.name
            target = os.path.normpath(os.path.join(above, member.node.target))
            if member.node.is_symlink and target.startswith((b"/", b"..")):
                links.add(member.name)


def test_compressed_layers_are_read_by_the_tools() -> None:
    data = bytes(range(256)) * 1000
    for packing in (Packing.GZIP, Packing.GZIP_HEADER, Packing.GZIP_MEMBERS):
        assert gzip.decompress(packed(data, packing)) == data
        assert gzip.decompress(packed(b"", packing)) == b""
    zstd = shutil.which("zstd")
    if not zstd:
        pytest.skip("needs zstd")
    for packing in (Packing.ZSTD, Packing.ZSTD_FRAMES):
        done = subprocess.run([zstd, "-dc"], input=packed(data, packing), capture_output=True, check=True)
        assert done.stdout == data


Unpack = Callable[[Vector, Path], Sequence[Entry]]


class Refused(Exception):
    """The unpacker refused the image."""


def _with_naive(vector: Vector, scratch: Path) -> Sequence[Entry]:
    """The tests' own unpacker, run in this process: 300 processes would take half a minute."""
    written = []
    for number, layer in enumerate(vector.layers):
        written.append(scratch / f"{number}.tar")
        written[-1].write_bytes(layer.data)
    (scratch / "tree").mkdir()
    write_layout(scratch / "image", written)
    argv, umask = sys.argv, os.umask(0o022)
    sys.argv = ["naive_unpacker.py", str(scratch / "image"), "latest", str(scratch / "tree")]
    try:
        runpy.run_path(str(NAIVE))
    except (SystemExit, Exception) as error:
        raise Refused from error
    finally:
        sys.argv = argv
        os.umask(umask)
    return seen(scratch / "tree")


def _with_reference_driver(vector: Vector, scratch: Path) -> Sequence[Entry]:
    driver = Driver(scratch / "home")
    below = ""
    try:
        for number, layer in enumerate(vector.layers):
            driver.create(f"layer-{number}", parent=below)
            driver.apply_diff(f"layer-{number}", below, io.BytesIO(layer.data))
            below = f"layer-{number}"
        try:
            return seen(Path(driver.get(below)))
        finally:
            driver.put(below)
    except DriverError as error:
        raise Refused from error
    finally:
        driver.cleanup()


def _wrong(unpack: Unpack, scratch: Path) -> Iterator[str]:
    for vector in VECTORS:
        place = scratch / vector.name
        place.mkdir()
        expected = expectations()[vector.name]
        try:
            answer = check(expected, unpack(vector, place))
        except Refused as refused:
            answer = check_refused(expected)
            if not answer.accepted:
                yield f"{vector.name}: refused: {refused.__cause__!r}"
        if answer.differences:
            yield f"{vector.name}: {answer.differences[:3]} {answer.choice}"
        remove_tree(place)


@pytest.mark.mounts
@pytest.mark.slow
@pytest.mark.parametrize("unpack", [_with_naive, _with_reference_driver], ids=["naive", "refdriver"])
def test_what_correct_unpackers_make_is_permitted(scratch: Path, unpack: Unpack) -> None:
    assert list(_wrong(unpack, scratch)) == []


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


def test_the_page_has_every_question_and_the_counts() -> None:
    page = (Path(__file__).parents[2] / "docs" / "corpus.md").read_text()
    asked = [one.question for one in VECTORS]
    for question, text in QUESTIONS.items():
        decided = "yes" if question in DECIDED else "no"
        assert f"</a>{question} | {text} | {decided} | {asked.count(question)} |" in page
    assert f"There are {len(VECTORS)} vectors" in page
    assert f"{sum(one.hostile for one in VECTORS)} are in `hostile/`" in page
