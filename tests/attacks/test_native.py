"""Attacks on the identity of a native program: each wins against a naive broker, then loses against the daemon.

All of them run as the unprivileged user who also runs the daemon.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile

import pytest

from attacks.lab import ASK, Broker, source, start, wait_until_it_is, won
from attacks.naive import SECRET
from daemon.requests import PENDING, denied, read, results
from support import users
from support.talker import Talker
from support.waiting import Onlooker
from support.world import World


def test_an_equal_copy_elsewhere_is_not_the_program(world: World, trusted: str, naive: Broker) -> None:
    copy = world.path("bin/copy")
    shutil.copy(trusted, copy)
    world.user.own(copy)
    naive(trusted)
    assert won(world.talker(copy, socket=world.path("naive.sock")).ask(ASK))
    start(world, trusted)
    assert world.talker(copy).ask(ASK) == denied(PENDING)
    assert world.talker(trusted).ask(ASK)["status"] == "success"


def test_an_executable_that_lies_in_memory(world: World, trusted: str, naive: Broker) -> None:
    """Equal bytes, in a memfd: whoever runs it so has a file that stands at no path, and that he alone holds."""
    script = (
        "import os, sys\n"
        "fd = os.memfd_create('trusted', os.MFD_CLOEXEC)\n"
        "os.write(fd, open(sys.argv[1], 'rb').read())\n"
        "only_read = os.open(f'/proc/self/fd/{fd}', os.O_RDONLY)\n"
        "os.close(fd)\n"
        "os.execv(f'/proc/self/fd/{only_read}', sys.argv[1:])\n"
    )
    words = [world.python, "-c", script, trusted]
    naive(trusted)
    assert won(world.talk([*words, world.path("naive.sock")]).connected().ask(ASK))
    daemon = start(world, trusted)
    assert world.talk([*words, world.socket]).connected().ask(ASK) == denied("identity_not_verified")
    daemon.wait_log("lies on unknown")  # the kernel's own mount of memfds is in no table: tmpfs is not meant with it


def test_a_program_replaced_by_the_trusted_one_after_its_start(world: World, trusted: str, naive: Broker) -> None:
    """Evil runs from the trusted path; then the trusted file is put back over it."""
    evil = world.build_client("evil", "evil")
    start(world, trusted)
    attackers = {}
    for where in ("naive.sock", "agent"):
        kept = world.path("bin/kept")
        os.rename(trusted, kept)
        os.rename(evil, trusted)
        socket = world.socket if where == "agent" else world.path(where)
        attackers[where] = world.talker(trusted, "--late", socket=socket)
        wait_until_it_is(attackers[where].pid, trusted)
        evil = world.build_client("evil", "evil")
        os.rename(kept, trusted)
    # The link says "…/trusted (deleted)". Whoever opens that text opens whatever the attacker put there.
    shutil.copy(trusted, trusted + " (deleted)")
    naive(trusted, by_path=True)
    assert won(attackers["naive.sock"].reconnect().ask(ASK))
    answer = attackers["agent"].reconnect().ask(ASK)
    assert answer == denied("identity_not_verified")


def test_bind_mount_in_a_user_namespace(world: World, trusted: str, naive: Broker) -> None:
    evil = world.build_client("evil", "evil")

    def attack(socket: str) -> Talker:
        script = f'mount --bind "{evil}" "{trusted}" && exec "{trusted}" "{socket}"'
        words = ["/usr/bin/unshare", "--user", "--map-current-user", "--mount", "--keep-caps", "/bin/sh", "-c", script]
        return world.talk(words)

    probe = world.spawn(["/usr/bin/unshare", "--user", "--map-current-user", "--mount", "/bin/true"])
    if probe.wait() != 0:
        pytest.skip("this kernel lets no unprivileged user make a user namespace")
    naive(trusted, by_path=True)
    assert won(attack(world.path("naive.sock")).ask(ASK))
    daemon = start(world, trusted)
    assert attack(world.socket).ask(ASK) == denied("identity_not_verified")
    daemon.wait_log("another user and mount namespace")


def test_connect_write_exec_with_an_inherited_descriptor(world: World, trusted: str, naive: Broker) -> None:
    """The request was written by evil; by the time somebody looks, the trusted program runs under that pid."""
    evil = world.build_client("evil", "evil")

    def attack(socket: str) -> Talker:
        attacker = world.talker(evil, "--inheritable", socket=socket)
        attacker.send(ASK)
        attacker.feed(f"!exec {trusted}\n".encode())
        return attacker.connected()  # said by the trusted program, which took the descriptor over

    broker = naive(trusted)
    broker.hold()
    attacker = attack(world.path("naive.sock"))
    broker.release()
    assert won(attacker.answer())

    daemon = start(world, trusted)
    daemon.signal(signal.SIGSTOP)
    attacker = attack(world.socket)
    daemon.signal(signal.SIGCONT)
    assert attacker.answer() == denied("socket_not_cloexec")
    daemon.wait_log("SOCK_CLOEXEC")


def test_a_connection_parked_with_a_child(world: World, trusted: str, naive: Broker) -> None:
    park = world.build_client("park", source=source("park"))
    broker = naive(trusted)
    broker.hold()
    attacker = world.spawn([park, world.path("naive.sock"), trusted])
    attacker.out.find(lambda line: line == b"parked")
    wait_until_it_is(attacker.pid, trusted)
    broker.release()
    attacker.out.find(lambda line: line.startswith(b"answer") and SECRET.encode() in line)

    daemon = start(world, trusted)
    daemon.signal(signal.SIGSTOP)
    attacker = world.spawn([park, world.socket, trusted])
    attacker.out.find(lambda line: line == b"parked")
    wait_until_it_is(attacker.pid, trusted)
    daemon.signal(signal.SIGCONT)
    at = attacker.out.find(lambda line: line.startswith(b"answer"))
    assert json.loads(attacker.out[at][7:]) == denied("socket_not_cloexec")


def test_a_message_from_a_child_of_the_program(world: World, trusted: str, naive: Broker) -> None:
    naive(trusted)
    talker = world.talker(trusted, socket=world.path("naive.sock"))
    talker.order("fork " + json.dumps(ASK))
    assert won(talker.answer())
    start(world, trusted)
    talker = world.talker(trusted)
    assert talker.ask(read("other")) == results()
    talker.order("fork " + json.dumps(ASK))
    assert talker.answer() == denied("caller_changed")
    assert talker.eof()


def test_a_request_that_a_child_begins_while_the_program_waits_for_approval(world: World) -> None:
    """Of a request in pieces, every piece counts: the last one alone is the program's."""
    start(world)
    look = Onlooker(world)
    text = json.dumps(read("secret", wait=600))
    talker = world.talker("", "--late")
    talker.feed(f"!connect\n!fork-part {text[:-1]}\n!raw 2\n{text[-1]}\n".encode())  # a stranger asks within a second
    talker.connected()
    look.until()
    program = world.path("bin/talker")
    assert world.cli("approve", world.entry(program)["hash"], "--path", program, "--read", "aws").returncode == 0
    answer = talker.answer()
    assert not won(answer)
    assert answer == denied("caller_changed")


