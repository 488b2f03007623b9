"""The selector that serves connections itself: as a selector, under an event loop, and both on one descriptor."""

from __future__ import annotations

import asyncio
import selectors
import socket
import threading
from collections.abc import Iterator

import pytest

from keychain_auth.platform.linux.readiness import Readiness

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def readiness() -> Iterator[Readiness]:
    made = Readiness()
    yield made
    made.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def test_connections_are_served_and_not_reported(readiness: Readiness, pair: Pair) -> None:
    ours, theirs = pair
    served: list[int] = []
    readiness.serve_by(lambda ready: served.append(len(ready)) or [callback() for callback in ready])  # type: ignore
    readiness.add(ours.fileno(), lambda: ours.recv(100))
    theirs.send(b"x")
    assert readiness.select(5) == []
    assert served == [1]
    readiness.remove(ours.fileno())
    theirs.send(b"x")
    assert readiness.select(0) == []
    assert served == [1]


def test_the_same_descriptor_can_be_watched_by_the_loop_too(readiness: Readiness, pair: Pair) -> None:
    ours, theirs = pair
    heard: list[bytes] = []
    readiness.add(ours.fileno(), lambda: heard.append(ours.recv(100)))
    key = readiness.register(ours.fileno(), selectors.EVENT_WRITE, "writer")
    theirs.send(b"x")
    assert readiness.select(5) == [(key, selectors.EVENT_WRITE)]
    assert heard == [b"x"]
    readiness.remove(ours.fileno())
    theirs.send(b"y")
    assert readiness.select(5) == [(key, selectors.EVENT_WRITE)]
    assert heard == [b"x"]
    assert readiness.unregister(ours.fileno()) == key
    assert readiness.select(0) == []


def test_it_is_a_selector(readiness: Readiness, pair: Pair) -> None:
    ours, theirs = pair
    key = readiness.register(ours, selectors.EVENT_READ, 1)
    with pytest.raises(KeyError):
        readiness.register(ours, selectors.EVENT_READ)
    assert readiness.get_key(ours) == key
    assert dict(readiness.get_map()) == {ours.fileno(): key}
    assert readiness.select(0) == []
    theirs.send(b"x")
    assert readiness.select(None) == [(key, selectors.EVENT_READ)]
    changed = readiness.modify(ours, selectors.EVENT_READ | selectors.EVENT_WRITE, 2)
    assert readiness.select(0) == [(changed, selectors.EVENT_READ | selectors.EVENT_WRITE)]
    readiness.unregister(ours)
    with pytest.raises(KeyError):
        readiness.get_key(ours)


def test_a_descriptor_that_was_closed_first_can_still_be_removed(readiness: Readiness) -> None:
    ours, theirs = socket.socketpair()
    number = ours.fileno()
    readiness.add(number, lambda: None)
    ours.close()
    readiness.remove(number)
    theirs.close()


def test_a_fault_in_a_turn_is_reported_and_the_loop_goes_on() -> None:
    readiness = Readiness()
    faults: list[str] = []

    def serve(ready: list[object]) -> None:
        raise ZeroDivisionError

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: faults.append(type(context["exception"]).__name__))
        ours, theirs = socket.socketpair()
        readiness.serve_by(serve)
        readiness.add(ours.fileno(), lambda: None)
        theirs.send(b"x")
        async with asyncio.timeout(60):
            while not faults:
                await asyncio.sleep(0)
        readiness.remove(ours.fileno())
        ours.close()
        theirs.close()

    with asyncio.Runner(loop_factory=readiness.new_loop) as runner:
        runner.run(main())
    assert set(faults) == {"ZeroDivisionError"}


def test_timers_and_threads_of_the_loop_go_on_while_connections_are_served_all_the_time() -> None:
    readiness = Readiness()

    async def main() -> str:
        ours, theirs = socket.socketpair()
        theirs.send(b"x")
        readiness.add(ours.fileno(), lambda: None)  # never read: always ready
        async with asyncio.timeout(60):
            await asyncio.sleep(0.01)
            said = await asyncio.get_running_loop().run_in_executor(None, str.upper, "done")
        readiness.remove(ours.fileno())
        ours.close()
        theirs.close()
        return said

    with asyncio.Runner(loop_factory=readiness.new_loop) as runner:
        assert runner.run(main()) == "DONE"


def test_what_a_turn_asks_of_the_loop_is_done_while_connections_are_served_all_the_time() -> None:
    """The selector goes on serving and returns to the loop only for a reason: this is one."""
    readiness = Readiness()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        soon, later = asyncio.Event(), asyncio.Event()
        ask = [lambda: loop.call_soon(soon.set), lambda: loop.call_later(0.01, later.set)]
        ours, theirs = socket.socketpair()
        theirs.send(b"x")
        readiness.add(ours.fileno(), lambda: ask.pop()() if ask else None)  # never read: always ready
        async with asyncio.timeout(60):
            await soon.wait()
            await later.wait()
        readiness.remove(ours.fileno())
        ours.close()
        theirs.close()

    with asyncio.Runner(loop_factory=readiness.new_loop) as runner:
        runner.run(main())


def test_what_threads_ask_for_is_done_without_a_round_of_the_loop() -> None:
    readiness = Readiness()
    faults: list[str] = []
    rounds: list[int] = []

    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: faults.append(type(context["exception"]).__name__))
        heard: list[str] = []
        ended = asyncio.Event()

        def work() -> None:
            loop.call_soon_threadsafe(heard.append, "cancelled").cancel()
            loop.call_soon_threadsafe(int, "no number")
            loop.call_soon_threadsafe(heard.append, "one")
            loop.call_soon_threadsafe(lambda: loop.call_soon_threadsafe(heard.append, "asked by one of them"))
            loop.call_soon_threadsafe(loop.call_later, 0.0, ended.set)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        rounds.append(len(heard))
        async with asyncio.timeout(60):
            await ended.wait()
        return heard

    with asyncio.Runner(loop_factory=readiness.new_loop) as runner:
        loop = runner.get_loop()
        assert runner.run(main()) == ["one", "asked by one of them"]
    assert rounds == [0]
    assert faults == ["ValueError"]
    with pytest.raises(RuntimeError, match="closed"):
        loop.call_soon_threadsafe(faults.append, "too late")


def test_who_left_waits_for_the_loop_once_and_not_longer(readiness: Readiness, pair: Pair) -> None:
    """Somebody connects all the time: those who left must be let go all the same."""
    ours, theirs = pair
    ended: list[bytes] = []
    readiness.add(ours.fileno(), lambda: ended.append(ours.recv(100)))
    always, other = socket.socketpair()
    with always, other:
        key = readiness.register(always.fileno(), selectors.EVENT_WRITE)
        theirs.close()
        turns = [(readiness.select(0), len(ended)) for _ in range(4)]
    loops = [(key, selectors.EVENT_WRITE)]
    assert turns == [(loops, 0), (loops, 1), (loops, 1), (loops, 2)]


def test_who_left_does_not_wait_where_the_loop_has_nothing_to_do(readiness: Readiness, pair: Pair) -> None:
    ours, theirs = pair
    ended: list[bytes] = []

    def end() -> None:
        ended.append(ours.recv(100))
        readiness.remove(ours.fileno())

    readiness.add(ours.fileno(), end)
    theirs.close()
    assert readiness.select(0) == []
    assert ended == [b""]
