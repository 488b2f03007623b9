"""The service of this user: what is written, what is run, what is taken away, and what never is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import pytest

from keychain_auth.platform.linux import service
from keychain_auth.platform.plan import MARK, Request
from support.world import World

ANALYZE = shutil.which("systemd-analyze") or ""
needs_systemd = pytest.mark.skipif(not ANALYZE, reason="systemd-analyze is not here (Debian: systemd)")
REQUEST = Request(
    command=("/opt/keys/bin/keychain-auth", "start"), home="/home/ann", config_dir="/home/ann/.config/keychain-auth",
    data_dir="/home/ann/.local/share/keychain-auth", runtime_dir="/run/user/1000/keychain-auth", uid=1000,
)  # fmt: skip
# systemd.exec(5): each of these gives the service a mount, user or pid namespace of its own …
_NAMESPACES = (
    "Private\\w+|Protect(?!Proc)\\w*|ReadOnlyPaths|ReadWritePaths|InaccessiblePaths|NoExecPaths|ExecPaths|TemporaryFileSystem|"
    "BindPaths|BindReadOnlyPaths|RootDirectory|RootImage|MountAPIVFS|DynamicUser|ProtectProc|ProcSubset|MountFlags"
)
# … and each of these is carried out by a seccomp filter.
_FILTERS = "SystemCall\\w+|Restrict(?!Network|FileSystems)\\w+|MemoryDenyWriteExecute|LockPersonality"


def forbidden(unit: str) -> list[str]:
    return re.findall(rf"^(?:{_NAMESPACES}|{_FILTERS})=.*$", unit, re.MULTILINE)


def units(request: Request = REQUEST) -> dict[str, str]:
    return {os.path.basename(file.path): file.content for file in service.plan(request).files}


# --- the text of the units ------------------------------------------------------------------------


def test_no_unit_gives_the_daemon_a_namespace_or_a_filter() -> None:
    assert forbidden("PrivateTmp=yes\nProtectSystem=strict\nSystemCallFilter=@system-service\nUser=x\n") == [
        "PrivateTmp=yes", "ProtectSystem=strict", "SystemCallFilter=@system-service",
    ]  # fmt: skip
    for name, text in units().items():
        assert forbidden(text) == [], name


def test_the_sockets_are_those_that_programs_look_for() -> None:
    text = units()["keychain-auth.socket"]
    assert re.findall("ListenStream=(.*)", text) == ["%t/keychain-auth/agent.sock", "%t/keychain-auth/admin.sock"]
    assert "PassCredentials=yes" in text
    assert "SocketMode=0600" in text
    assert "DirectoryMode=0700" in text


def test_a_socket_that_was_chosen_is_used_by_both_units() -> None:
    found = units(REQUEST._replace(socket="/home/ann/100%/x.sock"))
    assert (
        "ListenStream=/home/ann/100%%/x.sock\nListenStream=/home/ann/100%%/admin.sock\n"
        in found["keychain-auth.socket"]
    )
    assert 'start --socket "/home/ann/100%%/x.sock"\n' in found["keychain-auth.service"]


def test_a_runtime_folder_of_ones_own_is_written_out() -> None:
    text = units(REQUEST._replace(runtime_dir="/home/ann/.cache/keychain-auth"))["keychain-auth.socket"]
    assert "ListenStream=/home/ann/.cache/keychain-auth/agent.sock\n" in text


@pytest.mark.parametrize(
    ("word", "written"),
    [
        ("/opt/keys/bin/x", "/opt/keys/bin/x"),
        ("/opt/my keys/x", '"/opt/my keys/x"'),
        ('/opt/a"b\\c', '"/opt/a\\"b\\\\c"'),
        ("/opt/100%/$HOME", '"/opt/100%%/$$HOME"'),
        ("/opt/ключ", '"/opt/ключ"'),
    ],
)
def test_words_are_written_so_that_systemd_reads_them_back(word: str, written: str) -> None:
    text = units(REQUEST._replace(command=(word, "start")))["keychain-auth.service"]
    assert f"\nExecStart={written} start\n" in text


@needs_systemd
def test_systemd_understands_the_units(world: World) -> None:
    """All of it: no unknown key, no missing program, no path that cannot be."""
    folder = world.path("units here")
    request = REQUEST._replace(command=(world.python, "-P", "-m", "keychain_auth.cli.main", "start"),
                               environment=(("XDG_DATA_HOME", "/srv/100% mine"),))  # fmt: skip
    names = []
    for name, text in units(request).items():
        names.append(world.write(f"units here/{name}", text, 0o644))
    done = verify(world, folder, *names)
    assert done.stderr == ""
    assert done.returncode == 0
    with open(names[1], "a", encoding="utf-8") as unit:
        unit.write("[Service]\nPrivateTemp=yes\n")
    assert "PrivateTemp" in verify(world, folder, *names).stderr


def verify(world: World, folder: str, *units: str) -> subprocess.CompletedProcess[str]:
    env = {**world.environment(), "SYSTEMD_UNIT_PATH": f"{folder}:"}
    words = [ANALYZE, "--user", "--man=no", "--recursive-errors=no", "verify", *units]
    return subprocess.run(words, env=env, capture_output=True, text=True, check=False, timeout=60, **world.user.popen())


# --- the commands ---------------------------------------------------------------------------------


@pytest.fixture
def manager(world: World) -> str:
    """A service manager that writes down what it is told, and fails where the file ``fail`` names a word of it."""
    world.write(
        "bin/systemctl",
        '#!/bin/sh\necho "$@" >> "$HOME/told"\n[ -e "$HOME/fail" ] && case " $* " in *" $(cat "$HOME/fail") "*) '
        'echo "Unit is masked." >&2; exit 1;; esac\nexit 0\n',
        0o755,
    )
    world.env["PATH"] = f"{world.path('bin')}:{world.env['PATH']}"
    return world.path("told")


def told(manager: str) -> list[str]:
    with open(manager, encoding="utf-8") as lines:
        return [line.removeprefix("--user ").strip() for line in lines]


def unit_paths(world: World) -> list[str]:
    return [world.path(".config/systemd/user", name) for name in ("keychain-auth.socket", "keychain-auth.service")]


def test_install_writes_the_units_and_starts_them(world: World, manager: str) -> None:
    done = world.cli("install")
    assert done.returncode == 0, done.stderr
    for path in unit_paths(world):
        with open(path, encoding="utf-8") as unit:
            assert MARK in unit.read()
        assert os.stat(path).st_mode & 0o777 == 0o644
    assert told(manager) == [
        "show-environment", "daemon-reload", "enable keychain-auth.socket keychain-auth.service",
        "start keychain-auth.socket", "restart keychain-auth.service",
    ]  # fmt: skip
    assert "The daemon is running." in done.stdout


def test_print_shows_the_same_and_does_nothing(world: World, manager: str) -> None:
    shown = world.cli_json("install", "--print")
    assert not os.path.exists(world.path(".config/systemd"))
    assert not os.path.exists(manager)
    world.cli("install")
    for path, text in shown["files"].items():
        with open(path, encoding="utf-8") as unit:
            assert unit.read() == text


def test_the_installed_daemon_finds_what_the_command_line_finds(world: World, manager: str) -> None:
    text = world.cli_json("install", "--print")["files"][unit_paths(world)[1]]
    assert f"Environment=XDG_DATA_HOME={world.path('.local/share')}\n" in text
    assert f"Environment=XDG_CONFIG_HOME={world.path('.config')}\n" in text


def test_check_says_what_is_there(world: World, manager: str) -> None:
    assert world.cli("install", "--check").returncode == 1
    world.cli("install")
    done = world.cli("install", "--check", "--json")
    assert done.returncode == 0
    with open(unit_paths(world)[1], "a", encoding="utf-8") as unit:
        unit.write("# and more\n")
    done = world.cli("install", "--check")
    assert done.returncode == 1
    assert "of another version" in done.stdout


def test_a_unit_of_somebodys_own_is_neither_replaced_nor_removed(world: World, manager: str) -> None:
    own = world.write(".config/systemd/user/keychain-auth.service", "[Service]\nExecStart=/bin/true\n")
    done = world.cli("install")
    assert done.returncode == 1
    assert own in done.stderr
    assert f"mv {own}" in done.stderr
    assert "own" not in os.listdir(os.path.dirname(own))
    assert not os.path.exists(unit_paths(world)[0])
    assert f"Kept {own}" in world.cli("uninstall").stdout
    assert os.path.exists(own)


def test_without_a_service_manager_the_commands_are_left_to_the_person(world: World, manager: str) -> None:
    world.write("fail", "show-environment")
    done = world.cli("install")
    assert done.returncode == 0
    assert "systemctl --user daemon-reload" in done.stdout
    assert told(manager) == ["show-environment"]


def test_a_manager_that_refuses_is_quoted(world: World, manager: str) -> None:
    world.write("fail", "restart")
    done = world.cli("install")
    assert done.returncode == 1
    assert "Unit is masked." in done.stderr
    assert "Next: systemctl --user restart keychain-auth.service" in done.stderr


def test_install_beside_a_daemon_started_by_hand_says_so(world: World, manager: str) -> None:
    daemon = world.start()
    done = world.cli("install")
    assert done.returncode == 1
    assert f"kill {daemon.pid}" in done.stderr
    assert not os.path.exists(manager)


def test_uninstall_takes_back_what_install_made_and_keeps_the_secrets(world: World, manager: str) -> None:
    world.start().stop()
    before = sorted(os.listdir(world.data_dir))
    world.cli("install")
    done = world.cli("uninstall")
    assert done.returncode == 0, done.stderr
    assert not os.path.exists(world.path(".config/systemd"))
    assert sorted(os.listdir(world.data_dir)) == before
    assert told(manager)[-2:] == [
        "disable --now keychain-auth.socket keychain-auth.service", "daemon-reload",
    ]  # fmt: skip
    assert "were kept" in done.stdout
    assert "Nothing was installed" in world.cli("uninstall").stdout


def test_manual_pages_and_completions_come_and_go_with_it(world: World, manager: str) -> None:
    share = world.path(".local/share")
    own = world.write(".local/share/man/man1/other.1", "somebody else's")
    world.cli("install")
    assert os.path.exists(f"{share}/man/man1/keychain-auth-register.1")
    assert os.path.exists(f"{share}/bash-completion/completions/keychain-auth")
    with open(f"{share}/man/man1/keychain-auth-register.1", encoding="utf-8") as page:
        text = page.read()
    world.write(".local/share/man/man1/keychain-auth-oldcommand.1", text)  # of a version before
    world.write(".local/share/zsh/site-functions/_keychain-auth", "# my own\n")
    assert world.cli("install", "--check").returncode == 1
    world.cli("uninstall")
    assert os.listdir(f"{share}/man/man1") == ["other.1"]
    assert os.path.exists(own)
    assert not os.path.exists(f"{share}/bash-completion/completions")
    assert os.path.exists(f"{share}/zsh/site-functions/_keychain-auth")


def test_purge_asks_and_removes_what_it_names(world: World, manager: str) -> None:
    world.start().stop()
    own = world.write(".config/keychain-auth/notes.txt", "mine")
    world.cli("install")
    refused = world.cli("uninstall", "--purge", input="n\n")
    assert refused.returncode != 0
    assert os.path.exists(world.path(".local/share/keychain-auth/vault.db"))
    assert os.path.exists(unit_paths(world)[0])
    done = world.cli("uninstall", "--purge", input="y\n")
    assert done.returncode == 0, done.stderr
    assert not os.path.exists(world.data_dir)
    assert os.listdir(world.config_dir) == ["notes.txt"]
    assert os.path.exists(own)


def test_purge_takes_nothing_from_under_a_running_daemon(world: World, manager: str) -> None:
    daemon = world.start()
    done = world.cli("uninstall", "--purge", "--yes")
    assert done.returncode == 1
    assert f"kill {daemon.pid}" in done.stderr
    assert os.path.exists(world.path(".local/share/keychain-auth/vault.db"))