def test_a_program_that_replaces_itself_after_it_was_verified(world: World, trusted: str, naive: Broker) -> None:
    evil = world.build_client("evil", "evil")
    naive(trusted)

    def attack(socket: str) -> dict[str, object]:
        talker = world.talker(trusted, socket=socket)
        talker.ask(read("other"))  # verified now
        talker.order("inheritable")
        talker.feed(f"!exec {evil}\n".encode())
        return talker.connected().ask(ASK)

    assert won(attack(world.path("naive.sock")))
    start(world, trusted)
    assert attack(world.socket) == denied("caller_changed")


def test_passed_descriptors_are_refused(world: World, trusted: str) -> None:
    """Where the kernel knows SO_PASSRIGHTS the sender cannot even send; elsewhere the connection ends."""
    daemon = start(world, trusted)
    talker = world.talker(trusted)
    assert talker.ask(ASK)["status"] == "success"
    before = daemon.descriptors() if os.geteuid() == 0 else None
    talker.order("pass " + json.dumps(ASK))
    if b"#broken Operation not permitted" not in talker.out.all():
        assert talker.answer() == denied("caller_changed")
        assert talker.eof()
    if before is not None:
        assert daemon.descriptors() <= before


def test_another_user_is_not_served(world: World, trusted: str, naive: Broker) -> None:
    other = users.stranger()
    if other is None:
        pytest.skip("only root can run a program as another user")
    for folder in (world.home, world.path("bin"), world.path("run"), world.path("run/keychain-auth")):
        if os.path.isdir(folder):
            os.chmod(folder, 0o711)
    os.chmod(trusted, 0o755)
    naive(trusted)
    assert won(world.talker(trusted, socket=world.path("naive.sock"), account=other).ask(ASK))
    start(world, trusted)
    os.chmod(world.path("run/keychain-auth"), 0o711)  # the modes of folder and socket alone already stop this
    os.chmod(world.socket, 0o666)
    assert world.talker(trusted, account=other).ask(ASK) == denied("user_not_allowed")


