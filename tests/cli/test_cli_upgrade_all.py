"""``upgrade --all`` with a real package in the real system: built, installed, upgraded and removed here, by root."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from support import programs
from support.lines import until
from support.world import World, sha256_of

NAME = "keychain-auth-test-package"
FOLDER = f"/opt/{NAME}"
TOOL = f"{FOLDER}/tool"


@pytest.fixture
def package(world: World) -> Iterator[str]:
    """The path of an installed program; the package is removed at the end."""
    if os.geteuid() != 0 or shutil.which("dpkg-deb") is None:
        pytest.skip("only root can install a package, and only with dpkg")
    with open("/run/lock/keychain-auth-test-package", "w") as alone:
        fcntl.flock(alone, fcntl.LOCK_EX)  # there is one system, and another run of these tests may use it
        try:
            install(world, "1")
            yield TOOL
        finally:
            dpkg("dpkg", "--purge", NAME)
            shutil.rmtree(FOLDER, ignore_errors=True)


def install(world: World, version: str) -> None:
    """Build and install a version of the package; each has another program."""
    root = world.path(f"package-{version}")
    os.makedirs(f"{root}/DEBIAN")
    os.makedirs(f"{root}{FOLDER}")
    os.chmod(root, 0o755)
    shutil.copy(programs.compiled(variant=f"version-{version}"), f"{root}{TOOL}")
    digest = subprocess.run(["md5sum", f"{root}{TOOL}"], check=True, capture_output=True, text=True).stdout.split()[0]
    with open(f"{root}/DEBIAN/md5sums", "w", encoding="ascii") as file:
        file.write(f"{digest}  {TOOL[1:]}\n")
    with open(f"{root}/DEBIAN/control", "w", encoding="ascii") as file:
        file.write(
            f"Package: {NAME}\nVersion: {version}\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\n"
            "Description: a program of the tests of keychain-auth\n"
        )
    built = world.path(f"{NAME}-{version}.deb")
    dpkg("dpkg-deb", "--root-owner-group", "--build", root, built)
    dpkg("dpkg", "--install", built)


def dpkg(*words: str) -> None:
    """Run it, and again while somebody else installs a package."""

    def runs() -> bool:
        done = subprocess.run(words, check=False, capture_output=True, text=True)
        assert done.returncode == 0 or "lock" in done.stderr, done.stderr
        return done.returncode == 0

    until(runs, " ".join(words), timeout=60)


def all_of(world: World) -> dict[str, dict[str, Any]]:
    """What ``upgrade --all`` did, by path."""
    return {entry["path"]: entry for entry in world.cli_json("upgrade", "--all")["entries"]}


def hashes(world: World) -> dict[str, str]:
    return {entry["path"]: entry["hash"] for entry in world.read_policy()["registered_binaries"]}


def test_a_program_that_its_package_replaced_is_renewed(world: World, package: str) -> None:
    own = world.build_client("own", "one")
    for path in (package, own):
        assert world.cli("register", path).returncode == 0
        assert world.cli("authorize", path, "aws", "--read").returncode == 0
    assert {entry["outcome"] for entry in all_of(world).values()} == {"unchanged"}
    install(world, "2")
    world.build_client("own", "two")
    done = all_of(world)
    assert done[package]["outcome"] == "updated"
    assert done[package]["packages"] == [NAME]
    assert done[package]["hash"] == hashes(world)[package] == sha256_of(package)
    assert done[own]["outcome"] == "left"
    assert done[own]["why"] == f"{own} belongs to no package"
    assert done[own]["mend"] == f"keychain-auth upgrade {own}"
    assert hashes(world)[own] != sha256_of(own)
    [kept] = [entry for entry in world.read_policy()["registered_binaries"] if entry["path"] == package]
    assert kept["allowed_read_services"] == ["aws"]


def test_a_program_changed_behind_its_package_is_left(world: World, package: str) -> None:
    world.cli("register", package)
    before = hashes(world)
    other = programs.compiled(variant="not-of-the-package")
    shutil.copy(other, package)
    done = all_of(world)
    assert done[package]["outcome"] == "left"
    assert done[package]["why"] == f"{package} is not what the package {NAME} installed"
    install(world, "2")
    os.chmod(FOLDER, 0o777)
    assert all_of(world)[package]["why"] == f"{package} could be changed by others than root"
    os.unlink(package)
    assert "does not exist" in all_of(world)[package]["why"]
    assert hashes(world) == before


def test_a_database_that_the_environment_names_is_not_asked(world: World, package: str) -> None:
    """DPKG_ADMINDIR shows dpkg-query another database: one of the attacker's, in which his file is a package's."""
    world.cli("register", package)
    shutil.copy(programs.compiled(variant="not-of-the-package"), package)
    folder = world.path("database")
    os.makedirs(f"{folder}/info")
    digest = subprocess.run(["md5sum", package], check=True, capture_output=True, text=True).stdout.split()[0]
    content = {
        "status": f"Package: {NAME}\nStatus: install ok installed\nMaintainer: x\nArchitecture: all\nVersion: 9\n"
        "Description: x\n",
        f"info/{NAME}.list": f"/.\n/opt\n{FOLDER}\n{package}\n",
        f"info/{NAME}.md5sums": f"{digest}  {package[1:]}\n",
        "info/format": "1\n",
    }
    for name, text in content.items():
        with open(os.path.join(folder, name), "w", encoding="ascii") as file:
            file.write(text)
    subprocess.run(["chown", "-R", world.user.name, folder], check=True)
    env = {"DPKG_ADMINDIR": folder}
    naive = subprocess.run(
        ["dpkg-query", "--control-path", NAME, "md5sums"], env={**world.env, **env}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert naive.stdout.strip() == f"{folder}/info/{NAME}.md5sums"
    [left] = world.cli_json("upgrade", "--all", env=env)["entries"]
    assert left["outcome"] == "left"


def test_upgrade_takes_either_a_path_or_all(world: World) -> None:
    assert world.cli("upgrade").returncode == 2
    assert world.cli("upgrade", "--all", "/bin/true").returncode == 2
    done = world.cli("upgrade", "--all")
    assert (done.returncode, done.stdout) == (0, "0 unchanged\n")


def test_what_is_left_is_told_to_a_person(world: World) -> None:
    own = world.build_client("own", "one")
    world.cli("register", own)
    world.build_client("own", "two")
    told = world.cli("upgrade", "--all").stdout
    assert told.startswith(f"left {own}\n")
    assert f"If it was you who changed it: keychain-auth upgrade {own}" in told
