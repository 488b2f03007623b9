"""The documents tell the truth, as far as a machine can say: commands, words of the protocol, examples, links, names.

Read as plain Markdown: fenced blocks by their language, code spans, tables. A document that this reader cannot make
sense of fails a test rather than passing unseen: each kind of thing must be found at all.
"""

from __future__ import annotations

import ast
import functools
import glob
import os
import re
import shlex
from collections.abc import Iterator
from typing import Any, NamedTuple

import click
import msgspec
import pytest

from keychain_auth.cli.app import commands
from keychain_auth.daemon.settings import AuditSettings, HistorySettings, KeychainsSettings, LockSettings, Settings
from keychain_auth.daemon.shares import UserSettings
from keychain_auth.errors import NOT_RUNNING_MESSAGE
from keychain_auth.keychain.kinds import (
    CredentialManagerSettings,
    EtcdSettings,
    MacosKeychainSettings,
    SecretServiceSettings,
)
from keychain_auth.policy.parse import parse_policy
from keychain_auth.reasons import DENIED, FAILED
from keychain_auth.wire.codec import decode_request, encode_reason
from keychain_auth.wire.messages import Limits

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DOCUMENTS = sorted(
    os.path.relpath(path, ROOT)
    for pattern in ("*.md", "docs/*.md", "docs/adr/*.md", "docs/integrations/*.md", "clients/*.md")
    for path in glob.glob(os.path.join(ROOT, pattern))
)
PROTOCOL, OPERATIONS, THREATS = "docs/protocol.md", "docs/operations.md", "docs/threat-model.md"
# Texts that begin as a command does: a message of the protocol, and the purposes of keys.
NO_COMMANDS = (
    NOT_RUNNING_MESSAGE,
    "keychain-auth vault 1 index | members | name | state | value",
    "keychain-auth audit 1",
    "keychain-auth tree 1",
)
# What paths in the documents may begin with: places that every Linux has, nobody's own.
COMMON_PLACES = {"bin", "dev", "etc", "lib", "opt", "proc", "run", "tmp", "usr", "var"}

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
_ABSOLUTE = re.compile(r"(?<![\w.~}$)>])/(\w+)/")
_SEPARATORS = {"|", "||", "&&", ";", "&", "(", ")", "<", ">"}


@functools.cache
def text_of(document: str) -> str:
    with open(os.path.join(ROOT, document), encoding="utf-8") as file:
        return file.read()


def blocks(document: str, language: str) -> list[str]:
    return [body for name, body in _FENCE.findall(text_of(document)) if name == language]


def prose(document: str) -> str:
    """The document without its fenced blocks."""
    return _FENCE.sub("", text_of(document))


