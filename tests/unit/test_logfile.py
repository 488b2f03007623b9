"""The log of a daemon that has no standard error."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from keychain_auth.daemon.journal import Journal
from keychain_auth.daemon.logfile import log_stream, open_log


def test_standard_error_if_there_is_one_else_a_private_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert log_stream(str(tmp_path / "none")) is sys.stderr
    assert not (tmp_path / "none").exists()
    monkeypatch.setattr(sys, "stderr", None)
    folder = str(tmp_path / "data")
    for number in range(2):
        with log_stream(folder) as stream:
            journal = Journal(stream=stream)
            journal.info("started", number=number, odd="\ud800")
            journal.close()
    path = os.path.join(folder, "daemon.log")
    with open(path, encoding="utf-8") as file:
        assert [line.split()[2:4] for line in file] == [["started", "number=0"], ["started", "number=1"]]
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_a_large_one_goes_aside_and_a_link_is_not_followed(tmp_path: Path) -> None:
    folder = str(tmp_path / "data")
    open_log(folder).close()
    path = os.path.join(folder, "daemon.log")
    os.truncate(path, 1024 * 1024 + 1)
    open_log(folder).close()
    assert (os.path.getsize(path), os.path.getsize(f"{path}.1")) == (0, 1024 * 1024 + 1)
    os.unlink(path)
    os.symlink(str(tmp_path / "elsewhere"), path)
    with pytest.raises(OSError, match="symbolic link"):
        open_log(folder)
    assert not (tmp_path / "elsewhere").exists()
