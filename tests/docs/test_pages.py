"""Every command in the documents is run, or there is a reason why not, which is looked at too."""

from __future__ import annotations

import os

import pytest

from docs.elsewhere import Elsewhere
from docs.pages import Reader, Saved, Shown, fits, missing_tools, steps
from docs.plans import PLANS
from docs.test_docs import DOCUMENTS
from support.world import World


# A page is typed as a whole, and the longest takes half a minute on a machine that does other things too.
@pytest.mark.parametrize("document", PLANS)
def test_a_page_is_true_from_top_to_bottom(world: World, document: str) -> None:
    missing = missing_tools(document)
    if missing:
        pytest.skip(f"not here: {', '.join(missing)}")
    plan = PLANS[document]
    reader = Reader(world)
    plan.has(reader)
    for step in steps(document):
        if isinstance(step, Saved) or not any(other.matches(step.command) for other in plan.elsewhere):
            reader.do(step, plan.instead)
    plan.then(reader)


@pytest.mark.parametrize("document", PLANS)
def test_what_a_reader_does_not_type_is_run_by_the_test_that_is_named(document: str) -> None:
    plan = PLANS[document]
    lines = [step.command for step in steps(document) if isinstance(step, Shown)]
    for other in plan.elsewhere:
        about = [line for line in lines if other.matches(line)]
        assert about, f"{document} has no line {other.command}"
        assert [other.problem(line) for line in about if other.problem(line)] == []
    for words, _ in plan.instead:
        assert any(words in line for line in lines), f"{document} does not say {words}"


def test_every_page_with_commands_is_typed() -> None:
    with_commands = {document for document in DOCUMENTS if any(isinstance(step, Shown) for step in steps(document))}
    assert set(PLANS) == with_commands


@pytest.mark.parametrize(
    ("test", "problem"),
    [
        ("tests/nowhere.py::test_x", "there is no tests/nowhere.py"),
        ("tests/docs/test_manual.py::test_unheard_of", "tests/docs/test_manual.py has no test_unheard_of"),
        (
            "tests/cli/test_cli_watch_lines.py::test_the_same_in_plain_lines",
            "tests/cli/test_cli_watch_lines.py does not say watch, --purge",
        ),
    ],
)
def test_a_reason_that_names_what_is_not_there_is_noticed(test: str, problem: str) -> None:
    assert Elsewhere(".*", test, "").problem("keychain-auth watch --purge") == problem


def test_what_a_page_shows_is_compared() -> None:
    assert fits("stored app X", "stored app X")
    assert not fits("stored app X", "stored app XY")
    assert fits('…"value":"1"…', '{"value":"1"}\n')
    assert not fits("1 …", "2 things")


def test_a_wrong_page_is_noticed(world: World) -> None:
    reader = Reader(world)
    with pytest.raises(AssertionError, match="exit code 1, wanted 0"):
        reader.do(Shown("false", 0, ""))
    with pytest.raises(AssertionError, match="wanted:\nyes"):
        reader.do(Shown("echo no", 0, "yes"))
    reader.do(Saved("app.txt", "hello\n"))
    reader.do(Shown("cat app.txt", 0, "hello"))
    reader.do(Shown("exit_code() { return 3; }; exit_code", 3, ""))
    assert os.path.exists(world.path("app.txt"))
