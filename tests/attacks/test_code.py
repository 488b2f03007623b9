"""Attacks that bring foreign code into the trusted program, or the trusted program's name to foreign code.

Each wins against a naive broker, then loses against the daemon. All of them run as the user who also runs the daemon.
"""

from __future__ import annotations

import os

import pytest

from attacks.lab import (
    ASK,
    ASK_TEXT,
    Broker,
    answer_of,
    attack,
    build,
    build_asker,
    build_library,
    need_user_namespaces,
    source,
    start,
    won,
    x86_64_only,
)
from daemon.requests import PENDING, denied
from support.process import Process
from support.world import World, sha256_of

REFUSED = denied("identity_not_verified")


def inject(world: World, program: str, socket: str, code_from: str, **env: str) -> Process:
    """Start the trusted program with the library of an attacker."""
    environment = {"INJECT_SOCKET": socket, "INJECT_REQUEST": ASK_TEXT, "INJECT_FROM": code_from, **env}
    return world.spawn([program, socket, ASK_TEXT, "--quiet"], env=environment)


@x86_64_only
@pytest.mark.parametrize("variable", ["LD_PRELOAD", "LD_AUDIT"])
@pytest.mark.parametrize(
    ("code_from", "why"),
    [("library", "libraries"), ("anonymous", "executable_memory"), ("memfd", "executable_memory"),
     ("vdso", "executable_memory")],
)  # fmt: skip
def test_a_library_loaded_by_the_environment(
    world: World, naive: Broker, variable: str, code_from: str, why: str
) -> None:
    """Wherever its code lies when it asks; but for ``library`` it has unmapped its own file by then."""
    program, library = build_asker(world), build_library(world, "inject")
    naive(program)
    assert won(answer_of(inject(world, program, world.path("naive.sock"), code_from, **{variable: library})))
    daemon = start(world)
    assert answer_of(inject(world, program, world.socket, code_from, **{variable: library})) == REFUSED
    daemon.wait_log(f"entry {program}: {why}")
    honest = world.spawn([program, world.socket, ASK_TEXT])
    honest.feed(b"\n")
    assert won(answer_of(honest))


@x86_64_only
def test_a_library_found_by_ld_library_path(world: World, naive: Broker) -> None:
    """It stands for one that the program needs: for libm, in a folder of the attacker's."""
    program = build(world, "asker", "-pthread", "-Wl,--no-as-needed", "-lm", variant="needs-libm")
    world.allow(program, ["aws"], ["aws"])
    folder = os.path.dirname(build_library(world, "inject", "libm.so.6"))
    naive(program)
    assert won(answer_of(inject(world, program, world.path("naive.sock"), "library", LD_LIBRARY_PATH=folder)))
    daemon = start(world)
    assert answer_of(inject(world, program, world.socket, "library", LD_LIBRARY_PATH=folder)) == REFUSED
    daemon.wait_log("libm.so.6")


@x86_64_only
def test_a_library_that_puts_the_listed_one_in_its_place(world: World, naive: Broker) -> None:
    """The entry lists a library by path and hash. What is mapped must be that file, not one that stood there before."""
    listed = build_library(world, "inject")
    program = build_asker(world, libraries=[{"path": listed, "hash": sha256_of(listed)}])
    evil = world.build_client("evil.so", "evil", source("inject"), ("-shared", "-fPIC"))
    naive(program)
    assert won(answer_of(inject(world, program, world.path("naive.sock"), "library", LD_PRELOAD=evil)))
    daemon = start(world)
    assert won(answer_of(inject(world, program, world.socket, "library", LD_PRELOAD=listed)))  # as the entry says
    kept = world.path("kept.so")
    os.rename(listed, kept)
    os.rename(evil, listed)
    swap = {"INJECT_SWAP": kept, "INJECT_OVER": listed}
    assert answer_of(inject(world, program, world.socket, "library", LD_PRELOAD=listed, **swap)) == REFUSED
    daemon.wait_log("libraries")


def test_the_dynamic_loader_by_hand(world: World, naive: Broker, trusted: str) -> None:
    """``ld.so evil`` is ld.so to the kernel. Whoever approved that, once asked for it, approved every program."""
    loader = os.path.realpath("/lib64/ld-linux-x86-64.so.2")
    if not os.path.exists(loader):
        pytest.skip(f"no {loader} on this machine")
    evil = world.build_client("evil", "evil")
    naive(loader)
    assert won(world.talk([loader, evil, world.path("naive.sock")]).connected().ask(ASK))
    world.allow(loader, ["aws"], ["aws"])
    start(world, trusted)
    assert world.talk([loader, evil, world.socket]).connected().ask(ASK) == denied(PENDING)
    assert world.talk([loader, trusted, world.socket]).connected().ask(ASK) == denied(PENDING)


@x86_64_only
@pytest.mark.parametrize(("where", "why"), [("own", "another user namespace"), ("child", "code in anonymous memory")])
def test_pr_set_mm_makes_the_kernel_name_another_file(world: World, naive: Broker, where: str, why: str) -> None:
    """In a user namespace of one's own, or from a child there that shares our memory: then our namespaces fit."""
    need_user_namespaces(world)
    program, evil = build_asker(world), build(world, "setmm")
    naive(program)
    assert won(attack(world, evil, world.path("naive.sock"), ASK_TEXT, program, where))
    daemon = start(world)
    assert attack(world, evil, world.socket, ASK_TEXT, program, where) == REFUSED
    daemon.wait_log(why)


@x86_64_only
def test_expected_open_pr_set_mm_by_a_program_that_runs_on_libc_alone(world: World, naive: Broker) -> None:
    """Nothing foreign is mapped when the daemon looks: the attack is a chain of calls into libc, which is data."""
    need_user_namespaces(world)
    program, evil = build_asker(world, strict=True), build(world, "chain")
    naive(program)
    assert won(attack(world, evil, world.path("naive.sock"), ASK_TEXT, program))
    start(world)
    assert won(attack(world, evil, world.socket, ASK_TEXT, program))
