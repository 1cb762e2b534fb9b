"""Kernels that are compiled, tried on a source package whose kernel is a program of one line."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from vm import compiling, hosts
from vm.debian import NoPackage, Package, Suite
from vm.matrix import Kernel, Uml, load

FOUND = {
    "cc": shutil.which("cc"),
    "make": shutil.which("make"),
    "flex": shutil.which("flex"),
    "bison": shutil.which("bison"),
    "bc": shutil.which("bc"),
    "xz": shutil.which("xz"),
    "dpkg-deb": shutil.which("dpkg-deb"),
    "cpio": shutil.which("cpio"),
    "ldd": shutil.which("ldd"),
}
pytestmark = pytest.mark.skipif(None in FOUND.values(), reason=f"needs {', '.join(FOUND)}")
MAKEFILE = """\
allnoconfig:
\tgrep CONFIG_ $(KCONFIG_ALLCONFIG) >.config
\tmkdir -p include/config
\techo 9.9.9 >include/config/kernel.release
linux: first.o second.o
\tcc -o $@ first.o second.o
first.o:
\techo 'int main(void) { return 0; }' | cc -xc -c -o $@ -
\techo made >>made.first
"""
SECOND = "second.o:\n\techo 'int other;' | cc -xc -c -o $@ -\n"
NAME = "linux-source-9.9"


class Shelf(Suite):
    """A suite whose packages are in the cache already."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.name = "none"
        self.mirror = self.security = "http://127.0.0.1:9"

    def package(self, name: str) -> Package:
        return Package(name, "1", f"pool/{name}_1_all.deb", "")


def deb(cache: Path, name: str, version: str, files: dict[str, bytes]) -> Path:
    tree = cache / "deb" / name
    (tree / "DEBIAN").mkdir(parents=True)
    about = f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: a\nDescription: a\n"
    (tree / "DEBIAN/control").write_text(about)
    for path, content in files.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_bytes(content)
    (cache / "packages").mkdir(exist_ok=True)
    file = cache / "packages" / f"{name}_{version}_all.deb"
    subprocess.run(["dpkg-deb", "--build", str(tree), str(file)], check=True, capture_output=True)
    return file


def kernel_of(cache: Path, makefile: str = MAKEFILE + SECOND) -> tuple[Kernel, Uml]:
    """A kernel of a source package in the cache, and what its initrd takes."""
    source = cache / "linux-source-9.9"
    source.mkdir()
    (source / "Makefile").write_text(makefile)
    (source / "sound").mkdir()
    (source / "sound/left-out.c").touch()
    packed = subprocess.check_output(["tar", "-cJ", "-C", str(cache), source.name])
    file = deb(cache, NAME, "9.9.9-1", {f"usr/src/{NAME}.tar.xz": packed})
    deb(cache, "busybox-static", "1", {"bin/busybox": b"busybox"})
    uml = Uml("none", source=NAME, version="9.9.9-1", sha256=hashlib.sha256(file.read_bytes()).hexdigest())
    return replace(load().kernels[0], name="k9-9", release="9.9", uml=uml), uml


def test_a_kernel_is_compiled_once_and_runs_in_its_root(tmp_path: Path) -> None:
    kernel, uml = kernel_of(tmp_path)
    suite, said = Shelf(tmp_path), list[str]()
    built = compiling.build(kernel, uml, suite, suite, tmp_path, said.append)
    assert (built.release, built.version) == ("9.9.9", "9.9.9-1")
    root = built.initrd.parent
    loader = next(root.glob("lib*/ld-linux*"))
    libraries = {str(path.parent) for path in root.rglob("libc.so.6")}
    subprocess.run([str(loader), "--library-path", ":".join(libraries), str(built.vmlinuz)], check=True)
    listed = subprocess.check_output(f"zcat {built.initrd} | cpio -t --quiet", shell=True, text=True)
    assert {"init", "bin/busybox"} <= set(listed.split())
    assert not [path for path in (tmp_path / compiling.TREES).iterdir() if path.is_dir()]
    assert said[-1].startswith("k9-9: compiled in ")
    said.clear()
    assert compiling.build(kernel, uml, suite, suite, tmp_path, said.append) == built
    assert said == []


