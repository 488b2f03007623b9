"""Threads with deadlines: what is overdue is given up, and a thread that hangs is replaced."""

from __future__ import annotations

import asyncio
import threading

import pytest

from keychain_auth.daemon.attesting.workers import Overdue, Workers


def test_results_and_errors_come_back() -> None:
    async def both() -> None:
        workers = Workers("t", 1)
        assert await workers.run(lambda: 5, 10) == 5
        with pytest.raises(ZeroDivisionError):
            await workers.run(lambda: 1 // 0)
        workers.close()

    asyncio.run(both())


def test_many_jobs_use_the_threads_that_there_are() -> None:
    seen: set[str] = set()

    async def many() -> None:
        workers = Workers("t", 3)
        together = threading.Barrier(3)

        def work(number: int) -> int:
            if number < 3:
                together.wait(60)  # all three at the same time
            seen.add(str(threading.get_ident()))
            return number

        jobs = [workers.run(lambda number=number: work(number), 20) for number in range(50)]  # type: ignore[misc]
        assert await asyncio.gather(*jobs) == list(range(50))
        workers.close()

    asyncio.run(many())
    assert len(seen) == 3


def test_nobody_can_have_all_threads_hang() -> None:
    async def hang() -> None:
        workers = Workers("t", 1, spare=8, lost_each=2)
        go = threading.Event()
        for _ in range(2):
            with pytest.raises(Overdue):
                await workers.run(lambda: go.wait(20), 0.02, owner=1)
        began = asyncio.get_running_loop().time()
        with pytest.raises(Overdue):
            await workers.run(lambda: go.wait(20), 20, owner=1)
        assert asyncio.get_running_loop().time() - began < 5
        assert await workers.run(lambda: 5, 10, owner=2) == 5
        go.set()
        while True:  # until the threads are back: then it is looked at again
            try:
                assert await workers.run(lambda: 6, 10, owner=1) == 6
                break
            except Overdue:
                await asyncio.sleep(0)
        workers.close()

    asyncio.run(hang())


def test_a_thread_that_hangs_is_replaced_and_its_place_given_back() -> None:
    async def hang() -> None:
        workers = Workers("t", 1, spare=2)
        go = threading.Event()
        hung = [asyncio.ensure_future(workers.run(lambda: go.wait(20), 0.05)) for _ in range(3)]
        # One after the other takes the one place, and each is given up; the third has no spare thread left after it.
        for job in hung:
            with pytest.raises(Overdue):
                await job
        assert await workers.run(lambda: "served", 10) == "served"
        go.set()
        assert await workers.run(lambda: "still served", 10) == "still served"
        workers.close()

    asyncio.run(hang())


def test_with_all_spare_threads_lost_work_is_overdue_and_not_begun() -> None:
    async def hang() -> None:
        workers = Workers("t", 1, spare=1)
        go = threading.Event()
        begun: list[int] = []
        for _ in range(2):
            with pytest.raises(Overdue):
                await workers.run(lambda: go.wait(20), 0.05)
        with pytest.raises(Overdue):
            await workers.run(lambda: begun.append(1), 0.05)
        go.set()
        assert await workers.run(lambda: "served", 10) == "served"
        assert begun == []
        workers.close()

    asyncio.run(hang())
