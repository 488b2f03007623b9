"""Coroutines that are begun at once: which of them become tasks, and that each says its end exactly once."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from keychain_auth.daemon.serving import eager
from keychain_auth.keychain.outcome import Outcome


class Scene:
    """Runs coroutines eagerly and keeps how they ended."""

    def __init__(self) -> None:
        self.ends: list[object] = []

    def run(self, coroutine: Coroutine[Any, Any, object]) -> object:
        return eager.run(asyncio.get_running_loop(), coroutine, self.ended)

    def ended(self, end: asyncio.Future[object]) -> None:
        self.ends.append(end.exception() or end.result())


def test_who_waits_for_an_outcome_goes_on_in_the_moment_it_is_there() -> None:
    async def change(outcome: Outcome) -> str:
        await outcome
        return "made"

    async def main() -> None:
        scene, made, failed = Scene(), Outcome(), Outcome()
        assert scene.run(change(made)) is None
        assert scene.run(change(failed)) is None
        assert len(asyncio.all_tasks()) == 1
        made.settle(None)
        made.settle(OSError("a second end"))
        assert scene.ends == ["made"]
        error = OSError("no room")
        failed.settle(error)
        assert scene.ends == ["made", error]

    asyncio.run(main())


def test_who_waits_for_something_else_afterwards_becomes_a_task() -> None:
    async def change(outcome: Outcome) -> str:
        await outcome
        await asyncio.sleep(0)
        async with asyncio.timeout(60):  # needs a task
            await asyncio.sleep(0)
        return "made"

    async def main() -> None:
        scene, outcome = Scene(), Outcome()
        scene.run(change(outcome))
        outcome.settle(None)
        assert scene.ends == []
        while not scene.ends:
            await asyncio.sleep(0)
        assert scene.ends == ["made"]

    asyncio.run(main())


def test_a_task_awaits_an_outcome_as_any_future() -> None:
    async def main() -> None:
        made, failed, gone = Outcome(), Outcome(), Outcome()
        loop = asyncio.get_running_loop()
        loop.call_soon(made.settle, None)
        await made
        loop.call_soon(failed.settle, OSError("no room"))
        with pytest.raises(OSError, match="no room"):
            await failed
        task = asyncio.ensure_future(gone)
        task.cancel()
        gone.settle(None)
        assert gone.cancelled()

    asyncio.run(main())


def test_a_fault_of_who_hears_it_is_reported_and_stops_nobody() -> None:
    faults: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: faults.append(type(context["exception"]).__name__))
        outcome = Outcome()
        outcome.then = lambda: int("no number")
        outcome.settle(None)

    asyncio.run(main())
    assert faults == ["ValueError"]