def rows(document: str) -> Iterator[list[str]]:
    """The cells of every row of every table."""
    for line in prose(document).splitlines():
        if line.startswith("|"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


# --- commands -----------------------------------------------------------------------------------


class Shown(NamedTuple):
    """A command in a document. ``whole``: as it is to be typed, so that its arguments must be complete too."""

    document: str
    words: tuple[str, ...]
    whole: bool


def shown_commands() -> list[Shown]:
    found = []
    for document in DOCUMENTS:
        for block in blocks(document, "console"):
            for line in block.splitlines():
                if line.startswith("$ "):
                    found += [Shown(document, words, True) for words in invocations(line[2:])]
        for span in _SPAN.findall(prose(document)):
            if span not in NO_COMMANDS:
                found += [Shown(document, words, False) for words in invocations(span)]
    return list(dict.fromkeys(found))


def invocations(line: str) -> Iterator[tuple[str, ...]]:
    """The words after each ``keychain-auth`` that a line of shell runs."""
    if "keychain-auth" not in line:
        return
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if word not in _SEPARATORS:
            words.append(word)
            continue
        if words and words[0] == "keychain-auth":
            yield tuple(words[1:])
        words = []


SHOWN = shown_commands()


def test_commands_are_found_in_blocks_and_in_text() -> None:
    assert len([shown for shown in SHOWN if shown.whole]) > 10
    assert len([shown for shown in SHOWN if not shown.whole]) > 10


@pytest.mark.parametrize("shown", SHOWN, ids=lambda shown: f"{shown.document}: {' '.join(shown.words)}")
def test_every_command_is_one_that_the_command_line_takes(shown: Shown) -> None:
    parse(commands, "keychain-auth", list(shown.words), shown.whole)


def parse(command: click.Command, name: str, words: list[str], whole: bool, above: click.Context | None = None) -> None:
    """Let click take the words as it would, without running anything. Raises click.UsageError."""
    context = click.Context(command, info_name=name, parent=above)
    if isinstance(command, click.Group) and words and not words[0].startswith("-"):
        below = command.get_command(context, words[0])
        if below is None:
            raise click.UsageError(f"no command {words[0]}")
        parse(below, words[0], words[1:], whole, context)
    elif whole:
        command.make_context(name, words, parent=above)
    else:  # a part of a command: its options must exist, its arguments may be missing
        command.make_parser(context).parse_args(words)


@pytest.mark.parametrize(
    "wrong",
    ["keychain-auth unheard-of", "keychain-auth register --scrip x", "keychain-auth audit tale", "keychain-auth get a"],
)
def test_a_wrong_command_would_be_noticed(wrong: str) -> None:
    [words] = invocations(f"printf x | {wrong}")
    with pytest.raises(click.UsageError):
        parse(commands, "keychain-auth", list(words), whole=True)


def test_every_command_is_in_the_changes() -> None:
    context = click.Context(commands)
    for name in commands.list_commands(context):
        assert re.search(rf"`(?:keychain-auth )?{name}[` ]", text_of("CHANGELOG.md")), name


# --- words of the protocol ----------------------------------------------------------------------


def test_reasons_and_their_status_are_those_of_the_code() -> None:
    told = {row[0].strip("`"): row[1] for row in rows(PROTOCOL) if len(row) == 4 and row[1] in ("denied", "error")}
    known = dict.fromkeys(DENIED, "denied") | dict.fromkeys(FAILED, "error")
    assert told == known
    for reason, status in told.items():
        assert msgspec.json.decode(encode_reason(reason)) == {"type": "RESPONSE", "status": status, "reason": reason}


def test_each_reason_has_a_way_out() -> None:
    advised = {row[0].strip("`") for row in rows(OPERATIONS) if len(row) == 2}
    assert not (DENIED | FAILED) - advised


def test_limits_are_those_of_the_code() -> None:
    told = {row[1].strip("`"): float(row[2]) for row in rows(PROTOCOL) if len(row) == 4 and row[2].isdigit()}
    assert told == msgspec.structs.asdict(Limits())


def test_the_settings_shown_are_all_settings_with_their_defaults() -> None:
    shown, *others = blocks(OPERATIONS, "toml")
    assert msgspec.toml.decode(shown, type=Settings) == Settings()
    document = msgspec.toml.decode(shown)
    assert set(document) == names(Settings)
    assert set(document["limits"]) == names(Limits)
    assert set(document["audit"]) == names(AuditSettings)
    assert set(document["history"]) == names(HistorySettings)
    assert set(document["lock"]) == names(LockSettings)
    assert set(document["users"]) == names(UserSettings)
    assert set(document["keychains"]) == names(KeychainsSettings)
    for other in [*others, *blocks("docs/keychains.md", "toml"), *blocks("docs/fleet.md", "toml")]:
        msgspec.toml.decode(other, type=Settings)


def test_the_settings_of_a_keychain_are_told_with_their_defaults() -> None:
    for small in (CredentialManagerSettings, MacosKeychainSettings):  # told in the table of the Secret Service
        assert {field.name for field in msgspec.structs.fields(small)} == {"seconds"}
    for document, struct in (("docs/keychains.md", SecretServiceSettings), ("docs/fleet.md", EtcdSettings)):
        told = {row[0].strip("`"): row[1].strip("`") for row in rows(document) if len(row) == 3}
        told.pop("setting of a store")
        known = {
            field.name: {} if field.default_factory is dict else field.default
            for field in msgspec.structs.fields(struct)
        }
        assert {name for name in told if not name.startswith("-")} == {"kind", *known}
        for name, default in known.items():
            shown = "" if default is msgspec.NODEFAULT else msgspec.json.encode(default).decode()
            assert told[name] == shown, name


def names(struct: type[msgspec.Struct]) -> set[str]:
    return {field.name for field in msgspec.structs.fields(struct)}


def test_examples_are_what_the_code_reads() -> None:
    requests = responses = policies = 0
    for block in blocks(PROTOCOL, "json"):
        if '"registered_binaries"' in block:
            assert parse_policy(block.encode()).by_program
            policies += 1
            continue
        for line in block.splitlines():
            if '"REQUEST"' in line:
                decode_request(line.encode(), Limits())
                requests += 1
            else:
                assert known_response(msgspec.json.decode(line))
                responses += 1
    assert (requests, responses, policies) == (1, 2, 1)


def known_response(answer: dict[str, Any]) -> bool:
    reason = answer.get("reason")
    return answer["type"] == "RESPONSE" and (reason is None or reason in DENIED | FAILED)


def test_python_examples_are_python_and_use_what_there_is() -> None:
    import keychain_auth

    found = [block for document in DOCUMENTS for block in blocks(document, "python")]
    assert found
    for block in found:
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module == "keychain_auth":
                assert {alias.name for alias in node.names} <= set(keychain_auth.__all__)
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "client":
                assert hasattr(keychain_auth.KeychainAuthClient, node.attr), node.attr


# --- links and names ----------------------------------------------------------------------------


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    for link in _LINK.findall(prose(document)):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = os.path.normpath(os.path.join(os.path.dirname(document), path)) if path else document
        assert os.path.exists(os.path.join(ROOT, target)), link
        if anchor:
            assert anchor in anchors(target), link


def anchors(document: str) -> set[str]:
    """The anchors of headings, as hosts of repositories make them."""
    titles = (title.lower() for title in _HEADING.findall(prose(document)))
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}