def test_a_build_that_ended_goes_on_where_it_was(tmp_path: Path) -> None:
    kernel, uml = kernel_of(tmp_path, MAKEFILE + "second.o: first.o\n\tcc -c /nonexistent.c -o $@\n")
    suite = Shelf(tmp_path)
    with pytest.raises(compiling.NotCompiled, match=r"k9-9 could not be compiled: .*nonexistent") as raised:
        compiling.build(kernel, uml, suite, suite, tmp_path, print)
    log = Path(str(raised.value).rpartition("see ")[2])
    assert "nonexistent" in log.read_text()
    (tree,) = (path for path in (tmp_path / compiling.TREES).iterdir() if path.is_dir())
    assert not (tree / "sound/left-out.c").exists()
    (tree / "Makefile").write_text(MAKEFILE.replace("echo made", "echo twice") + SECOND)
    assert compiling.build(kernel, uml, suite, suite, tmp_path, print).release == "9.9.9"
    assert not tree.exists()


def test_what_compiles_ends_at_the_limit(tmp_path: Path) -> None:
    kernel, _ = kernel_of(tmp_path)
    (tmp_path / "Makefile").write_text("linux:\n\techo $$$$ >pid; exec sleep 1000\n")
    with pytest.raises(compiling.NotCompiled, match=r"k9-9 was not compiled within 1 s"):
        compiling.compile_in(kernel, tmp_path, os.open(tmp_path / "lock", os.O_CREAT | os.O_RDWR), print, limit=1)
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()


def test_a_make_that_outlived_its_run_is_waited_for(tmp_path: Path) -> None:
    kernel, uml = kernel_of(tmp_path, MAKEFILE + "second.o:\n\tfalse\n")
    suite = Shelf(tmp_path)
    with pytest.raises(compiling.NotCompiled):
        compiling.build(kernel, uml, suite, suite, tmp_path, print)
    (makefile,) = (tmp_path / compiling.TREES).glob("*/Makefile")
    makefile.write_text(MAKEFILE + SECOND)
    (lock,) = (tmp_path / compiling.TREES).glob("*.lock")
    waiting = threading.Event()

    def say(what: str) -> None:
        if "waiting for the make" in what:
            waiting.set()

    job = threading.Thread(target=compiling.build, args=(kernel, uml, suite, suite, tmp_path, say))
    words = ["flock", str(lock), "sh", "-c", "echo up; read line"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == b"up\n"
        job.start()
        assert waiting.wait(60)
        assert not list((tmp_path / "kernels").glob("*"))
        other.stdin.close()
    job.join(60)
    assert list((tmp_path / "kernels").glob("*/root"))


@pytest.mark.parametrize(
    ("uml", "complaint"),
    [
        ({"sha256": "0" * 64}, rf"{NAME}_9\.9\.9-1_all\.deb has the digest "),
        ({"version": "9.9.8-1"}, rf"{NAME}_9\.9\.8-1_all\.deb is in the pool no more"),
    ],
)
def test_a_source_that_is_not_that_of_the_matrix_is_refused(
    tmp_path: Path, uml: dict[str, str], complaint: str
) -> None:
    kernel, right = kernel_of(tmp_path)
    suite = Shelf(tmp_path)
    with pytest.raises(NoPackage, match=complaint):
        compiling.build(kernel, replace(right, **uml), suite, suite, tmp_path, print)


def test_a_release_that_is_not_that_of_the_matrix_is_refused(tmp_path: Path) -> None:
    kernel, uml = kernel_of(tmp_path)
    suite = Shelf(tmp_path)
    with pytest.raises(NoPackage, match=rf"k9-9: {NAME} is 9\.9\.9, not 9\.8; see matrix\.yaml"):
        compiling.build(replace(kernel, release="9.8"), uml, suite, suite, tmp_path, print)


def test_an_option_that_a_kernel_does_not_take_is_named(tmp_path: Path) -> None:
    kernel, uml = kernel_of(tmp_path, (MAKEFILE + SECOND).replace("grep CONFIG_", "grep -v XFS"))
    suite = Shelf(tmp_path)
    with pytest.raises(compiling.NotCompiled, match=r"k9-9 does not take CONFIG_XFS_FS=y, "):
        compiling.build(kernel, uml, suite, suite, tmp_path, print)


def test_a_program_that_is_missing_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(hosts.NotReady, match=r"k6-18 is compiled, and there is no cc, .*libc6-dev"):
        hosts.check_compiler("k6-18")


def test_kernels_with_a_digest_are_of_the_release_that_they_say() -> None:
    found = [(kernel, kernel.uml) for kernel in load().kernels if kernel.uml and kernel.uml.source]
    assert len(found) >= 6
    for kernel, uml in found:
        assert uml.source == f"linux-source-{kernel.release}"
        assert not uml.version or re.match(rf"{re.escape(kernel.release)}\.\d+-", uml.version)
