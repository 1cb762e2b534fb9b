"""The mounters: the kernel as the control column, commands that mount, and commands that do it wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import textwrap
import time
from pathlib import Path

import pytest
from commanding import command
from reading import verdicts

from conformance.drivers import registry
from conformance.drivers.mounter import marks, reading, writing
from conformance.drivers.mounter.layers import Layers
from conformance.drivers.mounter.mounters import Command
from conformance.drivers.protocol import CallLimit, DriverFailed, DriverRefused, DriverUnderTest, OpenRequest
from conformance.drivers.registry import UnknownDriver
from conformance.lab.overlaymount import takes_lowers

COMMAND = [sys.executable, "-m", "conformance"]
FUSE = "mounter:fuse-overlayfs -o lowerdir={lowers},upperdir={upper},workdir={work} {merged}"
with_fuse = pytest.mark.skipif(
    shutil.which("fuse-overlayfs") is None or not os.path.exists("/dev/fuse"),
    reason="there is no fuse-overlayfs; on Debian and Ubuntu: apt-get install fuse-overlayfs",
)
# Families of which each requirement is about mounts, and a few examples each: the whole is what `run` is for.
FAMILIES = ("merged-view", "whiteouts-and-opaque", "chain-and-depth", "mounting")


def run(*words: str, namespace: bool = False) -> subprocess.CompletedProcess[str]:
    if not namespace:
        return command("run", *words, "--no-evidence")
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    return subprocess.run(
        [*unshare, *COMMAND, "run", *words, "--no-evidence"], capture_output=True, text=True, check=False
    )


def opened(connection: str, directory: Path) -> DriverUnderTest:
    return registry.connect(connection).open(OpenRequest(directory, limit=CallLimit(10)))


def wrapper(directory: Path, body: str) -> str:
    """A connection string of a script that mounts by ``mount -t overlay`` unless ``body`` does otherwise."""
    script = directory / "mounter.sh"
    script.write_text("#!/bin/sh\nset -eu\nlowers=$1 upper=$2 work=$3 merged=$4\n" + textwrap.dedent(body))
    script.chmod(0o755)
    return f"mounter:{script} {{lowers}} {{upper}} {{work}} {{merged}}"


# From the home, with relative paths, as a page of options holds no long chain of absolute ones.
MOUNT = """
home=${merged%/*/*}
cd "$home"
lowers=$(printf %s "$lowers" | sed "s#$home/##g") upper=${upper#"$home"/} work=${work#"$home"/}
mount -t overlay overlay -o "lowerdir=$lowers,upperdir=$upper,workdir=$work" "$merged"
"""


# Connection strings


@pytest.mark.parametrize(
    ("connection", "said"),
    [
        ("mounter:kernal", "there is no mounter 'kernal' (did you mean 'kernel'?)"),
        ("mounter:", "mounter:kernel"),
        ("mounter:kernel?api=nwe", "there is no api 'nwe' (did you mean 'new'?)"),
        ("mounter:kernel?optoin=index=on", "there is no option 'optoin' (did you mean 'option'?)"),
        ("mounter:kernel?option=lowerdir=/", "the harness names the directories of a mount"),
        ("mounter:kernel?unmount=umount {merged}", "the kernel unmounts by umount2(2)"),
        ("mounter:mount {lowers} {merged}", "the command lacks {upper}, {work}"),
        ("mounter:mount {lowers} {upper} {work} {merged}?unmount=umount", "the command of unmount lacks {merged}"),
        ("mounter:mount {lowers} {upper} {work} {merged}?api=new", "api and option are for mounter:kernel"),
        ("mounter:no-such-command {lowers} {upper} {work} {merged}", "there is no command 'no-such-command'"),
    ],
)
def test_a_wrong_connection_says_what_to_write(connection: str, said: str) -> None:
    with pytest.raises(UnknownDriver) as refused:
        registry.connect(connection)
    assert said in str(refused.value)


def test_a_reproducer_is_known_without_a_mount() -> None:
    assert registry.dialect_of("mounter:kernel?api=new") is not None
    with pytest.raises(UnknownDriver, match="there is no command"):
        registry.dialect_of("mounter:no-such-command {lowers} {upper} {work} {merged}")


# The kernel conforms


@pytest.mark.mounts
@pytest.mark.parametrize("namespace", [False, True], ids=["root", "user-namespace"])
@pytest.mark.parametrize("api", ["classic", "new"])
def test_the_kernel_conforms(api: str, namespace: bool, scratch: Path) -> None:
    if api == "new" and (why := takes_lowers()):
        pytest.skip(why)
    families = [word for family in FAMILIES for word in ("--family", family)]
    results = scratch / "results.json"
    words = [f"mounter:kernel?api={api}", *families, "--examples", "2", "--results", str(results)]
    done = run(*words, "--scratch", str(scratch), namespace=namespace)
    assert done.returncode == 0, done.stdout + done.stderr
    found = verdicts(results)
    for requirement in ("OVL-TREE-MODEL", "OVL-OPAQUE-DEEP", "OVL-CHAIN-128", "OVL-MOUNT-PAGE-BOUNDARY"):
        assert found[requirement] == "PASS", requirement
    # What the harness does for a mounter is not the mounter's.
    assert found["OVL-WHITEOUT-FORM"] == "DECLINED"


@pytest.mark.mounts
@pytest.mark.parametrize(
    "option", ["index=on", "xino=on", "volatile", "userxattr", "metacopy=on", "redirect_dir=on"]
)
def test_an_option_of_overlay_is_a_key(option: str, scratch: Path) -> None:
    words = ["--requirement", "OVL-MOUNT-AGAIN", "--requirement", "OVL-MOUNT-TOGETHER"]
    words += ["--requirement", "OVL-APPLY-ROUND-TRIP", "--examples", "5", "--scratch", str(scratch)]
    done = run(f"mounter:kernel?option={option}", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PASS  ") == 3, done.stdout


@pytest.mark.mounts
def test_an_unknown_option_is_refused_by_the_kernel(scratch: Path) -> None:
    done = run("mounter:kernel?option=nonsense", "--profile", "smoke", "--scratch", str(scratch))
    assert done.returncode == 2
    assert "overlay cannot be mounted: Invalid argument" in done.stdout + done.stderr
    assert list(scratch.iterdir()) == []


# fuse-overlayfs


@with_fuse
@pytest.mark.mounts
def test_fuse_overlayfs_is_judged(scratch: Path) -> None:
    done = run(FUSE, "--profile", "smoke", "--scratch", str(scratch))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASS            OVL-LIFE-CREATE" in done.stdout
    assert servers_below(scratch) == []


@with_fuse
@pytest.mark.mounts
@pytest.mark.parametrize(
    ("requirement", "conforms"),
    [
        # Copying it up opens it; seen in 1.10 and 1.14.
        ("OVL-META-FIFOS", "changes FIFOs of a lower layer"),
        # In a recreated directory; seen in 1.4, 1.10 and 1.14 (containers/fuse-overlayfs#324).
        ("OVL-WHITEOUT-HIDES", "finds no deleted names"),
    ],
)
def test_a_deviation_of_fuse_overlayfs_has_a_reproducer(requirement: str, conforms: str, scratch: Path) -> None:
    evidence = scratch / "evidence"
    words = ["run", FUSE, "--requirement", requirement, "--scratch", str(scratch), "--evidence", str(evidence)]
    done = command(*words)
    if done.returncode == 0:
        pytest.skip(f"this fuse-overlayfs {conforms}")
    folder = min(evidence.iterdir())
    script = (folder / "repro.sh").read_text()
    assert "fuse-overlayfs -o" in script
    assert "conformance" not in script.partition("set -eu")[2]
    again = subprocess.run(["sh", folder / "repro.sh"], capture_output=True, text=True, check=False)
    assert again.returncode == 1, again.stdout + again.stderr
    assert servers_below(scratch) == []


@with_fuse
@pytest.mark.mounts
@pytest.mark.parametrize("victim", ["run", "worker"])
def test_nothing_is_left_of_a_run_that_is_killed(victim: str, scratch: Path) -> None:
    words = [*COMMAND, "run", FUSE, "--requirement", "OVL-TREE-MODEL", "--no-evidence", "--scratch", str(scratch)]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        # A server may be gone again when its parent is looked up.
        while not (parents := [*filter(None, map(parent_of, servers_below(scratch)))]):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        if victim == "run":
            process.kill()
        else:  # the parent of the server, as it is a subreaper
            os.kill(parents[0], 9)
            process.terminate()
        process.wait(60)
    deadline = time.monotonic() + 30
    while servers_below(scratch) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert servers_below(scratch) == []
    assert str(scratch) not in Path("/proc/self/mountinfo").read_text()


def parent_of(process: int) -> int | None:
    """None if it has ended."""
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None


def servers_below(directory: Path) -> list[int]:
    """Processes that serve a mount below a directory."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes() if entry.name.isdecimal() else b""
        except OSError:
            continue
        if words.startswith(b"fuse-overlayfs") and os.fsencode(directory) in words:
            found.append(int(entry.name))
    return found


# Mounters that are wrong: each fails by what it does wrong, and is never an error of the harness

REVERSED = """
reversed=
IFS=:
for one in $lowers; do reversed=$one${reversed:+:$reversed}; done
lowers=$reversed
"""
WRONG = {
    "swaps-lowers": (REVERSED + MOUNT, "OVL-CHAIN-ORDER"),
    "drops-a-lower": ("case $lowers in *:*) lowers=${lowers%:*} ;; esac\n" + MOUNT, "OVL-CHAIN-ORDER"),
    "forgets-opaque": (
        MOUNT
        + 'find "${lowers%%:*}" -type d -exec setfattr -x trusted.overlay.opaque {} \\; 2>/dev/null || true\n',
        "OVL-OPAQUE-DEEP",
    ),
    "deletes-whiteouts": (
        'IFS=:\nfor one in $lowers; do find "$one" -type c -delete; done\nunset IFS\n' + MOUNT,
        "OVL-WHITEOUT-HIDES",
    ),
}


@pytest.mark.mounts
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_mounter_fails_by_what_it_does(name: str, scratch: Path) -> None:
    body, requirement = WRONG[name]
    results = scratch / "results.json"
    words = ["--requirement", requirement, "--results", str(results), "--scratch", str(scratch)]
    done = run(wrapper(scratch, body), *words, "--no-shrink", "-x")
    assert done.returncode == 1, done.stdout + done.stderr
    assert verdicts(results)[requirement] == "FAIL"


@pytest.mark.mounts
def test_a_right_mounter_fails_by_none_of_it(scratch: Path) -> None:
    words = [word for one in sorted({broken for _, broken in WRONG.values()}) for word in ("--requirement", one)]
    done = run(wrapper(scratch, MOUNT), *words, "--scratch", str(scratch))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.mounts
def test_a_mounter_that_mounts_read_only_fails(scratch: Path) -> None:
    done = run(wrapper(scratch, MOUNT + 'mount -o remount,ro "$merged"\n'), "--scratch", str(scratch))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAIL OVL-TREE-MODEL" in done.stdout


@pytest.mark.mounts
def test_a_mounter_that_does_not_unmount_fails(scratch: Path) -> None:
    words = ["--requirement", "OVL-MOUNT-LAST-PUT", "--scratch", str(scratch)]
    done = run(wrapper(scratch, MOUNT) + "?unmount=true {merged}", *words)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAIL OVL-MOUNT-LAST-PUT" in done.stdout
    done = run(wrapper(scratch, MOUNT) + "?unmount=umount {merged}", *words)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.mounts
@pytest.mark.parametrize(
    ("body", "said"),
    [
        (MOUNT.replace('" "$merged"', '" "$work/.."'), "should have mounted"),
        ("true\n", "but it mounted nothing"),
        ("echo no such module >&2; exit 32\n", "exited with 32: no such module"),
        ('mount --bind /etc "$merged"\n', "OVL-MOUNT-CONTAINED"),
        (MOUNT + "echo x >/etc/written-by-a-mounter\n", "Read-only file system"),
        (MOUNT + "mkdir -p /run/elsewhere && mount -t tmpfs none /run\n", ""),
        ("kill -SEGV $$\n", "SIGSEGV"),
    ],
    ids=["elsewhere", "nothing", "refuses", "shows-the-host", "writes-outside", "mounts-outside", "crashes"],
)
def test_a_harmful_mounter_is_not_judged(body: str, said: str, scratch: Path) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    done = run(wrapper(scratch, body), "--scratch", str(scratch))
    assert done.returncode in (1, 2), done.stdout + done.stderr
    assert said in done.stdout + done.stderr
    assert not os.path.exists("/etc/written-by-a-mounter")
    assert Path("/proc/self/mountinfo").read_text() == before


@pytest.mark.mounts
def test_a_mounter_that_hangs_is_ended(scratch: Path) -> None:
    done = run(wrapper(scratch, "sleep 600 & sleep 600\n"), "--call-timeout", "1", "--scratch", str(scratch))
    assert done.returncode == 2, done.stdout + done.stderr
    assert "did not answer get within 1 s" in done.stdout + done.stderr


# The parts


@pytest.mark.mounts
@with_fuse
def test_a_server_ends_with_its_mount(scratch: Path) -> None:
    driver = opened(FUSE, scratch)
    driver.create("a", "")
    root = driver.get("a")
    (Path(root) / "x").write_text("x")
    assert len(servers_below(scratch)) == 1
    driver.put("a")
    assert servers_below(scratch) == []
    driver.get("a")
    driver.close()
    assert servers_below(scratch) == []
    assert not os.path.ismount(root)


@pytest.mark.mounts
@with_fuse
def test_a_tree_that_hangs_is_ended(scratch: Path) -> None:
    """A server that is stopped answers no operation; it is killed when the limit of a call is over."""
    source = registry.connect(FUSE)
    driver = source.open(OpenRequest(scratch, limit=CallLimit(1)))
    driver.create("a", "")
    root = driver.get("a")
    os.kill(servers_below(scratch)[0], 19)
    with pytest.raises(OSError, match=r"not connected|abort"):
        os.listdir(root)
    with pytest.raises(DriverFailed, match="an operation in a mounted tree"):
        driver.put("a")
    driver.close()
    assert servers_below(scratch) == []


def test_paths_are_relative_in_a_home_whose_path_cannot_be_in_a_list(scratch: Path) -> None:
    words = Command(("m", "-o", "lowerdir={lowers},upperdir={upper},workdir={work}", "{merged}"))
    for name, expected in (
        ("plain", f"lowerdir={scratch}/plain/1/diff:{scratch}/plain/"),
        ("a:b", "lowerdir=1/diff:"),
    ):
        home = scratch / name
        layers = Layers(home)
        layers.create("one", "")
        layers.create("two", "one")
        layers.create("three", "two")
        stack = layers.begin_view("three")
        filled, directory = words.filled(words.words, home, stack)
        assert stack.lowers == ("2/diff", "1/diff")
        assert filled[2].startswith(expected.replace("1/diff:", "2/diff:"))
        assert directory == (str(home) if ":" in name else "/")


def test_a_layer_with_children_is_shown_by_an_upper_of_its_own(scratch: Path) -> None:
    layers = Layers(scratch / "home")
    layers.create("base", "")
    layers.create("child", "base")
    assert layers.begin_view("child").upper == "2/diff"
    view = layers.begin_view("base")
    assert (view.lowers, view.upper, view.read_only) == (("1/diff",), "1/view/diff", True)
    layers.end_view("base")
    assert sorted(os.listdir(scratch / "home" / "1")) == ["diff", "merged", "work"]
    with pytest.raises(DriverRefused, match="'child'"):
        layers.remove("base")
    layers.remove("child")
    assert not layers.begin_view("base").read_only
    again = Layers(scratch / "home")
    assert "base" in again
    again.create("new", "base")
    assert again.upper("new").parent.name == "3"  # a number is never used again


@pytest.mark.mounts
def test_marks_of_overlay_and_of_archives_are_each_others(scratch: Path) -> None:
    """An upper directory, its archive, and the upper directory that the archive makes."""
    lower, upper, copy = scratch / "lower", scratch / "upper", scratch / "copy"
    for directory in (lower / "d", lower / "e", upper / "d", upper / "new", copy):
        directory.mkdir(parents=True)
    (lower / "a").touch()
    (upper / ".wh.aufs").touch()
    (upper / "f").write_text("f")
    os.link(upper / "f", upper / "g")
    os.utime(upper / "f", ns=(1, 1_400_000_000_000_000_001))
    os.setxattr(upper / "f", "user.x", b"\xff\0")
    for path in (upper / "a", upper / ".wh.odd"):
        marks.make_whiteout(os.fsencode(path))
    for path in (upper / "d", upper / "new"):
        marks.make_opaque(os.fsencode(path), "trusted")
    archive = scratch / "archive.tar"
    for aufs, expected in ((False, set()), (True, {".wh.aufs"})):
        entries = writing.native(upper, [lower], names_of_aufs=aufs)
        assert entries is not None
        writing.write(upper, entries, archive)
        with tarfile.open(archive) as tar:
            names = set(tar.getnames())
            assert tar.getmember("g").linkname == "f"
            assert not any("overlay" in key for one in tar for key in one.pax_headers)
        # "new" hides nothing, as there is no such directory below.
        assert names == {"d", "d/.wh..wh..opq", "new", "f", "g", ".wh.a"} | expected
    reading.apply(archive, copy, [lower], "trusted")
    assert sorted(os.listdir(copy)) == ["a", "d", "f", "g", "new"]  # nothing is below for "aufs" to delete
    assert marks.is_whiteout(os.lstat(copy / "a"))
    assert marks.is_opaque(os.fsencode(copy / "d"))
    assert not marks.is_opaque(os.fsencode(copy / "new"))
    assert os.stat(copy / "f").st_mtime_ns == 1_400_000_000_000_000_001
    assert os.getxattr(copy / "f", "user.x") == b"\xff\0"
    assert os.stat(copy / "f").st_nlink == 2
    os.setxattr(upper / "f", "trusted.overlay.metacopy", b"")
    assert writing.native(upper, [lower], names_of_aufs=False) is None


@pytest.mark.parametrize("name", ["../x", "link/x", "f/x"])
def test_the_harness_unpacks_nothing_outside_of_the_upper_directory(name: str, scratch: Path) -> None:
    upper = scratch / "upper"
    upper.mkdir()
    (upper / "link").symlink_to(scratch)
    (upper / "f").touch()
    with tarfile.open(scratch / "archive.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo(name))
    with pytest.raises(DriverRefused):
        reading.apply(scratch / "archive.tar", upper, [], "trusted")
    assert sorted(os.listdir(scratch)) == ["archive.tar", "upper"]


@pytest.mark.mounts
def test_a_mounter_with_a_format_of_its_own_declines_diffs(scratch: Path) -> None:
    """Deletions that are neither devices nor names of AUFS are no defect, but nobody can write them down."""
    own = MOUNT.replace("upperdir=$upper", "upperdir=$upper/.own")
    declined = registry.connect(wrapper(scratch, 'mkdir -p "$upper/.own"\n' + own)).info.declined
    assert "format other than overlay's" in declined["diff"]
    assert declined["apply"] == declined["diff"]
    other = scratch / "other"  # what a command lacks is found out once in a process
    other.mkdir()
    declined = registry.connect(wrapper(other, MOUNT)).info.declined
    assert "diff" not in declined
    assert "apply" not in declined
    assert "user-xattrs" not in declined
    assert "kernel-overlay" in declined
