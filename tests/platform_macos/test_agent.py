"""The LaunchAgent: its text, and the commands that would be run."""

from __future__ import annotations

import os
import plistlib
import shlex
import subprocess
from pathlib import Path

from keychain_auth.platform.macos.service import plan
from keychain_auth.platform.plan import MARK, Request

BASE = "/Users/ann/Library/Application Support/keychain-auth"
REQUEST = Request(
    command=("/opt/keys/bin/keychain-auth", "start"), home="/Users/ann", config_dir=BASE, data_dir=BASE,
    runtime_dir=BASE, uid=501,
)  # fmt: skip


def test_the_agent_is_a_property_list_that_launchd_reads() -> None:
    [file] = plan(REQUEST).files
    assert (file.path, file.mode) == ("/Users/ann/Library/LaunchAgents/keychain-auth.plist", 0o644)
    assert MARK in file.content
    assert plistlib.loads(file.content.encode()) == {
        "Label": "keychain-auth",
        "ProgramArguments": ["/opt/keys/bin/keychain-auth", "start"],
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "Umask": 63,
        "HardResourceLimits": {"Core": 0},
        "EnvironmentVariables": {},
        "StandardErrorPath": "/Users/ann/Library/Logs/keychain-auth/daemon.log",
    }


def test_no_name_breaks_out_of_the_list() -> None:
    odd = '/Users/a&b/<string>x</string>--> "q"/é'
    request = REQUEST._replace(command=(odd, "start"), socket=f"{odd}.sock", environment=(("XDG_DATA_HOME", odd),))
    [file] = plan(request).files
    read = plistlib.loads(file.content.encode())
    assert read["ProgramArguments"] == [odd, "start", "--socket", f"{odd}.sock"]
    assert read["EnvironmentVariables"] == {"XDG_DATA_HOME": odd}


def test_the_commands_name_this_user_and_this_agent() -> None:
    made = plan(REQUEST)
    assert made.probe == ("/bin/launchctl", "print", "gui/501")
    assert made.start[0].words == ("/bin/launchctl", "enable", "gui/501/keychain-auth")
    assert [step.words for step in made.stop] == [("/bin/launchctl", "bootout", "gui/501/keychain-auth")]


def test_loading_waits_until_the_agent_of_before_is_gone(tmp_path: Path) -> None:
    """With a launchctl that is busy twice; the path has what a shell would take apart."""
    log = tmp_path / "log"
    fake = tmp_path / "launchctl"
    fake.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$*" >>{log}\n[ "$1" = bootstrap ] || exit 3\n'
        f"[ $(grep -c ^bootstrap {log}) -ge $ENOUGH ] || exit 37\n"
    )
    os.chmod(fake, 0o755)
    (tmp_path / "sleep").write_text("#!/bin/sh\n")
    os.chmod(tmp_path / "sleep", 0o755)
    home = "/Users/ann $(touch x); 'y'"
    words = plan(REQUEST._replace(home=home)).start[1].words
    assert words[0] == "/bin/sh"
    for enough, code, tries in ((3, 0, 3), (99, 1, 5)):
        log.unlink(missing_ok=True)
        env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "ENOUGH": str(enough)}
        assert subprocess.run(words, env=env, check=False, cwd=tmp_path).returncode == code
        path = f"{home}/Library/LaunchAgents/keychain-auth.plist"
        assert log.read_text().splitlines() == [
            "bootout gui/501/keychain-auth", *[f"bootstrap gui/501 {path}"] * tries,
        ]  # fmt: skip
    assert not (tmp_path / "x").exists()
    assert shlex.quote(home) != home
