"""The daemon of the whole machine, as systemd would have it: what is written, and that systemd's own tools take it."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess

import pytest

from cli.test_cli_install import ANALYZE, REQUEST, forbidden, needs_systemd
from keychain_auth.platform.linux import become, system_service
from keychain_auth.platform.plan import MARK, Plan
from support.programs import ROOT
from support.world import World

LAUNCHER = os.path.join(ROOT, "src", "keychain_auth", "platform", "linux", "guarded.c")
SYSUSERS, TMPFILES = shutil.which("systemd-sysusers"), shutil.which("systemd-tmpfiles")


def plan(group: str = "", compiler: str = "gcc") -> Plan:
    return system_service.plan(REQUEST._replace(group=group, compiler=compiler, launcher=LAUNCHER))


def text_of(name: str, made: Plan) -> str:
    return next(file.content for file in made.files if os.path.basename(file.path) == name)


def test_no_unit_gives_the_daemon_a_namespace_or_a_filter() -> None:
    for file in plan().files:
        assert forbidden(file.content) == [], file.path
        assert MARK in file.content


def test_the_daemon_has_a_user_of_its_own_and_three_capabilities() -> None:
    unit = text_of("keychain-auth.service", plan())
    assert "\nUser=keychain-auth\n" in unit
    assert "\nNoNewPrivileges=yes\n" in unit
    wanted = {"CAP_DAC_READ_SEARCH", "CAP_SYS_PTRACE", "CAP_LEASE"}
    assert {become.NAMES[number] for number in become.SERVES_ALL} == wanted
    for option in ("CapabilityBoundingSet", "AmbientCapabilities"):
        found = re.search(rf"^{option}=(.*)$", unit, re.MULTILINE)
        assert found is not None
        assert set(found[1].split()) == wanted


@pytest.mark.parametrize(
    ("group", "access"), [("", "SocketMode=0666\nDir"), ("devs", "SocketMode=0660\nSocketGroup=devs\nDir")]
)
def test_everybody_or_a_group_may_connect_and_only_root_administers(group: str, access: str) -> None:
    assert access in text_of("keychain-auth.socket", plan(group))
    admin = text_of("keychain-auth-admin.socket", plan(group))
    assert "SocketMode=0600\nSocketUser=keychain-auth\n" in admin


@needs_systemd
def test_systemd_understands_the_units(world: World) -> None:
    units = [
        world.write(f"units/{os.path.basename(file.path)}", file.content, 0o644)
        for file in plan("root").files
        if "/systemd/system/" in file.path
    ]
    with open(units[-1], encoding="utf-8") as unit:
        text = unit.read()
    world.write("units/keychain-auth.service", re.sub("ExecStart=.*", "ExecStart=/bin/true", text), 0o644)
    env = {**world.environment(), "SYSTEMD_UNIT_PATH": f"{world.path('units')}:"}
    words = [ANALYZE, "--man=no", "--recursive-errors=no", "verify", *units]
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False, timeout=60, **world.user.popen())
    assert done.stderr == ""
    assert done.returncode == 0


@needs_systemd
def test_the_exposure_that_systemd_reckons_is_less_than_without_our_options(world: World) -> None:
    """Its sum counts options. Those that would break or weaken identity are left out, so "safe" is out of reach."""

    def exposure(text: str, name: str) -> float:
        path = world.write(f"units/{name}.service", text, 0o644)
        words = [ANALYZE, "security", "--offline=true", "--no-pager", path]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60, env=world.environment())
        found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
        assert found is not None, done.stdout + done.stderr
        return float(found[1])

    ours = exposure(text_of("keychain-auth.service", plan()), "ours")
    bare = exposure("[Service]\nExecStart=/bin/true\n", "bare")
    assert bare > 9
    assert ours < 7.5


@pytest.mark.skipif(not (SYSUSERS and TMPFILES), reason="systemd-sysusers or systemd-tmpfiles is not here")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make users and folders")
def test_systemd_makes_the_user_the_group_and_the_folders(tmp_path: pathlib.Path) -> None:
    root = str(tmp_path)
    for file in plan().files[:2]:
        os.makedirs(os.path.dirname(root + file.path))
        with open(root + file.path, "w", encoding="utf-8") as written:
            written.write(file.content)
    for tool in ([SYSUSERS, f"--root={root}"], [TMPFILES, f"--root={root}", "--create"]):
        done = subprocess.run([str(word) for word in tool], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
    with open(os.path.join(root, "etc/passwd"), encoding="ascii") as accounts:
        [line] = [line.split(":") for line in accounts if line.startswith("keychain-auth:")]
    assert line[6].strip().endswith("nologin")
    with open(os.path.join(root, "etc/group"), encoding="ascii") as groups:
        assert any(group.startswith("keychain-auth-clients:") and group.rstrip().endswith(":") for group in groups)
    for name, mode, uid in (("etc", 0o700, line[2]), ("var/lib", 0o700, line[2]), ("var/log", 0o700, line[2]),
                            ("run", 0o755, "0")):  # fmt: skip
        about = os.stat(os.path.join(root, name, "keychain-auth"))
        assert (about.st_mode & 0o777, str(about.st_uid)) == (mode, uid), name


def test_the_launcher_is_compiled_as_the_plan_says(world: World) -> None:
    made = plan()
    [compile_it] = [step for step in made.prepare if step.words[0] == "gcc"]
    target = world.path("bin", "guarded")
    words = [target if word.startswith("/usr/local") else word for word in compile_it.words]
    done = subprocess.run([*words, "-Werror"], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    with open(target, "rb") as program:
        assert MARK.encode() in program.read()
    assert next(step.words[:2] for step in made.prepare if step.words[0] == "chmod") == ("chmod", "2755")
    without = plan(compiler="")
    assert without.products == ()
    assert "no keychain-auth-guarded" in without.notes[-1]


def test_who_may_connect_must_be_said(world: World) -> None:
    for words in (("--system",), ("--system", "--world", "--group", "x"), ("--world",)):
        done = world.cli("install", *words)
        assert done.returncode == 2, words
    shown = world.cli_json("install", "--system", "--group", "devs", "--print")
    assert any("SocketGroup=devs" in text for text in shown["files"].values())


def test_only_root_installs_it(world: World) -> None:
    done = world.cli("install", "--system", "--world")
    assert done.returncode == 1
    assert "Next: sudo keychain-auth install --system --world\n" in done.stderr
    assert (
        "sudo keychain-auth install --system --group devs\n"
        in world.cli("install", "--system", "--group", "devs").stderr
    )
    assert "sudo keychain-auth uninstall" in world.cli("uninstall", "--system").stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can try")
def test_a_package_that_somebody_else_could_change_is_not_installed_for_all(world: World) -> None:
    """Its code would run with the right to read every user's programs."""
    from support import users

    mine = world.path("site")
    shutil.copytree(os.path.join(ROOT, "src", "keychain_auth"), os.path.join(mine, "keychain_auth"))
    needs = dict(world.installation.env).get("PYTHONPATH", mine)
    env = {"PYTHONPATH": os.pathsep.join((mine, needs))}
    done = world.cli("install", "--system", "--world", account=users.root(), env=env)
    assert done.returncode == 1
    assert "is not root's alone" in done.stderr
    assert not os.path.exists("/etc/systemd/system/keychain-auth.service")
