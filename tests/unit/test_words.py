"""What must be the same everywhere stands in one file: reasons, and how a moment is written."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator

import keychain_auth
from keychain_auth import reasons
from keychain_auth.errors import HINTS

FOLDER = os.path.dirname(keychain_auth.__file__)
WORDS = reasons.DENIED | reasons.FAILED | {reasons.WRONG_PASSPHRASE, reasons.PASSPHRASE_NEEDED}


def texts() -> Iterator[tuple[str, str]]:
    """Every text of the program: file and text. The conformance suite has words of its own: it is for any daemon."""
    for folder, _, names in os.walk(FOLDER):
        if os.path.basename(folder) == "conformance":
            continue
        for name in names:
            if name.endswith(".py"):
                path = os.path.join(folder, name)
                with open(path, encoding="utf-8") as file:
                    for node in ast.walk(ast.parse(file.read())):
                        if isinstance(node, ast.Constant) and isinstance(node.value, str):
                            yield os.path.relpath(path, FOLDER), node.value


def test_a_reason_is_written_in_one_file() -> None:
    found = {(path, text) for path, text in texts() if text in WORDS}
    assert {path for path, _ in found} == {"reasons.py"}
    assert {text for _, text in found} == WORDS
    assert set(HINTS) == reasons.DENIED | reasons.FAILED


def test_a_moment_is_written_in_one_way() -> None:
    assert {path for path, text in texts() if "%H:%M:%SZ" in text} == {"moments.py"}
