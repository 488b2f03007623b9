"""A stand-in for what macOS has in C, compiled once; its calls are made through ctypes as on macOS."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from keychain_auth.native import foundation, keychain_services, library
from keychain_auth.platform.macos import code_signature, libproc

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "c")


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> str:
    if shutil.which("gcc") is None:
        pytest.skip("the stand-in for macOS needs gcc")
    made = str(tmp_path_factory.mktemp("macos") / "stand_in.so")
    sources = [os.path.join(HERE, name) for name in sorted(os.listdir(HERE)) if name.endswith(".c")]
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-O1", "-g", "-Wall", "-Wextra", "-Wno-sign-compare", "-o", made, *sources],
        check=True,
    )
    return made


@pytest.fixture
def macos(compiled: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Both frameworks are the stand-in; at the end, nothing that was made is left."""
    stand_in = ctypes.CDLL(compiled, use_errno=True)
    stand_in.fake_record.restype = ctypes.c_char_p
    stand_in.fake_alive.restype = ctypes.c_long
    stand_in.fake_foreign.argtypes = (
        ctypes.c_char_p, ctypes.c_long, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_long,
    )  # fmt: skip
    stand_in.fake_process.argtypes = (
        *[ctypes.c_int] * 6, ctypes.c_uint64, ctypes.c_char_p, ctypes.c_uint32, ctypes.c_uint64, *[ctypes.c_int64] * 3,
    )  # fmt: skip
    stand_in.fake_socket.argtypes = (*[ctypes.c_int] * 3, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_int)
    caches = (foundation.calls, keychain_services._calls, libproc._calls, code_signature._calls)
    monkeypatch.setattr(library, "framework", lambda name: stand_in)
    monkeypatch.setattr(library, "libsystem", lambda: stand_in)
    for each in caches:
        each.cache_clear()
    yield stand_in
    stand_in.fake_reset()
    stand_in.fake_forget()
    for each in caches:
        each.cache_clear()
    assert stand_in.fake_alive() == 0
