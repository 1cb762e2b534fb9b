"""Where requirements come from: typed references. Those to documents of the project resolve."""

from __future__ import annotations

import itertools
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from conformance import spec
from conformance.cli.listing import explain
from conformance.selftest.mutants.catalogue import MUTANTS
from conformance.selftest.mutants.mutant import Mutant
from conformance.spec import Requirement, load_requirements
from conformance.spec.references import Kind, Reference, in_markdown, in_words, parse_reference
from conformance.spec.specification import as_markdown

ROOT = Path(__file__).parent.parent
REQUIREMENTS = load_requirements()
BEHAVIOUR, FIELD_BUGS = ROOT / "docs" / "behaviour.md", ROOT / "docs" / "field-bugs.md"
ANCHOR = re.compile(r'<a id="([a-z0-9-]+)"></a>')
LINK = re.compile(r"\[([^]]+)\]\((https://[^)]+)\)")
# What bugs are cited by; field-bugs.md says what they are.
OF_BUGS = frozenset({Kind.ISSUE, Kind.COMMIT, Kind.CVE, Kind.RELEASE})


def of_mutant(mutant: Mutant) -> list[Reference]:
    """What a mutant's source refers to; the rest of it is in words."""
    parts = mutant.source.split("; ")
    return [parse_reference(one) for one in parts if not one.startswith(("boundary: ", "derived: "))]


def cited() -> dict[str, Reference]:
    """All references of the specification and of mutants, by their target."""
    found = [one for requirement in REQUIREMENTS.values() for one in requirement.source]
    return {one.target: one for one in [*found, *(one for mutant in MUTANTS for one in of_mutant(mutant))]}


def resolves(reference: Reference) -> bool:
    """Whether there is such an anchor, or it is the address of a page elsewhere."""
    path, _, anchor = reference.address.partition("#")
    if reference.kind is Kind.PAGE:
        return anchor in ANCHOR.findall((ROOT / path).read_text())
    return reference.kind is not Kind.REQUIREMENT and bool(re.fullmatch(r"https://[\w.-]+/\S+", reference.address))


@pytest.mark.parametrize(
    ("written", "kind", "address"),
    [
        ("behaviour#opaque-directories", Kind.PAGE, "docs/behaviour.md#opaque-directories"),
        ("field-bugs#empty-link", Kind.PAGE, "docs/field-bugs.md#empty-link"),
        ("OVL-LIFE-CREATE", Kind.REQUIREMENT, "docs/specification.md#ovl-life-create"),
        ("containers/storage#496", Kind.ISSUE, "https://github.com/containers/storage/issues/496"),
        ("moby/moby@9803272f2d", Kind.COMMIT, "https://github.com/moby/moby/commit/9803272f2d"),
        (
            "opencontainers/umoci@v0.5.0",
            Kind.RELEASE,
            "https://github.com/opencontainers/umoci/releases/tag/v0.5.0",
        ),
        ("CVE-2014-9356", Kind.CVE, "https://www.cve.org/CVERecord?id=CVE-2014-9356"),
        (
            "image-spec/layer.md#whiteouts",
            Kind.IMAGE_SPEC,
            "https://github.com/opencontainers/image-spec/blob/13cff54902ec9ad6320cbc487a685b66fcd67171/"
            "layer.md#whiteouts",
        ),
        ("overlayfs.rst#readdir", Kind.KERNEL, "https://docs.kernel.org/filesystems/overlayfs.html#readdir"),
        (
            "admin-guide/tainted-kernels.rst",
            Kind.KERNEL,
            "https://docs.kernel.org/admin-guide/tainted-kernels.html",
        ),
        ("fsync(2)", Kind.MANUAL, "https://man7.org/linux/man-pages/man2/fsync.2.html"),
        (
            "POSIX/utilities/pax",
            Kind.POSIX,
            "https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html",
        ),
        (
            "xfstests/overlay/073",
            Kind.XFSTESTS,
            "https://git.kernel.org/pub/scm/fs/xfs/xfstests-dev.git/tree/tests/overlay/073",
        ),
        ("doi:10.1145/78969.78972", Kind.DOI, "https://doi.org/10.1145/78969.78972"),
        ("https://example.org/a#b", Kind.WEB, "https://example.org/a#b"),
    ],
)
def test_each_kind_of_reference_has_an_address(written: str, kind: Kind, address: str) -> None:
    assert parse_reference(written) == Reference(kind, written, address)
    assert parse_reference(f"{written}: why: so") == Reference(kind, written, address, "why: so")
    assert parse_reference(f"{written}: why: so").text == f"{written}: why: so"


