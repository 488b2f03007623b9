"""Every command in the documents is run, or there is a reason why not, which is looked at too."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import NamedTuple

import pytest

from docs.pages import Reader, Saved, Shown, fits, missing_tools, steps
from docs.test_docs import DOCUMENTS
from support.world import World


class Plan(NamedTuple):
    """``has``: what the reader has before the page begins. ``not_run``: pattern of a command to why it is not."""

    has: Callable[[Reader], None] = lambda reader: None
    not_run: tuple[tuple[str, str], ...] = ()


_MADE = "it makes or installs what the tests run from"
_SERVICE = "the machine's service manager: tests/cli/test_cli_install*, tests/daemon/test_activation"
_TERMINAL = "it asks on a terminal: tests/cli/test_cli_locking, tests/cli/test_cli_backup"
_THEIRS = "a program of the reader's that no test has"
_FOREVER = "it goes on until it is ended: tests/cli"
_DESKTOP = "a desktop keyring: tests/keychains"
_TPM = "a TPM: tests/protectors"


def _readme(reader: Reader) -> None:
    reader.environment()


def _run(reader: Reader) -> None:
    reader.has("keychain-auth start")
    for target in ("app DATABASE_URL", "app signing-key", "openai key"):
        reader.has(f"printf value | keychain-auth set {target}")
    for name in ("manage.py", "report", "worker", "sign"):
        reader.file(name, "#!/bin/sh\nexit 0\n", 0o755)
    lines = "DATABASE_URL=keychain://app/DATABASE_URL\nAPI_KEY=keychain://openai/key\nLOG_LEVEL=info\n"
    reader.file("app.env", lines)
    reader.file("app.conf.tmpl", "url = {{ keychain://app/DATABASE_URL }}\n")


def _operations(reader: Reader) -> None:
    reader.has(
        "keychain-auth start",
        "printf 1 | keychain-auth set aws DATABASE_URL",
        "printf 2 | keychain-auth set aws DATABASE_URL",
        "gcc -O2 -o dbtool examples/c/dbtool.c && cp dbtool deploy && mkdir build && cp dbtool build/mytool",
        "printf 'int f(void) { return 1; }' | gcc -shared -fPIC -x c -o libdb.so -",
        "keychain-auth register ./dbtool && keychain-auth register ./deploy",
        "! (cp dbtool mytool && keychain-auth register ./mytool && ./mytool read aws key)",
    )
    reader.file(".env", "DATABASE_URL=postgres://x\n")
    header = "folder,favorite,type,name,notes,fields,reprompt,login_uri,login_username,login_password,login_totp\n"
    reader.file("bitwarden.csv", f"{header},,login,site,,,0,https://example.org,ann,pw,\n")
    reader.file("report.py", "print('a report')\n")
    reader.file("key.pem", "-----BEGIN PRIVATE KEY-----\n")


_PLANS = {
    "README.md": Plan(_readme, (
        (r"git clone .*|make .*|python3 -m venv .*|\S*/pip install .*", _MADE),
        (r"keychain-auth migrate .*", _DESKTOP),
        (r".*git-credential-keychain-auth.*|git config .*", "tests/integrations"),
    )),
    "docs/quickstart.md": Plan(),
    "docs/concepts.md": Plan(),
    "docs/coming-from.md": Plan(),
    "docs/run.md": Plan(_run, ((r".*\| ssh .*", "another machine"),)),
    "docs/operations.md": Plan(_operations, (
        (r"keychain-auth (install|uninstall|restart).*|sudo .*|journalctl .*|systemd-socket-activate .*", _SERVICE),
        (r"\S*/pip install .*", _MADE),
        (r"keychain-auth (set aws DATABASE_URL|get .* --clip|edit .*|rm .*)", f"{_TERMINAL}, test_cli_comfort"),
        (r"man .*|.*\| man .*", "tests/docs/test_manual"),
        (r"keychain-auth (backup|restore|protect add|protect remove|policy seal).*", _TERMINAL),
        (r"keychain-auth protect reseal .*", _TPM),
        (r".*/usr/local/bin/mytool.*|keychain-auth behalf .*", _THEIRS),
        (r"keychain-auth audit (tail -f|export (journald|syslog)).*", _FOREVER),
        (r"keychain-auth (list-pending|approve 2f0a9b3c4d5e6f70)", "README.md is run, and has both"),
        (r"keychain-auth register .*(venv/|\bPATH\b).*|keychain-auth (authorize|check) PATH .*", _THEIRS),
        (r".*\bBASE64\b.*|openssl .*|cat mytool.sig .*|keychain-auth (keygen|sign) .*", "tests/cli/test_cli_signing"),
        (r"keychain-auth (watch|approve --interactive)", "it asks a person: tests/cli/test_cli_watch"),
        (r"keychain-auth doctor.*", "what it finds is this machine's: tests/cli/test_cli_doctor"),
    )),
}  # fmt: skip
# The other pages: pattern of a page, and who runs its commands.
_ELSEWHERE = (
    (r"docs/integrations.*|docs/agents.md|clients/.*", "tests/integrations, tests/cli/test_cli_agents*"),
    (r"docs/keychains.md|docs/fleet.md", "a desktop keyring, a cluster: tests/keychains"),
    (r"docs/releasing.md|CONTRIBUTING.md", _MADE),
    (r"docs/protocol.md", "tests/conformance"),
)


@pytest.mark.parametrize("document", _PLANS)
def test_a_page_is_true_from_top_to_bottom(world: World, document: str) -> None:
    missing = missing_tools(document)
    if missing:
        pytest.skip(f"not here: {', '.join(missing)}")
    plan = _PLANS[document]
    reader = Reader(world)
    plan.has(reader)
    used: set[str] = set()
    done = 0
    for step in steps(document):
        reason = next((words for words, _ in plan.not_run if _is(words, step)), None)
        if reason is not None:
            used.add(reason)
            continue
        reader.do(step)
        done += 1
    assert done >= 5
    assert used == {words for words, _ in plan.not_run}


def _is(words: str, step: Shown | Saved) -> bool:
    return isinstance(step, Shown) and re.fullmatch(words, step.command) is not None


def test_every_page_with_commands_is_run_or_run_elsewhere() -> None:
    with_commands = {document for document in DOCUMENTS if any(isinstance(step, Shown) for step in steps(document))}
    assert set(_PLANS) <= with_commands
    for document in with_commands - set(_PLANS):
        assert any(re.fullmatch(words, document) for words, _ in _ELSEWHERE), f"nobody runs the commands of {document}"


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
