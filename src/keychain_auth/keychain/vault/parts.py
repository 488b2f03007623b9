"""Long work of the writer's thread, in parts between which others go first.

Why: rows are made while others read. Linux lets a thread that needs no pause keep its processor for about 3 ms
(``base_slice_ns``) before another on the same processor has its turn, and the event loop, woken meanwhile, waits for
that. A shorter ``sys.setswitchinterval`` does not help: the processor is what is missing, not the interpreter's lock.

What it does not promise: a pause inside of one statement, or of a commit.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any, TypeVar

T = TypeVar("T")
_AT_ONCE = 32
"""Rows, of 1 to 5 µs each."""

_give_way: Callable[[], None] = getattr(os, "sched_yield", partial(time.sleep, 0))  # Windows has no sched_yield


def in_parts(things: Sequence[T]) -> Iterator[Sequence[T]]:
    """``things`` in order, some at a time."""
    many = len(things) > _AT_ONCE
    for at in range(0, len(things), _AT_ONCE):
        if many:
            _give_way()
        yield things[at : at + _AT_ONCE]


def one_by_one(things: Sequence[T]) -> Iterable[T]:
    """``things`` in order."""
    return chain.from_iterable(in_parts(things))


def run_many(db: sqlite3.Connection, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """``executemany``. Raises sqlite3.Error."""
    for some in in_parts(rows):
        db.executemany(sql, some)


def select(db: sqlite3.Connection, sql: str, ids: Sequence[bytes]) -> list[tuple[Any, ...]]:
    """The rows of a query whose ``%s`` stands for row ids: a statement for each of them costs twice as much."""
    found: list[tuple[Any, ...]] = []
    for some in in_parts(ids):
        found += db.execute(sql % ",".join("?" * len(some)), some).fetchall()
    return found
