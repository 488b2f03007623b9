"""Every command in the documents is run, or there is a reason why not, which is looked at too."""

from __future__ import annotations

import os
import re

import pytest

from docs.pages import Reader, Saved, Shown, fits, missing_tools, steps
from docs.test_docs import DOCUMENTS
from support.world import World

# Pages that are run from top to bottom.
RUN = ("docs/quickstart.md", "docs/concepts.md", "docs/coming-from.md")
# Of the other pages each command fits one of these: pattern, and who runs it, or why it cannot be.
_MADE = "it makes or installs what the tests run from"
_SERVICE = "tests/cli/test_cli_install*, tests/daemon/test_activation"
_OWN = "a word in capitals is the reader's own"
_PROGRAM = "a program of the reader's; tests/cli has others"
_TOOLS = "the reader's own tools"
_COMMANDS = "tests/cli runs each command"
ELSEWHERE = (
    (r"(make|git clone|pip|python3 -m venv|export PATH|\S*/pip) .*", _MADE),
    (r"(sudo|systemctl|journalctl|systemd-socket-activate|man) .*", _SERVICE),
    (r"keychain-auth (install|uninstall|restart|completion|manual).*", f"{_SERVICE}, tests/docs/test_manual"),
    (r"keychain-auth conformance.*", "tests/conformance"),
    (r".*\b[A-Z]{4,}\b.*", _OWN),
    (r"keychain-auth (protect|unlock|lock|unlocked|rekey|policy).*", "tests/daemon/test_locking"),
    (r"keychain-auth (backup|restore|export|import|migrate|history|restore-value|vault).*", _COMMANDS),
    (r"keychain-auth .*(\./|report\.py|venv/|/usr/local/bin/|~/\.local/).*", _PROGRAM),
    (r"keychain-auth .*", _COMMANDS),
    (r".*keychain-auth.*", "tests/integrations, tests/cli"),
    (
        r"(gcc|\./dbtool|openssl|git|kubectl|docker|aws|cargo|npm|pnpm|ssh|printf|ln|mkdir|echo) ?.*",
        "the reader's tools",
    ),
)


@pytest.mark.parametrize("document", RUN)
def test_a_page_is_true_from_top_to_bottom(world: World, document: str) -> None:
    missing = missing_tools(document)
    if missing:
        pytest.skip(f"not here: {', '.join(missing)}")
    reader = Reader(world)
    done = 0
    for step in steps(document):
        reader.do(step)
        done += 1
    assert done > 5


def test_every_other_command_is_tested_elsewhere_or_cannot_be() -> None:
    used = set()
    for document in DOCUMENTS:
        if document in RUN:
            continue
        for step in steps(document):
            if isinstance(step, Shown):
                at = next((at for at, (words, _) in enumerate(ELSEWHERE) if re.fullmatch(words, step.command)), None)
                assert at is not None, f"{document}: nobody runs: {step.command}"
                used.add(at)
    assert used == set(range(len(ELSEWHERE)))


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
