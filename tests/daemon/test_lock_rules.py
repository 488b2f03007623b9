"""Pauses after wrong answers, and the timers, by a clock of their own."""

from __future__ import annotations

from keychain_auth.daemon.locking.lock_rules import Backoff, Timers


def test_pauses_double_up_to_ten_seconds() -> None:
    backoff = Backoff()
    pauses = []
    for _ in range(9):
        assert backoff.pause(100.0) == 0.0
        backoff.failed(100.0)
        pauses.append(round(backoff.pause(100.0), 3))
        backoff._free_at = 0.0
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]


def test_a_pause_ends_and_a_right_answer_ends_them_all() -> None:
    backoff = Backoff()
    backoff.failed(5.0)
    assert backoff.pause(5.05) > 0
    assert backoff.pause(5.1) == 0.0
    for _ in range(100):
        backoff.failed(6.0)
    assert backoff.pause(6.0) == 10.0
    assert backoff.failures == 101
    backoff.succeeded()
    assert (backoff.pause(6.0), backoff.failures) == (0.0, 0)


def test_timers() -> None:
    never = Timers(0, 0)
    never.opened(0)
    assert never.expired(1e12) == ""
    assert never.resolution == 1.0
    both = Timers(10, 100)
    both.opened(1000)
    assert both.expired(1009.9) == ""
    assert "not used for 10 s" in both.expired(1010)
    for now in range(1000, 1100, 5):
        both.used(now)
        assert both.expired(now) == ""
    both.used(1100)
    assert "open for 100 s" in both.expired(1100)
    both.opened(2000)
    assert both.expired(2001) == ""
    assert Timers(0.2, 0).resolution == 0.05


def test_a_night_in_the_bag_counts() -> None:
    """The clock of the timers goes on while the machine sleeps; it is never behind the one that does not."""
    import time

    from keychain_auth.daemon.locking.safe import clock

    assert clock() >= time.monotonic() - 1
    idle = Timers(300, 0)
    idle.opened(0)
    assert idle.expired(8 * 3600)  # the first look after the night
