"""Signed programs against the real daemon: what a signature opens, and the ways to make it open more."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable

import pytest

from attacks.naive import SECRET, NaiveBroker, NaiveSignerBroker
from daemon.requests import PENDING, SUCCESS, denied, failed, read, request, results, write
from keychain_auth.daemon.state.builds_file import BuildsFile
from support import programs
from support.daemon import Daemon
from support.lines import until
from support.person import protect, tell, told
from support.signing import Publisher, trust
from support.world import World

FAULTS = os.path.join(programs.HERE, "c", "faults.c")  # any library will do
BANK = read("secret", service="bank")
OWN = read("secret", service="own")


def start(world: World, bank: str) -> Daemon:
    """A daemon with a secret in the service ``bank``, stored by the program ``bank``."""
    daemon = world.start()
    assert world.talker(bank).ask(write({"secret": SECRET}, service="bank")) == SUCCESS
    return daemon


def won(answer: dict[str, object]) -> bool:
    return SECRET in json.dumps(answer)


def put(source: str, target: str) -> None:
    os.rename(source, target)


# --- what it is for -----------------------------------------------------------------------------


@pytest.mark.parametrize("digest", [False, True])
def test_a_signed_program_is_served_without_a_prompt(world: World, publisher: Publisher, digest: bool) -> None:
    program = publisher.build(world, digest=digest)
    world.start()
    talker = world.talker(program)
    assert talker.ask(write({"secret": "v"}, service="own")) == SUCCESS
    assert talker.ask(request("search", "own")) == results({"target": "secret"})
    assert talker.ask(request("check", "own")) == SUCCESS
    assert talker.ask(BANK) == denied("service_not_allowed")
    assert talker.ask(write({"x": "y"}, service="bank")) == denied("service_not_allowed")
    assert world.pending() == []
    assert world.read_policy()["registered_binaries"] == []  # nothing was written down
    connects = [record for record in world.audit() if record["action"] == "connect"]
    assert connects[0]["detail"] == f"signed by {publisher.text}"


def test_a_signer_that_is_removed_takes_its_programs_along(world: World, publisher: Publisher) -> None:
    program = publisher.build(world)
    world.start()
    talker = world.talker(program)
    assert talker.ask(OWN) == results()
    trust(world)
    assert talker.ask(OWN) == denied(PENDING)
    assert talker.eof()
    assert world.talker(program).ask(OWN) == denied(PENDING)
    trust(world, publisher.signer("own"))
    assert world.talker(program).ask(OWN) == results()


def test_a_signer_that_is_added_counts_for_a_program_that_was_refused(world: World) -> None:
    first, second = Publisher(), Publisher()
    trust(world, first.signer("own"))
    program = second.build(world)
    world.start()
    assert world.talker(program).ask(OWN) == denied(PENDING)
    trust(world, first.signer("own"), second.signer("own"))
    assert world.talker(program).ask(OWN) == results()


def test_one_key_for_two_services(world: World) -> None:
    publisher = Publisher()
    trust(world, publisher.signer("own"), publisher.signer("bank"))
    world.start()
    talker = world.talker(publisher.build(world))
    assert (talker.ask(OWN), talker.ask(BANK)) == (results(), results())
    trust(world, publisher.signer("own"))
    assert (talker.ask(OWN), talker.ask(BANK)) == (results(), denied("service_not_allowed"))


# --- attacks ------------------------------------------------------------------------------------


def test_a_signed_program_over_a_path_with_richer_grants(world: World, publisher: Publisher) -> None:
    bank = world.granted("bank", "bank", variant="bank")
    broker = NaiveSignerBroker(world.path("naive.sock"), bank, [publisher.key.public_key()])
    start(world, bank)
    put(publisher.build(world), bank)
    try:
        assert won(world.talker(bank, socket=world.path("naive.sock")).ask(BANK))
    finally:
        broker.close()
    talker = world.talker(bank)
    assert talker.ask(BANK) == denied("service_not_allowed")
    assert talker.ask(OWN) == results()
    # The entry of the same signer, made by a person: there it is what the signature is for.
    world.allow(bank, ["bank"], ["bank"], signer=publisher.text)
    put(publisher.build(world, variant="next"), bank)
    assert won(world.talker(bank).ask(BANK))
    # And that of another signer is not.
    other = Publisher()
    trust(world, publisher.signer("own"), other.signer("own"))
    put(other.build(world), bank)
    assert world.talker(bank).ask(BANK) == denied("service_not_allowed")


def test_a_trailer_that_is_not_the_signature_of_these_bytes(world: World, publisher: Publisher) -> None:
    other = Publisher()
    attacks: dict[str, Callable[[bytes], bytes]] = {
        "cut": lambda file: file[:-1],
        "cut before the magic": lambda file: file[:-5] + b"KCAS",
        "twice": lambda file: file + file[-68:],
        "something after it": lambda file: file + b"\0",
        "of other bytes": lambda file: publisher.sign(b"\x7fELF")[-68:].join((file[:-68], b"")),
        "one byte of the program": lambda file: file.replace(b"variant plain", b"variant PLAIN"),
        "by another": lambda file: other.sign(file[:-68]),
        "by another who names this one": lambda file: file[:-68] + other.sign(file[:-68])[-68:],
        "only the magic": lambda file: file[:-68] + bytes(64) + b"KCAS",
    }
    world.start()
    for number, (name, change) in enumerate(attacks.items()):
        program = publisher.build(world, f"attack{number}", build=7, change=change)
        assert world.talker(program).ask(OWN) == denied(PENDING), name
    assert world.talker(publisher.build(world, build=7)).ask(OWN) == results()


def test_bytes_after_a_signature_win_against_who_looks_near_the_end(world: World, publisher: Publisher) -> None:
    """A foreign program that carries a whole signed file inside is not that file."""
    bank = world.granted("bank", "bank", variant="bank")
    start(world, bank)
    with open(publisher.build(world), "rb") as file:
        smuggled = file.read()
    with open(programs.compiled(programs.TALKER, "evil"), "rb") as file:
        evil = file.read()
    naive_key = publisher.key.public_key()
    put(programs.install(world.write("tmp/e", smuggled + b"\0" * 9), world.path("bin/e"), world.user), bank)
    broker = NaiveSignerBroker(world.path("naive.sock"), bank, [naive_key])
    try:
        assert won(world.talker(bank, socket=world.path("naive.sock")).ask(BANK))
    finally:
        broker.close()
    assert world.talker(bank).ask(OWN) == denied(PENDING)
    put(programs.install(world.write("tmp/e", evil + smuggled), world.path("bin/e"), world.user), bank)
    assert world.talker(bank).ask(OWN) == denied(PENDING)


def test_a_trailer_changed_after_it_was_verified(world: World, publisher: Publisher) -> None:
    """Same inode, size and times: what is remembered of a file is of this version only."""
    program = publisher.build(world)
    world.start()
    for _ in range(2):
        talker = world.talker(program)
        assert talker.ask(OWN) == results()
        talker.kill()
        talker.wait()
    about = os.stat(program)
    with open(program, "r+b") as file:
        file.seek(-20, os.SEEK_END)
        byte = file.read(1)
        file.seek(-20, os.SEEK_END)
        file.write(bytes((byte[0] ^ 1,)))
    os.utime(program, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert world.talker(program).ask(OWN) == denied(PENDING)


@pytest.mark.parametrize("name", ["bash", "python3", "env"])
def test_a_signed_interpreter_is_granted_nothing(world: World, publisher: Publisher, name: str) -> None:
    world.start()
    assert world.talker(publisher.build(world, name)).ask(OWN) == denied(PENDING)
    assert world.talker(publisher.build(world, "tool")).ask(OWN) == results()


def test_foreign_code_preloaded_into_a_signed_program(world: World, publisher: Publisher) -> None:
    """A library of one's own in a copy of a signed program: the signature is there, and opens nothing."""
    library = programs.install(programs.compiled(FAULTS, shared=True), world.path("bin/evil.so"), world.user)
    preload = {"LD_PRELOAD": library}
    program = publisher.build(world)
    broker = NaiveSignerBroker(world.path("naive.sock"), program, [publisher.key.public_key()])
    try:
        assert won(world.talker(program, socket=world.path("naive.sock"), env=preload).ask(OWN))
    finally:
        broker.close()
    daemon = world.start()
    assert world.talker(program, env=preload).ask(OWN) == denied("identity_not_verified")
    daemon.wait_log(f"--signer {publisher.text} --library {library}")
    assert world.talker(program).ask(OWN) == results()
    # A person may allow the library, for every build of this signer.
    world.cli_json("register", program, "--signer", "own", "--library", library)
    world.cli_json("authorize", program, "own")
    for variant in ("plain", "next"):
        publisher.build(world, variant=variant)
        assert world.talker(program, env=preload).ask(OWN) == results()


