"""The corpus: what the model expects, correct unpackers make; what differs from it in one attribute is refused."""

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
from conformance.corpus.packing import Packing, packed
from conformance.corpus.silent import QUESTIONS
from conformance.corpus.tables import vectors
from conformance.corpus.trees import entries_of, seen, tree_of
from conformance.corpus.values import Checked, Entry, Expected, Time
from conformance.corpus.vector import Vector
from conformance.drivers.unpacker.layout import write_layout
from conformance.lab.removal import remove_tree
from conformance.operations import archives
from conformance.operations.members import members_of
from conformance.report.schemas import CORPUS, corpus_schemas
from conformance.spec import load_requirements
from refdriver import Driver
from refdriver.errors import DriverError

NAIVE = Path(__file__).parents[1] / "support" / "naive_unpacker.py"
VECTORS = vectors()
EXPECTED = {one.name: expected_of(one, load_requirements()) for one in VECTORS}


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
    assert len(VECTORS) == len(EXPECTED) >= 150
    subjects = [one.subject for one in VECTORS]
    assert all(subjects.count(one) >= 10 for one in subjects)
    assert {one.question for one in VECTORS} - {""} == set(QUESTIONS)


def test_a_case_of_a_suite_is_a_vector_as_it_is() -> None:
    from conformance.corpus.vector import chain_of
    from conformance.suites.cases import CASES

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
            assert expected == EXPECTED[one["name"]]
            manifest = json.loads(_blob(place / "oci", tags[one["name"]]))
            config = json.loads(_blob(place / "oci", manifest["config"]["digest"]))
            assert config["rootfs"]["diff_ids"] == [layer.diff_id for layer in expected.layers]
            for layer, said in zip(expected.layers, manifest["layers"], strict=True):
                assert said == {"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size}
                assert _blob(place / "oci", layer.digest) == (place / one["expected"]).with_name(layer.file).read_bytes()


def _blob(layout: Path, digest: str) -> bytes:
    return (layout / "blobs" / digest.replace(":", "/")).read_bytes()


def test_compressed_layers_are_read_by_the_tools(tmp_path: Path) -> None:
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
        expected = EXPECTED[vector.name]
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
def test_what_correct_unpackers_make_is_permitted(
    scratch: Path, unpack: Unpack
) -> None:
    assert list(_wrong(unpack, scratch)) == []
