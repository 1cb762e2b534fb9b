"""The evidence folder of a failure, for a reader who has never seen this project.

``case.json`` is for ``overlay-conformance replay``; ``repro.sh`` for everybody, and only there if it was run and
saw the deviation; ``failure.md`` says in words what was expected and what was found.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from conformance.drivers.source import Dialect
from conformance.evidence.reproducer import DEVIATES, Heading, script
from conformance.history.case import Case
from conformance.history.findings import TreeDiffers
from conformance.history.printable import cut, fenced, markdown, printable
from conformance.history.steps import Did, Step
from conformance.history.trace import example_heading
from conformance.lab import overlaymodule
from conformance.lab.backing import HOST, backing_named
from conformance.operations import ops
from conformance.operations.comparing import Difference, shown
from conformance.operations.shell import NoScript
from conformance.operations.trees import Node, Snapshot
from conformance.report.consequences import LABEL, consequence_of
from conformance.spec import Requirement
from conformance.spec.references import in_markdown
from conformance.spec.verdicts import TestOutcome, Verdict

_LIMIT: Final = 300  # seconds for a script
_TAIL: Final = 200  # lines of the kernel's log
_LOG: Final = 1 << 20  # characters of what a script said
_MEANING: Final = {
    "missing": "the entry was created or is in a lower layer, and nothing deleted it",
    "unexpected": "the entry was deleted or never created: deleted content is visible again, or content leaked in",
    "ghost": "readdir lists the name and lstat does not find it, as for a visible whiteout",
    "unlisted": "lstat finds the name and readdir does not list it, as for a deleted file that a cache still has",
    "mode": "the file type or the permission bits differ, setuid, setgid and sticky included",
    "owner": "the owner differs",
    "content": "the bytes of the file differ",
    "target": "the symlink has another target",
    "device": "the node has other device numbers",
    "xattrs": "extended attributes were lost, added or changed",
    "mtime": "the modification time differs",
    "linked": "the names were hard links of one inode and are separate files now",
    "apart": "the names are hard links of one inode and were separate files",
}


@dataclass(frozen=True, slots=True)
class About:
    """The run that a failure is from, as the folder tells of it."""

    driver: str
    version: str
    suite: str
    kernel: str
    seed: int | str | None  # None where pytest chose it
    examples: int
    profile: str
    shrinks: bool = True


def folder_name(outcome: TestOutcome) -> str:
    """A name for the folder that is the same whenever the same test fails."""
    whole = f"{outcome.requirements[0]}-{outcome.test}"
    plain = re.sub(r"[^A-Za-z0-9_.=-]+", "_", whole.removesuffix("]").replace("[", "."))[:150]
    # Two names that differ in what was replaced here are distinguished by a few letters of their digest.
    digest = hashlib.sha256(whole.encode(errors="backslashreplace")).hexdigest()
    return plain if plain == whole else f"{plain}.{digest[:4]}"


def write_folder(
    directory: Path,
    outcome: TestOutcome,
    requirements: Mapping[str, Requirement],
    about: About,
    dialect: Dialect | None,
    scratch: Path,
    *,
    untried: str = "",
) -> Path | None:
    """Write the evidence folder of a failure below ``directory``, replacing an older one; None if it has no case.

    ``untried`` says why no reproducer is tried, and so none is written; "" where one is.
    """
    if outcome.case is None:
        return None
    # The folder is about what the failure is charged to; a replay selects the test by its own requirements.
    case = replace(Case.from_json(outcome.case), requirements=outcome.requirements)
    folder = directory / folder_name(outcome)
    made = folder.with_name(folder.name + ".part")
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    (made / "case.json").write_text(json.dumps(outcome.case, indent=1) + "\n")
    (made / "environment.json").write_text(json.dumps(_environment(about, outcome), indent=1) + "\n")
    (made / "kernel.log").write_text(printable(_kernel_log(outcome), lines=True))
    if isinstance(case.finding, TreeDiffers) and case.finding.expected and case.finding.actual:
        (made / "expected.txt").write_text(printable(listing(case.finding.expected), lines=True))
        (made / "actual.txt").write_text(printable(listing(case.finding.actual), lines=True))
    if isinstance(case.finding, TreeDiffers):
        (made / "difference.txt").write_text(
            printable("\n".join(explained(case.finding.differences, case)), lines=True) + "\n"
        )
    consequence = consequence_of(outcome, requirements)
    heading = _heading(case, requirements, about, consequence)
    why_no_script = untried or _write_script(made, case, heading, dialect, scratch)
    (made / "failure.md").write_text(_in_words(case, requirements, about, consequence, why_no_script))
    shutil.rmtree(folder, ignore_errors=True)
    made.rename(folder)
    return folder


def _begun(directory: Path, outcome: TestOutcome, about: About) -> Path:
    """A folder with what there is of every failure, and no script."""
    folder = directory / folder_name(outcome)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "environment.json").write_text(json.dumps(_environment(about, outcome), indent=1) + "\n")
    (folder / "kernel.log").write_text(printable(_kernel_log(outcome), lines=True))
    return folder


def write_kernel_folder(
    directory: Path, outcome: TestOutcome, requirements: Mapping[str, Requirement], about: About
) -> Path:
    """Write the folder of what the kernel had to tell of itself: its log, and where it was; no script shows it."""
    folder = _begun(directory, outcome, about)
    sentences = [f"**{requirements[one].level}**: {requirements[one].sentence}" for one in outcome.requirements]
    lines = [
        f"# {', '.join(outcome.requirements)}",
        "",
        *sentences,
        "",
        *_seen(consequence_of(outcome, requirements)),
        f"Linux {markdown(about.kernel)} deviated:",
    ]
    lines += ["", *fenced(outcome.reason), "", "`kernel.log` is the kernel log."]
    (folder / "failure.md").write_text("\n".join(lines) + "\n")
    return folder


def write_plain_folder(
    directory: Path, outcome: TestOutcome, requirements: Mapping[str, Requirement], about: About
) -> Path:
    """Write the folder of an error of the harness, or of a failure that cannot be replayed: all its words."""
    folder = _begun(directory, outcome, about)
    known = [requirements[one] for one in outcome.requirements if one in requirements]
    lines = [f"# {', '.join(outcome.requirements)}", "", *(f"**{one.level}**: {one.sentence}" for one in known), ""]
    lines += _seen(consequence_of(outcome, requirements))
    if outcome.verdict is Verdict.ERROR:
        lines += ["The harness failed in this test, which says nothing about the driver. Please report it.", ""]
    lines += [*fenced(outcome.reason), ""]
    if outcome.steps:
        steps = "\n".join(f"{number:3}. {words}" for number, words in enumerate(outcome.steps, 1))
        lines += ["Steps:", "", *fenced(steps), ""]
    (folder / "failure.md").write_text("\n".join(lines))
    return folder


def _write_script(folder: Path, case: Case, heading: Heading, dialect: Dialect | None, scratch: Path) -> str:
    """Write the script and run it; why there is none, "" if there is."""
    if dialect is None:
        return "this kind of driver has no commands for a reproducer"
    path = folder / "repro.sh"
    try:
        path.write_text(script(case, dialect, heading))
    except NoScript as reason:
        return str(reason)
    path.chmod(0o755)
    code, said = run_script(path, scratch)
    if code == DEVIATES:
        (folder / "repro.log").write_text(printable(cut(said, _LOG), lines=True))
        return ""
    keep = os.environ.get("OVERLAY_CONFORMANCE_KEEP_SCRIPTS")
    if keep:  # for those who work on the scripts
        path.rename(folder / "unconfirmed.sh")
    else:
        path.unlink()
    last = "; ".join(cut(said).strip().splitlines()[-3:])
    return f"the reproducer did not show the failure when it was run (exit status {code}: {last})"


def run_script(path: Path, scratch: Path) -> tuple[int, str]:
    """Run a reproducer by itself; its exit status (124 if it timed out) and its output.

    It has an empty environment but for PATH and TMPDIR, as its reader may, and can write to ``scratch`` only.
    """
    helper = [sys.executable, "-m", "conformance.lab.confined", str(os.getpid())]
    with subprocess.Popen(
        [*helper, str(scratch.resolve()), str(path.resolve())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        try:
            said, _ = process.communicate(timeout=_LIMIT)
        except BaseException as error:
            # The helper is the parent of the script's first process, which ends with it, and all others with that.
            os.killpg(process.pid, signal.SIGKILL)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            said, _ = process.communicate()
            return 124, said.decode(errors="replace")
    return process.returncode, said.decode(errors="replace")


def _heading(case: Case, requirements: Mapping[str, Requirement], about: About, consequence: str) -> Heading:
    sentences = [(one, requirements[one].sentence) for one in case.requirements if one in requirements]
    driver = f"{about.driver} {about.version}"
    if case.backing in ("", HOST):
        return Heading(sentences, driver, about.kernel, about.suite, consequence)
    kind = backing_named(case.backing)
    if kind.fstype == "overlay":
        return Heading(sentences, driver, about.kernel, about.suite, consequence)
    return Heading(sentences, driver, about.kernel, about.suite, consequence, kind.make, kind.fstype)


def _environment(about: About, outcome: TestOutcome) -> dict[str, Any]:
    release = Path("/etc/os-release")
    found = (
        dict(line.partition("=")[::2] for line in release.read_text().splitlines() if "=" in line)
        if release.exists()
        else {}
    )
    filesystems = [line.split()[-1] for line in Path("/proc/filesystems").read_text().splitlines()]
    return {
        "driver": about.driver,
        "driver_version": about.version,
        "suite": about.suite,
        "kernel": platform.release(),
        "kernel_version": platform.version(),
        "machine": platform.machine(),
        "system": found.get("PRETTY_NAME", "").strip('"'),
        "python": platform.python_version(),
        "user": os.geteuid(),
        "backing": outcome.backing,
        "page_size": os.sysconf("SC_PAGESIZE"),
        "filesystems": sorted(set(filesystems)),
        "overlay_parameters": overlaymodule.parameters(),
        "commands": {name: shutil.which(name) or "" for name in ("mount", "unshare", "tar", "containers-storage")},
        "seed": about.seed,
        "examples": about.examples,
        "profile": about.profile,
    }


def _kernel_log(outcome: TestOutcome) -> str:
    done = subprocess.run(["dmesg"], capture_output=True, text=True, check=False, errors="replace")
    tail = done.stdout.splitlines()[-_TAIL:] if done.returncode == 0 else [f"dmesg: {done.stderr.strip()}"]
    during = [f"during the test: {line}" for line in outcome.kernel]
    return "\n".join([*during, *tail]) + "\n"


def listing(tree: Snapshot) -> str:
    """A tree as text, a line for each entry, made to be compared with diff(1)."""
    lines = [_entry(path, node) for path, node in sorted(tree.nodes.items())]
    links = [f"one inode: {', '.join(map(shown, group))}" for group in sorted(map(sorted, tree.link_groups))]
    return "\n".join([*lines, *links]) + "\n"


def _entry(path: bytes, node: Node) -> str:
    parts = [
        stat.filemode(node.mode),
        f"{node.uid}:{node.gid}",
        f"{len(node.content)} bytes" if node.is_regular else "-",
    ]
    parts.append("any time" if node.mtime_ns is None else f"{node.mtime_ns / 1e9:.9f}")
    parts.append(shown(path))
    if node.is_symlink:
        parts.append(f"-> {shown(node.target)}")
    if node.device != (0, 0):
        parts.append("device {}:{}".format(*node.device))
    if node.is_regular and node.content:
        parts.append(f"= {shown(node.content[:48])}" + ("..." if len(node.content) > 48 else ""))
    if node.xattrs:
        parts.append(", ".join(f"{name}={shown(value)}" for name, value in sorted(node.xattrs.items())))
    return "  ".join(parts)


def explained(differences: tuple[Difference, ...], case: Case) -> Iterator[str]:
    """Each difference with what it means, and the last operation that named the path."""
    for one in differences:
        yield one.text
        yield f"    {_MEANING[one.what]}"
        touched = _last_touched(one.path, case.steps)
        if touched:
            yield f"    last touched by: {touched}"


def _last_touched(path: bytes, steps: Sequence[Step]) -> str:
    for step in reversed(steps):
        if isinstance(step, Did) and path in ops.paths_of(step.operation).values():
            return f"{ops.describe(step.operation)} in {step.layer}"
    return ""


def _seen(consequence: str) -> list[str]:
    return [f"{LABEL[0].upper()}{LABEL[1:]}: {consequence}", ""] if consequence else []


def _in_words(
    case: Case, requirements: Mapping[str, Requirement], about: About, consequence: str, why_no_script: str
) -> str:
    lines = [f"# {', '.join(case.requirements)}", ""]
    for name in case.requirements:
        if name in requirements:
            one = requirements[name]
            lines += [f"**{one.level}**: {one.sentence}", "", f"Source: {in_markdown(one.source)}", ""]
    lines += _seen(consequence)
    where = f" on {case.backing}" if case.backing not in ("", HOST) else ""
    driver = markdown(f"{about.driver} {about.version}")
    lines += [f"{driver} on Linux {markdown(about.kernel)}{where} deviates:", ""]
    steps = "\n".join(f"{number:3}. {words}" for number, words in enumerate(case.trace, 1))
    lines += [*fenced(case.reason), "", example_heading(minimal=about.shrinks), "", *fenced(steps), ""]
    if isinstance(case.finding, TreeDiffers):
        lines += [
            "`difference.txt` explains each difference; `expected.txt` and `actual.txt` are the complete trees.",
            "",
        ]
    if why_no_script:
        lines += [f"There is no reproducer: {markdown(why_no_script)}.", ""]
    else:
        lines += [
            "`repro.sh` reproduces the failure without overlay-conformance. It needs a POSIX shell, coreutils,"
            " mount and the driver's own commands. It was run once and showed the deviation (`repro.log`). Its"
            " exit status is 1 if the driver deviates, 0 if it does not, and 2 if the script cannot tell.",
            "",
            "```sh",
            "sudo sh repro.sh",
            "```",
            "",
        ]
    again = f"overlay-conformance replay case.json {shlex.quote(case.driver)}"
    lines += ["With overlay-conformance:", "", *fenced(again, "sh"), ""]
    return "\n".join(lines)