def test_every_document_is_in_the_index() -> None:
    linked = {os.path.normpath(os.path.join("docs", link)) for link in _LINK.findall(text_of("docs/README.md"))}
    assert {document for document in DOCUMENTS if document.startswith("docs/")} - linked <= {"docs/README.md"}


def test_decisions_are_numbered_from_one_without_gaps() -> None:
    names = sorted(os.listdir(os.path.join(ROOT, "docs", "adr")))
    assert [int(name[:4]) for name in names] == list(range(1, len(names) + 1))
    for number, name in enumerate(names, 1):
        assert text_of(f"docs/adr/{name}").startswith(f"# ADR {number}: ")


def test_every_action_of_a_person_is_in_the_list_of_the_audit_log() -> None:
    listed = {span for row in rows(PROTOCOL) for span in _SPAN.findall(row[0]) if span.startswith("admin_")}
    written = set()
    for path in glob.glob(os.path.join(ROOT, "src", "keychain_auth", "daemon", "admin", "*.py")):
        with open(path, encoding="utf-8") as file:
            written.update(f"admin_{name}" for name in re.findall(r'record\(peer, path, "(\w+)"', file.read()))
    assert len(written) > 15
    assert written <= listed


def test_every_test_that_is_named_exists() -> None:
    defined: set[str] = set()
    for path in glob.glob(os.path.join(ROOT, "tests", "**", "test_*.py"), recursive=True):
        with open(path, encoding="utf-8") as file:
            defined.update(re.findall(r"def (test_\w+)\(", file.read()))
    named = {
        span for document in DOCUMENTS for span in _SPAN.findall(prose(document)) if re.fullmatch(r"test_\w+", span)
    }
    assert len([row for row in rows(THREATS) if "`test_" in row[-1]]) > 20
    assert named <= defined


def test_every_folder_of_tests_is_in_the_table() -> None:
    told = {name for row in rows("CONTRIBUTING.md") for name in re.findall(r"`tests/(\w+)`", row[0])}
    with os.scandir(os.path.join(ROOT, "tests")) as folder:
        there = {entry.name for entry in folder if entry.is_dir() and not entry.name.startswith(("_", "."))}
    assert told == there


def test_every_file_that_is_named_exists() -> None:
    bases = (ROOT, os.path.join(ROOT, "src", "keychain_auth"))
    checked = 0
    for document in DOCUMENTS:
        for span in _SPAN.findall(prose(document)):
            if span.startswith("build/"):  # what the commands make is in no clone
                continue
            if re.fullmatch(r"[\w]+(?:/[\w.\-]+)*/(?:[\w\-]+\.(?:py|c|json))?", span):
                checked += 1
                assert any(os.path.exists(os.path.join(base, span)) for base in bases), f"{document}: {span}"
    assert checked > 20


@pytest.mark.parametrize("document", DOCUMENTS)
def test_no_path_is_of_somebodys_own_machine(document: str) -> None:
    assert set(_ABSOLUTE.findall(text_of(document).replace("keychain://", ""))) <= COMMON_PLACES


def test_actions_are_pinned_by_commit_and_what_they_run_is_there() -> None:
    folder = os.path.join(ROOT, ".github", "workflows")
    for name in os.listdir(folder):
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            text = file.read()
        assert re.findall(r"uses: (?!\S+@[0-9a-f]{40} # v[\d.]+$).*", text, re.MULTILINE) == [], name
        for path in re.findall(r"(?<![\w/])(?:tests|requirements)/[\w./]+\w", text):
            assert os.path.exists(os.path.join(ROOT, path)), f"{name}: {path}"
