"""Run a coroutine at once, and make a task of it only if it has to wait.

Why: a read from memory never waits, and a task for it costs more than the read (creation, a turn of the loop, a context
switch: about 10 µs). With this the way of a request is one ``async`` function, whether its keychain waits or not.
Python 3.12 has it as ``asyncio.eager_task_factory``; this is the part of it that 3.11 needs.

Who waits for nothing but an ``Outcome`` needs no task either: it goes on when that is there, in the same call.
What this does not promise: that such a coroutine has a current task before its first other wait, or is cancelled when
the event loop ends.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any, TypeVar

from keychain_auth.keychain.outcome import Outcome

T = TypeVar("T")


def run(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T], done: Callable[[asyncio.Future[T]], object]
) -> T | None:
    """The result, if the coroutine finished without waiting. Else None, and ``done`` is called with the finished
    task or future later. An exception of the first part is raised here. For coroutines whose result is never None.
    """
    try:
        awaited = coroutine.send(None)
    except StopIteration as finished:
        return finished.value  # type: ignore[no-any-return]
    _wait(loop, coroutine, awaited, done)
    return None


def _wait(
    loop: asyncio.AbstractEventLoop,
    coroutine: Coroutine[Any, Any, T],
    awaited: Any,
    done: Callable[[asyncio.Future[T]], object],
) -> None:
    if isinstance(awaited, Outcome) and not awaited.done():
        awaited.then = partial(_go_on, loop, coroutine, done)
    else:
        loop.create_task(_rest(coroutine, awaited)).add_done_callback(done)


def _go_on(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T], done: Callable[[asyncio.Future[T]], object]
) -> None:
    """The outcome is there."""
    end: asyncio.Future[T] = loop.create_future()
    try:
        awaited = coroutine.send(None)
    except StopIteration as finished:
        end.set_result(finished.value)
    except Exception as error:  # noqa: BLE001 - it belongs to ``done``
        end.set_exception(error)
    else:
        _wait(loop, coroutine, awaited, done)
        return
    done(end)


async def _rest(coroutine: Coroutine[Any, Any, T], awaited: Any) -> T:
    return await _resume(coroutine, awaited)


@types.coroutine
def _resume(coroutine: Coroutine[Any, Any, T], awaited: Any) -> Generator[Any, Any, T]:
    """Hand what the coroutine waits for to the task, and the outcome back, until it ends."""
    while True:
        try:
            outcome = yield awaited
        except BaseException as error:  # noqa: BLE001 - cancellation too belongs to the coroutine
            advance = partial(coroutine.throw, error)
        else:
            advance = partial(coroutine.send, outcome)
        try:
            awaited = advance()
        except StopIteration as finished:
            return finished.value  # type: ignore[no-any-return]
