"""What an error proposes is pasted into a shell: whatever stands in it was quoted, whoever chose it."""

from __future__ import annotations

import ast
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import keychain_auth
from keychain_auth.errors import quoted

_ROOT = Path(keychain_auth.__file__).parent
_BEGINNINGS = ("keychain-auth ", "sudo ", "ls ", "mv ", "rm ", "df ", "chmod ", "chown ", "edit ", "fuser ")
# What a hint may hold as it is, beside constants: numbers, words of our own, names that were quoted before; by file.
_PLAIN_WORDS = {
    "cli/commands/approving/admitting.py": {"entry.hash.removeprefix('sha256:')[:_SHOWN_DIGITS]"},
    "cli/commands/using/agent_access.py": {"name_of_it"},
    "cli/commands/secrets/clipboard.py": {"tool.copy[0]"},
    "cli/commands/doctoring/checks.py": {"name", "uid", "weaker"},
    "cli/commands/daemon/installing.py": {"command", "status['pid']"},
    "cli/main.py": {"words[0]"},
    "cli/commands/approving/pending.py": {"approval_id(entry)"},
    "client/passphrase.py": {"option"},
    "client/references.py": {"' '.join(map(quoted, wanted[lacking[0]]))"},
    "crypto/strongbox.py": {"purpose"},
    "daemon/requests/bait.py": {"command", "started or 'nobody we can see'"},
    "daemon/upkeep/own_code.py": {"_MEND"},
    "daemon/state/owners.py": {"uid"},
    "errors.py": {"end"},
    "integrations/base.py": {"kind"},
    "integrations/run.py": {"' '.join(map(quoted, wanted[missing[0]]))"},
    "keychain/kinds.py": {"extra"},
    "keychain/vault/slots.py": {"slot.number"},
    "keychain/windows.py": {"name"},
    "oslayer/posix.py": {"os.geteuid()"},
    "platform/paths.py": {"_system"},
    "platform/windows/paths.py": {"variable"},
    "policy/explain.py": {"path", "service", "denial.found.removeprefix('grade ')"},
    "protectors/wsl.py": {"secrets.token_hex(8)"},
}
# No shell: prose, a line of TOML, the name of a file that a restore needs.
_PROSE = ("restore ", 'set "')


@given(st.text())
def test_a_shell_reads_a_quoted_word_as_that_word(word: str) -> None:
    assert shlex.split(quoted(word)) == [word]


@pytest.mark.parametrize("word", ["aws", "prod:db/password", "/usr/bin/git", "a_b@c%d+e=f,g.h-i"])
def test_a_plain_word_stays_as_it_is(word: str) -> None:
    assert quoted(word) == word


def test_names_in_hints_are_quoted() -> None:
    bare = [f"{where}: {{{what}}}" for file in sorted(_ROOT.rglob("*.py")) for where, what in _bare(file)]
    assert not bare, "pass these through errors.quoted:\n" + "\n".join(bare)


def test_a_bare_name_is_found(tmp_path: Path) -> None:
    file = tmp_path / "some.py"
    file.write_text('raise NotFound("no", hint=f"keychain-auth set {service} {quoted(target)}")\n')
    assert [what for _, what in _bare(file)] == ["service"]


def _bare(file: Path) -> Iterator[tuple[str, str]]:
    where = file.relative_to(_ROOT).as_posix() if file.is_relative_to(_ROOT) else file.name
    known = _PLAIN_WORDS.get(where, set())
    for text in _hints(ast.parse(file.read_text(encoding="utf-8"))):
        for part in text.values:
            if isinstance(part, ast.FormattedValue):
                said = ast.unparse(part.value)
                if said not in known and not _is_harmless(part.value):
                    yield f"{where}:{text.lineno}", said


def _hints(tree: ast.AST) -> Iterator[ast.JoinedStr]:
    """Texts with names in them that are given as ``hint`` or ``mend``, or begin as a command does."""
    given_as = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword) and node.arg in ("hint", "mend")
        for inner in ast.walk(node.value)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            first = node.values[0].value if isinstance(node.values[0], ast.Constant) else ""
            if not str(first).startswith(_PROSE) and (id(node) in given_as or str(first).startswith(_BEGINNINGS)):
                yield node


def _is_harmless(value: ast.expr) -> bool:
    if ast.unparse(value).rpartition(".")[2].isupper():  # a constant: a word of ours
        return True
    if isinstance(value, ast.IfExp):  # one of two words of ours
        return isinstance(value.body, ast.Constant) and isinstance(value.orelse, ast.Constant)
    return isinstance(value, ast.Call) and ast.unparse(value.func) in ("quote", "quoted", "shlex.quote")
