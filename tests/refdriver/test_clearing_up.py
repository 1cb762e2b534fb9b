"""What fails after a call is done, and layers that go while they are looked at."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

import pytest

from refdriver import Driver, errors
from refdriver.staging import Staging

pytestmark = pytest.mark.mounts


@pytest.mark.parametrize("call", ["create", "remove"])
def test_a_call_that_is_done_says_so_though_its_area_stays(
    driver: Driver, home: Path, call: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    driver.create("there")

    def failing(*area: object) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(area))

    with monkeypatch.context() as patched:
        patched.setattr(Staging, "_discard", failing)
        with caplog.at_level(logging.WARNING, "refdriver"):
            driver.create("new") if call == "create" else driver.remove("there")
    assert driver.exists("new" if call == "create" else "there") is (call == "create")
    assert "the next opening of the home tries again" in caplog.text
    with Driver(home):
        assert not (home / "staging").exists()
    assert len(os.listdir(home / "l")) == (2 if call == "create" else 0)


def test_a_layer_whose_short_link_cannot_be_read_is_not_removed(
    driver: Driver, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver.create("layer")

    def failing(path: str) -> str:
        raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    with monkeypatch.context() as patched:
        patched.setattr(os, "readlink", failing)
        with pytest.raises(OSError, match="Input/output"):
            driver.remove("layer")
    assert driver.exists("layer")
    driver.remove("layer")
    with Driver(home):
        assert os.listdir(home / "l") == []
        assert not (home / "staging").exists()


def test_the_size_of_a_layer_that_goes_is_of_no_layer(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    driver.create("layer")
    Path(driver.get("layer"), "d").mkdir()
    real = os.scandir

    def removing(path: str) -> object:
        monkeypatch.setattr(os, "scandir", real)
        driver.remove("layer")
        return real(path)

    monkeypatch.setattr(os, "scandir", removing)
    with pytest.raises(errors.LayerNotFound):
        driver.diff_size("layer")


def test_a_size_that_cannot_be_read_is_none(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    driver.create("layer")

    def failing(path: str) -> object:
        raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    monkeypatch.setattr(os, "scandir", failing)
    with pytest.raises(errors.UnreadableLayer, match="Input/output"):
        driver.diff_size("layer")