@pytest.mark.parametrize(
    "written",
    [
        *("", "somewhere", "#496", "storage#496", "containers/storage#", "containers/storage#0", "behaviour"),
        *("behaviour.md#whiteouts", "behaviour#White Outs", "other#whiteouts", "CVE-14-1", "cve-2014-9356"),
        *("moby/moby@xyz", "moby/moby@12345", "moby/moby 9803272f2d", "overlayfs", "overlayfs.rst#a b", "fsync()"),
        *("http://example.org", "https://", "fsync(2):", "fsync(2): ", "fsync(2) note", "image-spec#whiteouts"),
        *("POSIX.1-2017", "OVL-LIFE", "containers/storage#496; moby/moby#1", "doi:78969", "../x.rst"),
    ],
)
def test_a_target_of_no_known_form_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="is no reference: behaviour#ANCHOR"):
        parse_reference(written)


@pytest.mark.parametrize("requirement", REQUIREMENTS.values(), ids=lambda one: one.id)
def test_the_sources_of_a_requirement_resolve(requirement: Requirement) -> None:
    assert requirement.source
    assert len({one.target for one in requirement.source}) == len(requirement.source)
    assert [one.target for one in requirement.source if not resolves(one)] == []


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_sources_of_a_mutant_resolve(mutant: Mutant) -> None:
    assert [one.target for one in of_mutant(mutant) if not resolves(one)] == []


@pytest.mark.parametrize("document", [BEHAVIOUR, FIELD_BUGS], ids=lambda path: path.name)
def test_anchors_are_there_once_and_statements_are_numbered(document: Path) -> None:
    found = ANCHOR.findall(document.read_text())
    assert found
    assert len(found) == len(set(found))


def test_statements_are_numbered_in_order() -> None:
    text = BEHAVIOUR.read_text()
    numbers = [tuple(map(int, one)) for one in re.findall(r'^<a id="[^"]+"></a>\n### (\d+)\.(\d+) ', text, re.M)]
    assert len(numbers) == len(ANCHOR.findall(text))
    assert numbers == sorted(set(numbers))
    sections = [int(one) for one in re.findall(r"^## (\d+)\. ", text, re.M)]
    assert sections == sorted({section for section, _ in numbers})
    assert all(number == before + 1 for (a, before), (b, number) in itertools.pairwise(numbers) if a == b)


def test_each_statement_names_its_source() -> None:
    for statement in re.split(r'^<a id="', BEHAVIOUR.read_text(), flags=re.M)[1:]:
        assert re.search(r"^- \*\*Source\*\*: ", statement, re.M), statement[:80]


def test_links_by_name_have_a_target() -> None:
    text = BEHAVIOUR.read_text()
    targets = set(re.findall(r"^\[([^]]+)\]: https://", text, re.M))
    assert targets
    assert set(re.findall(r"\]\[([^]]+)\]", text)) == targets


def test_every_statement_is_the_source_of_a_requirement() -> None:
    """No authority that nothing refers to. A statement that is no requirement is listed here with its reason."""
    elsewhere = {
        "overlay-support": "no host without overlay runs the suite",
        "directory-times": "what a comparison may leave out",
        "read-errors": "tested with the driver itself, in tests/driver",
        "user-namespace": "a privilege level of the whole suite, not a requirement",
    }
    used = {
        one.target.removeprefix("behaviour#") for one in cited().values() if one.target.startswith("behaviour#")
    }
    assert set(ANCHOR.findall(BEHAVIOUR.read_text())) - used == set(elsewhere)


def bugs() -> Iterator[tuple[str, dict[str, str], set[str]]]:
    """The rows of field-bugs.md: the anchor, addresses by target, and the requirements."""
    for line in FIELD_BUGS.read_text().splitlines():
        if found := ANCHOR.search(line):
            _, _, where, requirements, _ = line.split("|")
            yield found[1], dict(LINK.findall(where)), set(re.findall(r"OVL-[A-Z0-9-]+", requirements))


def test_every_bug_that_is_cited_is_explained() -> None:
    linked = {target: address for _, where, _ in bugs() for target, address in where.items()}
    for target, reference in cited().items():
        if reference.kind in OF_BUGS:
            assert target in linked, f"docs/field-bugs.md does not explain {target}"
    for target, address in linked.items():
        assert parse_reference(target).address == address


def test_a_bug_names_the_requirements_that_cite_it() -> None:
    for anchor, where, named in bugs():
        known = {*where, f"field-bugs#{anchor}"}
        citing = {one.id for one in REQUIREMENTS.values() if known & {source.target for source in one.source}}
        assert named == citing, anchor


