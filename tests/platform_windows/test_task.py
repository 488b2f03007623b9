"""The task at log-on: its text, and what Windows would be asked to do with it."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from keychain_auth.native.account import account_name
from keychain_auth.platform.plan import MARK, Request
from keychain_auth.platform.windows.service import plan, task, task_name

ROAMING, LOCAL = r"C:\Users\ann\AppData\Roaming\keychain-auth", r"C:\Users\ann\AppData\Local\keychain-auth"
REQUEST = Request(
    command=(r"C:\keys\python.exe", "-P", "-m", "keychain_auth.cli.main", "start"), home=r"C:\Users\ann",
    config_dir=ROAMING, data_dir=LOCAL, runtime_dir=LOCAL,
)  # fmt: skip
SPACE = "{http://schemas.microsoft.com/windows/2004/02/mit/task}"


def read(content: str) -> dict[str, str | None]:
    """Every element that has a text, by its path."""
    found: dict[str, str | None] = {}

    def walk(element: Any, above: str) -> None:
        name = f"{above}/{element.tag.removeprefix(SPACE)}"
        assert element.tag.startswith(SPACE)
        if not len(element):
            assert name not in found
            found[name] = element.text
        for below in element:
            walk(below, name)

    walk(ElementTree.fromstring(content.encode("utf-16")), "")  # noqa: S314 - our own
    return found


def test_the_task_is_what_the_scheduler_reads() -> None:
    [file] = plan(REQUEST, r"DESK\ann").files
    assert (file.path, file.encoding) == (rf"{ROAMING}\task.xml", "utf-16")
    assert file.content.encode(file.encoding).startswith(b"\xff\xfe")
    assert MARK in file.content
    found = read(file.content)
    assert found["/Task/Triggers/LogonTrigger/UserId"] == r"DESK\ann"
    assert found["/Task/Principals/Principal/UserId"] == r"DESK\ann"
    assert found["/Task/Principals/Principal/LogonType"] == "InteractiveToken"
    assert found["/Task/Principals/Principal/RunLevel"] == "LeastPrivilege"
    assert found["/Task/Settings/ExecutionTimeLimit"] == "PT0S"
    assert found["/Task/Settings/MultipleInstancesPolicy"] == "IgnoreNew"
    assert found["/Task/Actions/Exec/Command"] == r"C:\keys\pythonw.exe"
    assert found["/Task/Actions/Exec/Arguments"] == "-P -m keychain_auth.cli.main start"


def test_a_script_is_started_as_it_is() -> None:
    found = read(task(REQUEST._replace(command=(r"C:\keys\keychain-auth.exe", "start")), "ann"))
    assert found["/Task/Actions/Exec/Command"] == r"C:\keys\keychain-auth.exe"
    assert found["/Task/Actions/Exec/Arguments"] == "start"


def test_no_name_breaks_out_of_the_definition() -> None:
    odd = "C:\\a & b\\<Command>x</Command>--> é\\python.exe"
    request = REQUEST._replace(command=(odd, "start"), socket=r"\\.\pipe\a b")
    found = read(task(request, "D\\<&>"))
    assert found["/Task/Actions/Exec/Command"] == odd.replace("python.exe", "pythonw.exe")
    assert found["/Task/Actions/Exec/Arguments"] == r'start --socket "\\.\pipe\a b"'
    assert found["/Task/Triggers/LogonTrigger/UserId"] == "D\\<&>"


def test_what_schtasks_would_be_asked() -> None:
    made = plan(REQUEST, r"DESK\ann b")
    name = "\\keychain-auth\\DESK-ann b"
    assert [step.words for step in made.start] == [
        ("schtasks.exe", "/Create", "/TN", name, "/XML", rf"{ROAMING}\task.xml", "/F"),
        ("schtasks.exe", "/Run", "/TN", name),
    ]
    assert [step.words for step in made.stop] == [
        ("schtasks.exe", "/End", "/TN", name), ("schtasks.exe", "/Delete", "/TN", name, "/F"),
    ]  # fmt: skip
    assert task_name('D\\a/b:c*"d') == "\\keychain-auth\\D-a-b-c--d"


@pytest.mark.skipif(sys.platform != "win32", reason="schtasks is a part of Windows")
def test_windows_takes_the_definition(tmp_path: Path) -> None:
    """Registered, looked at, and removed; its daemon is a program that is not there, and is never started."""
    account = account_name()
    domain, _, user = account.rpartition("\\")
    assert domain
    assert user.lower() == os.environ["USERNAME"].lower()
    definition = task(REQUEST._replace(command=(r"C:\nothing\keychain-auth.exe", "start")), account)
    name = rf"\keychain-auth-test\{os.getpid()}"

    def schtasks(*words: str) -> int:
        # No pipes: services that Wine starts for it inherit them, and would be waited for.
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.run(["schtasks.exe", *words], check=False, timeout=60, **quiet).returncode

    def create(content: str) -> int:
        path = tmp_path / "task.xml"
        path.write_text(content, encoding="utf-16", newline="")
        return schtasks("/Create", "/TN", name, "/XML", str(path), "/F")

    def remove() -> int:
        return schtasks("/Delete", "/TN", name, "/F")

    if not hasattr(ctypes.CDLL("ntdll.dll"), "wine_get_version"):  # Wine 8 takes every word, and hangs on bad XML
        assert create(definition.replace("InteractiveToken", "NoSuchLogonType")) != 0
    assert remove() != 0
    for _ in range(2):  # the second time in place of the first
        assert create(definition) == 0
    assert remove() == 0
    assert remove() != 0
