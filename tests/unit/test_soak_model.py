"""The model of the soak can be wrong in both directions: it must accept what may be, and nothing else."""

from __future__ import annotations

import pytest

from soak.model import Change, Lost, Model

A, B, C = (Change({"t": value, "u": value}) for value in "abc")


def test_what_was_acknowledged_must_be_there() -> None:
    model = Model()
    model.done(A)
    model.done(Change(targets=("u",)))
    model.seen({"t": "a"}, daemon_died=True)
    for wrong in ({}, {"t": "a", "u": "a"}, {"t": "b"}):
        with pytest.raises(Lost):
            model.seen(wrong, daemon_died=True)


@pytest.mark.parametrize(("found", "allowed"), [("a", True), ("b", True), ("c", True), ("", False)])
def test_of_unanswered_changes_the_first_ones_may_be_there(found: str, allowed: bool) -> None:
    model = Model()
    model.done(A)
    model.unanswered([B, C])
    content = {"t": found, "u": found} if found else {}
    if not allowed:
        with pytest.raises(Lost):
            model.seen(content, daemon_died=True)
        return
    model.seen(content, daemon_died=True)
    assert (model.content, model.resolved) == (content, 1)


def test_half_a_batch_is_lost() -> None:
    model = Model()
    model.done(A)
    model.unanswered([B])
    with pytest.raises(Lost, match="other value"):
        model.seen({"t": "b", "u": "a"}, daemon_died=True)


def test_a_failed_change_is_there_only_after_a_death_and_never_after_a_success() -> None:
    model = Model()
    model.done(A)
    model.refused(B)
    with pytest.raises(Lost):
        model.seen({"t": "b", "u": "b"}, daemon_died=False)
    model.seen({"t": "b", "u": "b"}, daemon_died=True)
    assert model.ghosts == 1
    model.refused(C)
    model.done(A)
    with pytest.raises(Lost):
        model.seen({"t": "c", "u": "c"}, daemon_died=True)
