"""A real browser without a window: what it makes of a page, and pictures of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--virtual-time-budget=2000",
)  # fmt: skip


def needs_browser() -> str:
    """The browser's path. Skips the test where there is none."""
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("chromium is not installed (apt-get install chromium)")
    return found


@contextmanager
def _folder() -> Iterator[str]:
    folder = tempfile.mkdtemp(prefix="ka-browser-")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def document_after(page: str) -> str:
    """The document that ``page`` (HTML) has become once it was loaded, scripts and all."""
    browser = needs_browser()
    with _folder() as folder:
        path = _written(folder, page)
        done = _run(browser, folder, "--dump-dom", f"file://{path}")
        return done.stdout.decode()


def picture(page: str, *, width: int, height: int, dark: bool) -> bytes:
    """A picture (PNG) of ``page``."""
    browser = needs_browser()
    with _folder() as folder:
        path = _written(folder, page)
        image = os.path.join(folder, "picture.png")
        scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
        _run(browser, folder, f"--window-size={width},{height}", scheme, f"--screenshot={image}", f"file://{path}")
        with open(image, "rb") as file:
            return file.read()


def _written(folder: str, page: str) -> str:
    path = os.path.join(folder, "page.html")
    with open(path, "w", encoding="utf-8") as file:
        file.write(page)
    return path


def _run(browser: str, folder: str, *words: str) -> subprocess.CompletedProcess[bytes]:
    home = {"HOME": folder, "PATH": "/usr/bin:/bin", "TMPDIR": folder, "XDG_RUNTIME_DIR": folder, "LANG": "C.UTF-8"}
    return subprocess.run(
        [browser, *_FLAGS, f"--user-data-dir={folder}/profile", *words],
        env=home, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=60,
    )  # fmt: skip