# The words that stood for these references before, and numbers and hashes that name no repository.
BEFORE = re.compile(
    r"driver-facts|\bcs#\d|\bthe seed\b(?!'s history)|\berrat(um|a)\b|\bbugs? \d+[:,]|\bbug N\b|\bcs [0-9a-f]{7,}"
    r"|(?<![\w./-])(docker|podman|moby|buildkit|buildah|containerd|continuity|fuse-overlayfs)#\d"
    r"|(?<![\w./-])(moby|buildkit|containerd|continuity) [0-9a-f]{9,}\b",
    re.I,
)


@pytest.mark.slow
def test_nothing_cites_what_is_not_in_the_repository() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    found = []
    for name in listed.decode().split("\0"):
        path = ROOT / name
        if not path.is_file() or path.name in ("test_sources.py", "test_vocabulary.py"):
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture
        found += [
            f"{name}:{number}: {match[0]}"
            for number, line in enumerate(text.splitlines(), 1)
            for match in BEFORE.finditer(line)
        ]
    assert found == []


def specification_of(
    directory: Path, source: str, monkeypatch: pytest.MonkeyPatch, consequence: str = 'consequence = "It is not."\n'
) -> None:
    """Load a specification of one requirement that has this source."""
    (directory / "requirements").mkdir()
    (directory / "capabilities.toml").write_text("")
    (directory / "requirements" / "01-one.toml").write_text(
        '[[family]]\nname = "one"\nvaries = []\n\n[[family.requirement]]\nid = "OVL-ONE-TWO"\nsentence = "It is."\n'
        + consequence
        + source
    )
    monkeypatch.setattr(spec, "files", lambda _: directory)
    read_once = (spec._files, spec._capabilities, spec._requirements)
    for one in read_once:
        one.cache_clear()
    try:
        spec.load_requirements()
    finally:
        for one in read_once:
            one.cache_clear()


def test_a_list_of_references_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    specification_of(tmp_path, 'source = ["fsync(2): EIO", "moby/moby#1"]\n', monkeypatch)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("", "needs a source: a list of references"),
        ("source = []\n", "needs a source: a list of references"),
        ('source = "fsync(2)"\n', "needs a source: a list of references"),
        ("source = [2]\n", "needs a source: a list of references"),
        ('source = ["fsync(2)", "the manual"]\n', "source 'the manual' is no reference"),
    ],
)
def test_a_requirement_without_references_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, said: str
) -> None:
    with pytest.raises(ValueError, match=f"requirement OVL-ONE-TWO.* {re.escape(said)}"):
        specification_of(tmp_path, source, monkeypatch)


@pytest.mark.parametrize("consequence", ["", 'consequence = "Files are gone"\n', "consequence = 2\n"])
def test_a_requirement_without_a_consequence_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, consequence: str
) -> None:
    with pytest.raises(ValueError, match=r"requirement OVL-ONE-TWO needs a consequence: what a user"):
        specification_of(tmp_path, 'source = ["fsync(2)"]\n', monkeypatch, consequence)


def test_explain_prints_addresses_and_conventions() -> None:
    said = CliRunner().invoke(explain, ["OVL-OPAQUE-PRESERVED"]).output
    assert "  source: docs/behaviour.md#opaque-directories\n" in said
    assert "  If it is violated, a user would see: Old files of a directory" in said
    assert "  source: https://github.com/moby/moby/issues/25244\n" in said
    assert "convention" not in said
    said = CliRunner().invoke(explain, ["OVL-GATE-BACKING"]).output
    assert "  source: https://github.com/containers/storage/issues/1432 (accepts zfs)\n" in said
    assert "  a convention of containers/storage: a driver of another family declines what it needs\n" in said


def test_several_references_are_one_line() -> None:
    found = [parse_reference(one) for one in ("behaviour#sizes", "fsync(2): EIO")]
    assert in_words(found) == "behaviour#sizes; fsync(2): EIO"
    address = "https://man7.org/linux/man-pages/man2/fsync.2.html"
    assert in_markdown(found) == f"docs/behaviour.md#sizes; [fsync(2)]({address}) (EIO)"


def test_the_specification_links_sources_and_names_conventions() -> None:
    text = as_markdown()
    assert "[behaviour#opaque-directories](behaviour.md#opaque-directories)" in text
    assert "[containers/storage#1432](https://github.com/containers/storage/issues/1432) (accepts zfs)" in text
    assert "; a convention of graph drivers; " in text
    assert "*If it is violated, a user would see:* Old files of a directory" in text


def test_what_graph_drivers_have_by_habit_is_no_core_requirement() -> None:
    capabilities = spec.load_capabilities()
    assert {one.convention for one in capabilities.values()} == {"", "graph drivers", "containers/storage"}
    for requirement in REQUIREMENTS.values():
        if spec.conventions(requirement, capabilities):
            assert not spec.is_core(requirement, capabilities), requirement.id
