"""Turns: what requests share, and that sharing a look at a process vouches for no byte that came after it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keychain_auth.daemon.requests.gate import Session
from keychain_auth.daemon.serving.turn import Turn
from keychain_auth.errors import AuditError


class Scene:
    """Keeps what happens in order. ``exec`` is the moment when the process becomes another program."""

    def __init__(self, turn_class: type[Turn] = Turn) -> None:
        self.events: list[str] = []
        self.full = False
        anything: Any = self
        self.turn = turn_class(anything, anything, lambda: self.events.append("policy"))
        self.same = True

    def append(self, records: list[Any], *, sync: bool) -> None:
        if self.full:
            raise AuditError("no room")
        self.events.append(f"write {len(records)}")

    def error(self, event: str, **fields: object) -> None:
        self.events.append("journal")

    def info(self, event: str, **fields: object) -> None:
        self.events.append(f"journal: {event}")

    def connection(self, name: str, look: str = "process") -> Connection:
        return Connection(self, name, look)

    def serve(self, *connections: Connection) -> None:
        self.turn.serve([connection.receive for connection in connections])


class Peer:
    """A process that can be looked at."""

    def __init__(self, scene: Scene, look: str) -> None:
        self._scene = scene
        self.pid, self.look = 42, look

    def runs_same_file(self) -> bool:
        self._scene.events.append(f"look {self.look}")
        return self._scene.same

    runs_same_exec = runs_same_file


class Connection:
    """Takes part in turns with a real session's judgement of its sender."""

    def __init__(self, scene: Scene, name: str, look: str) -> None:
        self._scene = scene
        self.name = name
        self.breaks = False
        peer: Any = Peer(scene, look)
        anything: Any = Anything()
        self._session = Session(peer, anything, anything, anything, scene.turn.looks)
        self.before_acting: Callable[[], None] = lambda: None
        self.received = b"request\n"

    def receive(self) -> None:
        self._scene.events.append(f"receive {self.name}")
        self._scene.turn.received.append((self, self.received, 42))

    def act(self, data: bytes, sender: int | None) -> None:
        if self.breaks:
            raise ZeroDivisionError
        why = self._session.distrust(sender)
        self._scene.events.append(f"{'refuse' if why else 'answer'} {self.name}")
        if not why:
            self._scene.turn.record(b"{}")
            self._scene.turn.answers_of(self).append(b"secret\n")

    def give_up(self, fault: BaseException) -> None:
        self._scene.events.append(f"give up {self.name}")

    def transmit(self, lines: list[bytes]) -> None:
        self._scene.events.append(f"send {self.name} {b''.join(lines).decode().strip()}")


class Anything:
    """An identity without a script, of nobody's behalf; a pipeline that nobody asks."""

    script = None
    behalf = None

    def answer(self) -> None:
        raise AssertionError

    @property
    def identity(self) -> Anything:
        return self


def test_what_a_turn_shares_is_looked_at_after_everybody_received_and_recorded_before_anybody_is_answered() -> None:
    scene = Scene()
    scene.serve(scene.connection("a"), scene.connection("b"), scene.connection("c", look="another process"))
    assert scene.events == [
        "receive a", "receive b", "receive c", "policy", "look process", "answer a", "answer b",
        "look another process", "answer c", "write 3", "send a secret", "send b secret", "send c secret",
    ]  # fmt: skip


class NaiveTurn(Turn):
    """Remembers that a process was looked at, as if it would stay what it was."""

    def _act(self) -> None:
        remembered = dict(self.looks)
        received = list(self.received)
        self.received.clear()
        for participant, data, sender in received:
            participant.act(data, sender)
        self.looks.update(remembered)


def _exec_after_the_first_request(turn_class: type[Turn]) -> list[str]:
    scene = Scene(turn_class)
    one, two = scene.connection("one"), scene.connection("two")
    scene.serve(one)
    scene.same = False  # the verified process starts another program
    scene.serve(two)
    return scene.events


def test_a_process_that_became_another_program_lives_on_its_old_look_in_a_naive_turn() -> None:
    assert "answer two" in _exec_after_the_first_request(NaiveTurn)


def test_a_process_that_became_another_program_is_looked_at_again_in_the_next_turn() -> None:
    events = _exec_after_the_first_request(Turn)
    assert "answer one" in events
    assert "refuse two" in events


def test_connections_of_one_process_are_refused_together() -> None:
    scene = Scene()
    scene.same = False
    scene.serve(scene.connection("a"), scene.connection("b"))
    assert scene.events == ["receive a", "receive b", "policy", "look process", "refuse a", "refuse b"]


def test_a_message_of_another_process_is_refused_whatever_was_found_about_the_right_one() -> None:
    scene = Scene()
    impostor = scene.connection("impostor")
    impostor.receive = lambda: scene.turn.received.append((impostor, b"request\n", 43))  # type: ignore[method-assign]
    scene.serve(scene.connection("a"), impostor)
    assert "answer a" in scene.events
    assert "refuse impostor" in scene.events


def test_a_fault_in_one_connection_costs_the_others_nothing() -> None:
    scene = Scene()
    broken = scene.connection("broken")
    broken.breaks = True
    scene.serve(scene.connection("a"), broken, scene.connection("b"))
    assert scene.events[-5:] == ["give up broken", "answer b", "write 2", "send a secret", "send b secret"]


def test_nothing_leaves_that_could_not_be_recorded() -> None:
    scene = Scene()
    scene.full = True
    scene.serve(scene.connection("a"), scene.connection("b"))
    assert scene.events[-3:] == ["journal"] + [
        f'send {name} {{"type":"RESPONSE","status":"error","reason":"audit_unavailable"}}' for name in "ab"
    ]


def test_a_log_that_stays_unwritable_is_complained_of_once() -> None:
    scene = Scene()
    scene.full = True
    for _ in range(3):
        scene.serve(scene.connection("a"))
    assert scene.events.count("journal") == 1
    scene.full = False
    scene.serve(scene.connection("a"))
    assert scene.events.count("journal: the audit log can be written again") == 1
    scene.full = True
    scene.serve(scene.connection("a"))
    assert scene.events.count("journal") == 2
