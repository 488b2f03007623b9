"""Names of programs in both forms that a policy can hold."""

from __future__ import annotations

import pytest

from keychain_auth.policy.interpreters import declared_script, is_interpreter
from keychain_auth.policy.names import file_name, is_absolute


@pytest.mark.parametrize(
    ("path", "absolute"),
    [
        ("/usr/bin/x", True), (r"C:\Tools\x.exe", True), (r"\\server\share\x.exe", True), ("x.exe", False),
        ("C:x.exe", False), (r"\x.exe", False), ("", False), (r"\\\x", False),
    ],
)  # fmt: skip
def test_what_names_one_file(path: str, absolute: bool) -> None:
    assert is_absolute(path) is absolute


@pytest.mark.parametrize(
    "path",
    [
        r"C:\Python311\python.exe", r"C:\Python311\PYTHONW.EXE", r"C:\Windows\System32\cmd.exe", r"C:\x\pwsh.exe",
        r"C:\Windows\System32\WScript.exe", r"C:\Windows\py.exe", r"C:\nodejs\node.exe", r"C:\R\bin\Rscript.exe",
    ],
)  # fmt: skip
def test_interpreters_of_windows_are_known_in_any_case(path: str) -> None:
    assert is_interpreter(path)


def test_names_of_windows_mean_nothing_elsewhere() -> None:
    assert not is_interpreter("/usr/bin/cmd")
    assert not is_interpreter(r"C:\Tools\mytool.exe")
    assert file_name("/opt/Tool.exe") == "Tool.exe" and file_name(r"C:\Tool.EXE") == "tool"


def test_a_script_of_windows() -> None:
    words = ("python.exe", "-I", r"C:\app\app.py", "x")
    assert declared_script(r"C:\Python311\python3.exe", words) == r"C:\app\app.py"
