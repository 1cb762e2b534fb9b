"""Kernels and filesystems that a driver lets in, and those that it refuses: tried by simulating them."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import pytest

from conformance.drivers.protocol import Answer, DriverRefused, OpenRequest
from conformance.harness.assertions import equal, names
from conformance.harness.bench import Bench
from conformance.harness.deviation import Deviation
from conformance.history.calls import Status
from conformance.lab.pretend import Pretence
from conformance.suites.gates import MAGICS, PLAIN, RELEASES, UNPARSABLE, VENDOR_FORMS, Cell, cells, gate_of, wanted
from conformance.suites.openings import FALSE_WORDS, TRUE_WORDS

_AT_A_TIME = 4  # most of the time is the start of processes
_ON_BTRFS = ("4.0", "4.6", "4.7", "4.7-rc1", "4.10", "6.1")  # as text, 4.10 comes before 4.7


def answer_of(bench: Bench, cell: Cell) -> Answer:
    """What the driver says when it is opened in that world."""
    with bench.directory() as directory:
        pretence = Pretence(cell.release, MAGICS.get(cell.filesystem), (str(directory),))
        options = ("override_kernel_check=true",) if cell.override else ()
        return bench.attempt(OpenRequest(directory, options), pretence.prefix())


def judge(bench: Bench, some: Iterable[Cell]) -> None:
    """The driver answers each as it should; raises Deviation with all that it does not."""
    bench.begin()
    gates_kernel = bench.has("gates-kernel")
    listed = [cell for cell in some if can_be_asked(bench, cell)]
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        answers = list(pool.map(lambda cell: answer_of(bench, cell), listed))
    wrong = []
    for cell, answer in zip(listed, answers, strict=True):
        right = wanted(cell, gates_kernel=gates_kernel)
        done, said = _word(answer.opened), " ".join(answer.text.split())[:300]
        bench.note(f"open a home on {cell} -> {done}: {said}")
        if answer.opened != right.opens:
            wrong.append(f"{cell}: expected it {_word(right.opens)}; it was {done}: {said}")
        elif right.words and not any(word.lower() in answer.text.lower() for word in right.words):
            wrong.append(f"{cell}: the refusal names none of {right.words}: {said}")
    if wrong:
        raise Deviation("\n".join(wrong))


def can_be_asked(bench: Bench, cell: Cell) -> bool:
    """Whether the driver has the option of the cell, and an opinion of its filesystem."""
    return (not cell.override or bench.has("options")) and (cell.filesystem != "zfs" or bench.has("gates-zfs"))


def _word(opened: bool) -> str:
    return "opened" if opened else "refused"


@pytest.mark.place_free
@pytest.mark.requirement("OVL-GATE-KERNEL-OLD")
def test_kernels_by_their_release(bench: Bench) -> None:
    judge(
        bench, (Cell(release, PLAIN, on) for release in ("2.6.32", "3.18", *RELEASES[4:]) for on in (False, True))
    )


@pytest.mark.place_free
@pytest.mark.requirement("OVL-OPTION-BOOL")
def test_words_of_truth_mean_what_they_say(bench: Bench) -> None:
    """On a kernel that is too old, the driver opens with the words for true, and with no word for false.

    Every second word is tried; a driver takes a process for each, and most of the time is its start.
    """
    bench.need("pretend")
    bench.begin()
    words = [(word, True) for word in TRUE_WORDS[::2]] + [(word, False) for word in FALSE_WORDS[::2]]

    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        answers = list(pool.map(lambda one: _on_an_old_kernel(bench, f"override_kernel_check={one[0]}"), words))
    wrong = []
    for (word, opens), answer in zip(words, answers, strict=True):
        said = f"open a home on kernel 3.18 with override_kernel_check={word} -> {_word(answer.opened)}"
        bench.note(said)
        if answer.opened != opens:
            wrong.append(f"{said}; expected it {_word(opens)}: {' '.join(answer.text.split())[:300]}")
    if wrong:
        raise Deviation("\n".join(wrong))


def _on_an_old_kernel(bench: Bench, *options: str) -> Answer:
    with bench.directory() as directory:
        request = OpenRequest(directory, options)
        return bench.attempt(request, Pretence("3.18", MAGICS[PLAIN], (str(directory),)).prefix())


@pytest.mark.place_free
@pytest.mark.requirement("OVL-OPTION-CASE")
@pytest.mark.parametrize("last", ["true", "false"])
def test_a_repeated_option_is_one_in_any_case(bench: Bench, last: str) -> None:
    """Which of two values counts no text decides; it is the same one whether the keys differ in case or not."""
    bench.need("pretend", "gates-kernel")
    bench.begin()
    first = "false" if last == "true" else "true"
    keys = ("override_kernel_check", "Override_Kernel_Check")
    pairs = [(f"{keys[0]}={first}", f"{key}={last}") for key in keys]
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        answers = [one.opened for one in pool.map(lambda pair: _on_an_old_kernel(bench, *pair), pairs)]
    for pair, opened in zip(pairs, answers, strict=True):
        bench.note(f"open a home on kernel 3.18 with {' and '.join(pair)} -> {_word(opened)}")
    bench.record(f"an old kernel with override_kernel_check={first} and then {last}", _word(answers[0]))
    equal(f"whether a home opens with {' and '.join(pairs[1])}, as with keys of one case", answers[1], answers[0])


@pytest.mark.place_free
@pytest.mark.requirement("OVL-GATE-KERNEL-FORM")
def test_forms_of_releases(bench: Bench) -> None:
    judge(bench, (Cell(release, PLAIN) for release in (*VENDOR_FORMS, *UNPARSABLE)))


@pytest.mark.place_free
@pytest.mark.requirement("OVL-GATE-BACKING")
@pytest.mark.parametrize("name", ["aufs", "zfs", "overlayfs", "ecryptfs"])
def test_filesystems_that_are_refused(bench: Bench, name: str) -> None:
    if name == "zfs":
        bench.need("gates-zfs")
    judge(bench, (Cell("", name, on) for on in (False, True)))


@pytest.mark.place_free
@pytest.mark.requirement("OVL-GATE-BTRFS")
def test_btrfs_takes_a_later_kernel(bench: Bench) -> None:
    judge(
        bench,
        (Cell(release, "btrfs", on) for release in _ON_BTRFS for on in (False, True)),
    )


@pytest.mark.place_free
@pytest.mark.requirement("OVL-GATE-BACKING-TAKEN")
def test_filesystems_that_are_taken(bench: Bench) -> None:
    judge(bench, (Cell("", name) for name in MAGICS if wanted(Cell("", name)).opens))


@pytest.mark.place_free
@pytest.mark.release
@pytest.mark.parametrize(
    "gate",
    [
        pytest.param(name, marks=pytest.mark.requirement(f"OVL-GATE-{name}"))
        for name in ("KERNEL-OLD", "KERNEL-FORM", "BACKING", "BTRFS")
    ],
)
def test_the_whole_matrix(bench: Bench, gate: str) -> None:
    judge(bench, (cell for cell in cells(full=True) if gate_of(cell) == gate))


@pytest.mark.quick
@pytest.mark.requirement("OVL-GATE-REAL-OVERLAY")
def test_a_real_overlay_is_refused(bench: Bench) -> None:
    bench.begin()
    bench.note("open a home on a real overlay  (to be refused)")
    names(bench.refuses().lower(), "overlay")


@pytest.mark.requirement("OVL-GATE-D-TYPE")
def test_a_missing_d_type_is_said(bench: Bench) -> None:
    bench.begin()
    bench.note("open a home on xfs that was made with ftype=0")
    try:
        with bench.store("other") as store:
            said = {key.lower(): value for key, value in store.do(Status()).items()}
    except DriverRefused as refused:
        names(str(refused).lower(), "d_type", "ftype")
    else:
        found = "false" in said.get("supports d_type", "").lower()
        equal(f"whether the status, {said}, says 'false' of d_type", found, True)