def test_a_huge_signed_program_takes_no_memory(world: World, publisher: Publisher) -> None:
    """128 MiB, signed over its bytes, is verified in the memory that a small file takes."""
    program = publisher.build(world, change=lambda file: publisher.sign(file[:-68] + bytes(128 << 20)))
    daemon = world.start()
    before = daemon_memory(daemon)
    assert world.talker(program).ask(OWN) == results()
    assert daemon_memory(daemon) - before < 16 << 10


def daemon_memory(daemon: Daemon) -> int:
    """The most memory that the daemon ever had, in KiB."""
    with open(f"/proc/{daemon.pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))


# --- builds -------------------------------------------------------------------------------------


def test_an_older_build_is_refused(world: World, publisher: Publisher) -> None:
    bank = publisher.build(world, "bank", build=5)
    old = world.path("bin/old")
    shutil.copy2(bank, old)
    world.user.own(old)
    world.allow(bank, ["bank"], ["bank"], signer=publisher.text, no_rollback=True)
    broker = NaiveBroker(world.path("naive.sock"), bank)
    daemon = start(world, bank)
    put(publisher.build(world, variant="next", build=7), bank)
    assert won(world.talker(bank).ask(BANK))
    put(old, bank)  # its hash is the registered one, and its signature is as valid as it ever was
    try:
        assert won(world.talker(bank, socket=world.path("naive.sock")).ask(BANK))
    finally:
        broker.close()
    assert world.talker(bank).ask(BANK) == denied("identity_not_verified")
    daemon.wait_log("no_rollback: wanted build 7 or later")
    assert world.pending() == []
    assert daemon.stop() == 0
    world.start()
    assert world.talker(bank).ask(BANK) == denied("identity_not_verified")
    for build, answer in ((6, "identity_not_verified"), (None, "identity_not_verified"), (8, "")):
        put(publisher.build(world, variant="again", build=build), bank)
        got = world.talker(bank).ask(BANK)
        assert got == denied(answer) if answer else won(got)
    with open(os.path.join(world.data_dir, "builds.json"), encoding="utf-8") as file:
        seen = json.load(file)
    assert seen == [{"path": bank, "public_key": publisher.text, "build": 8}]


def older_again(world: World, publisher: Publisher) -> str:
    """A program whose build 7 was served, and in whose place build 5 lies now; builds.json is gone, too."""
    bank = publisher.build(world, "bank", build=5)
    old = world.path("bin/old")
    shutil.copy2(bank, old)
    world.user.own(old)
    world.allow(bank, ["bank"], ["bank"], signer=publisher.text, no_rollback=True)
    daemon = start(world, bank)
    put(publisher.build(world, variant="next", build=7), bank)
    assert won(world.talker(bank).ask(BANK))
    put(old, bank)
    assert world.talker(bank).ask(BANK) == denied("identity_not_verified")
    protect(world, key_file=True)
    assert daemon.stop() == 0
    os.unlink(os.path.join(world.data_dir, "builds.json"))
    return bank


def test_an_older_builds_file_brings_no_older_build_back(world: World, publisher: Publisher) -> None:
    bank = older_again(world, publisher)
    naive = BuildsFile(os.path.join(world.data_dir, "builds.json"))  # the file alone knows of nothing
    assert naive.seen == {}
    naive.close()
    world.start()
    assert world.talker(bank).ask(BANK) == denied("identity_not_verified")
    place = os.path.join(world.data_dir, "builds.json")
    until(lambda: os.path.exists(place), "it is mended")
    with open(place, encoding="utf-8") as file:
        assert json.load(file) == [{"path": bank, "public_key": publisher.text, "build": 7}]


def test_a_person_who_goes_back_on_purpose_is_not_held_to_what_was_seen(world: World, publisher: Publisher) -> None:
    bank = older_again(world, publisher)
    world.start()
    assert world.talker(bank).ask(BANK) == denied("identity_not_verified")
    assert tell(world, "register", bank, "--allow-rollback").returncode == 0
    assert won(world.talker(bank).ask(BANK))
    assert tell(world, "register", bank, "--no-rollback").returncode == 0
    assert won(world.talker(bank).ask(BANK))
    daemon_of(world).stop()
    world.start()
    assert won(world.talker(bank).ask(BANK))


def test_an_older_build_that_connects_while_the_vault_is_locked_is_refused_once_it_is_open(
    world: World, publisher: Publisher
) -> None:
    bank = older_again(world, publisher)
    world.start()
    assert tell(world, "protect", "remove", "1").returncode == 0
    place = os.path.join(world.data_dir, "builds.json")
    until(lambda: os.path.exists(place), "it is mended")
    os.unlink(place)
    daemon = daemon_of(world)
    daemon.stop()
    world.start()
    early = world.talker(bank)
    assert early.ask(BANK) == failed("keychain_locked")  # nothing but the file was known: it was let in
    assert told(world, "unlock")["outcome"] == "unlocked"
    assert early.ask(BANK) == denied("identity_not_verified")


def daemon_of(world: World) -> Daemon:
    return [process for process in world._processes if isinstance(process, Daemon)][-1]


def test_a_build_that_cannot_be_remembered_is_not_served(world: World, publisher: Publisher) -> None:
    bank = publisher.build(world, "bank", build=5)
    world.allow(bank, ["bank"], ["bank"], signer=publisher.text, no_rollback=True)
    daemon = world.start()
    place = os.path.join(world.data_dir, "builds.json")
    os.mkdir(place)  # in the way of the file
    assert world.talker(bank).ask(BANK) == failed("internal_error")
    daemon.wait_log("builds.json cannot be written")
    os.rmdir(place)
    assert world.talker(bank).ask(BANK) == results()
    assert os.path.exists(place)


def test_expected_open_an_old_build_elsewhere_has_the_signers_service(world: World, publisher: Publisher) -> None:
    """``no_rollback`` guards the entry. The signer's own service is for everything that it ever signed."""
    bank = publisher.build(world, "bank", build=7)
    world.allow(bank, ["bank"], ["bank"], signer=publisher.text, no_rollback=True)
    start(world, bank)
    assert world.talker(publisher.build(world, "elsewhere", build=5)).ask(OWN) == results()
    assert world.talker(publisher.build(world, "elsewhere", build=5)).ask(BANK) == denied("service_not_allowed")