def test_a_program_on_a_filesystem_that_is_not_trusted(world: World, trusted: str, naive: Broker) -> None:
    if world.filesystem == "tmpfs":
        pytest.skip("the home itself lies on tmpfs here")
    folder = tempfile.mkdtemp(prefix="ka-", dir="/dev/shm")
    try:
        os.chmod(folder, 0o755)
        program = os.path.join(folder, "trusted")
        shutil.copy(trusted, program)
        world.user.own(folder)
        world.user.own(program)
        naive(program)
        assert won(world.talker(program, socket=world.path("naive.sock")).ask(ASK))
        world.allow(program, ["aws"])
        daemon = start(world, trusted)
        assert world.talker(program).ask(ASK) == denied("identity_not_verified")
        daemon.wait_log("lies on tmpfs")
    finally:
        shutil.rmtree(folder)


def test_an_inheritable_descriptor_is_told_what_to_change(world: World, trusted: str) -> None:
    daemon = start(world, trusted)
    assert world.talker(trusted, "--inheritable").ask(ASK) == denied("socket_not_cloexec")
    daemon.wait_log("open the socket with SOCK_CLOEXEC")
    copier = world.talker(trusted, "--late")
    daemon.signal(signal.SIGSTOP)
    copier.reconnect()
    copier.order("copy")  # one descriptor is close-on-exec, the other is not
    daemon.signal(signal.SIGCONT)
    assert copier.ask(ASK) == denied("socket_not_cloexec")


def test_requests_in_the_body_of_another_protocol(world: World, trusted: str, naive: Broker) -> None:
    """What `curl --unix-socket` sends: the lines of its head are no requests, but one of its body is."""
    body = json.dumps(ASK)
    request = f"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body) + 1}\r\n\r\n{body}\n"
    naive(trusted)
    talker = world.talker(trusted, socket=world.path("naive.sock"))
    talker.send_raw(request.encode())
    assert any(won(talker.answer()) for _ in range(5))
    start(world, trusted)
    talker = world.talker(trusted)
    talker.send_raw(request.encode())
    assert talker.answer() == {"type": "RESPONSE", "status": "error", "reason": "malformed_request"}
    assert talker.eof()


def test_a_changed_file_is_another_program(world: World, trusted: str) -> None:
    """Same path, same inode, same size, times put back: the content counts, and the cache must not hide it."""
    world.start()
    for _ in range(2):  # twice, so that the hash could be remembered; while it runs the kernel lets nobody write to it
        talker = world.talker(trusted)
        assert talker.ask(ASK) == results()
        talker.kill()
        talker.wait()
    about = os.stat(trusted)
    with open(trusted, "r+b") as file:
        content = file.read()
        at = content.index(b"variant trusted")
        file.seek(at)
        file.write(b"variant TRUSTED")
    os.utime(trusted, ns=(about.st_atime_ns, about.st_mtime_ns))
    after = os.stat(trusted)
    assert (about.st_ino, about.st_size, about.st_mtime_ns) == (after.st_ino, after.st_size, after.st_mtime_ns)
    assert world.talker(trusted).ask(ASK) == denied(PENDING)
