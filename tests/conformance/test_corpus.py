"""The corpus: its files are whole, every build has the same, and correct unpackers make what the model expects."""

from __future__ import annotations

import gzip
import io
import json
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jsonschema
import pytest
from corpora import VECTORS, Corpus, built, expectations

from conformance.corpus.check import check, check_refused, read_expected
from conformance.corpus.observed import LEFT_OUT
from conformance.corpus.packing import Packing, packed
from conformance.corpus.silent import QUESTIONS
from conformance.corpus.trees import seen
from conformance.corpus.values import Entry
from conformance.corpus.vector import DECIDED, Vector, chain_of
from conformance.drivers.unpacker.layout import write_layout
from conformance.lab.removal import remove_tree
from conformance.observing.questions import cases
from conformance.operations.members import members_of
from conformance.report.schemas import CORPUS
from conformance.suites.cases import CASES
from refdriver import Driver
from refdriver.errors import DriverError

NAIVE = Path(__file__).parents[1] / "support" / "naive_unpacker.py"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return built(tmp_path_factory.mktemp("corpus") / "a")


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


@pytest.mark.slow
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


def test_the_page_has_every_question_and_the_counts() -> None:
    page = (Path(__file__).parents[2] / "docs" / "corpus.md").read_text()
    asked = [one.question for one in VECTORS]
    for question, text in QUESTIONS.items():
        decided = "yes" if question in DECIDED else "no"
        assert f"</a>{question} | {text} | {decided} | {asked.count(question)} |" in page
    assert f"There are {len(VECTORS)} vectors" in page
    assert f"{sum(one.hostile for one in VECTORS)} are in `hostile/`" in page


def test_a_case_of_observe_is_a_vector_or_says_why_not() -> None:
    there = {one.name for one in VECTORS}
    for case in cases():
        assert (f"observed-{case.name}" in there) != (case.name in LEFT_OUT), case.name
    assert LEFT_OUT.keys() <= {case.name for case in cases()}
