"""README, ``--help``, manual pages and completions agree: whatever one of them knows, the others know."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator

import click
import pytest

from docs.test_docs import SHOWN
from keychain_auth.cli.app import NAME, commands
from keychain_auth.cli.commands.manual import roff, shells, tree
from support.programs import ROOT
from support.world import World

PROGRAM = tree.read()
ALL = list(PROGRAM.all())
PAGES = roff.pages(PROGRAM)
_ESCAPES = (("\\-", "-"), ("\\(aq", "'"), ("\\fB", ""), ("\\fR", ""), ("\\fI", ""), ("\\&", ""), ("\\e", "\\"))


def help_of(command: tree.Command) -> str:
    """What ``--help`` prints, from click itself and wide enough that nothing is broken into lines."""
    found: click.Command = commands
    context = click.Context(commands, info_name=NAME, terminal_width=1000, max_content_width=1000)
    for word in command.words:
        assert isinstance(found, click.Group)
        below = found.get_command(context, word)
        assert below is not None
        found, context = below, click.Context(
            below, info_name=word, parent=context, terminal_width=1000, max_content_width=1000
        )  # fmt: skip
    return found.get_help(context)


def page_of(command: tree.Command) -> str:
    return PAGES[f"keychain-auth-{command.words[0]}.1" if command.words else "keychain-auth.1"]


def plain(page: str) -> str:
    """A page without its requests and escapes, as words."""
    text = re.sub(r"^\.(?:SH|B|BR|I) ", "", page, flags=re.MULTILINE)
    for escape, char in _ESCAPES:
        text = text.replace(escape, char)
    return " ".join(text.split())


def squeezed(text: str) -> str:
    return " ".join(text.split())


def options_of(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))


def test_there_is_something_to_compare() -> None:
    assert len(ALL) > 50
    assert len(PAGES) > 40


@pytest.mark.parametrize("command", ALL, ids=lambda command: command.name)
def test_a_page_says_what_help_says(command: tree.Command) -> None:
    shown, page = help_of(command), plain(page_of(command))
    for option in command.options:
        assert squeezed(option.text) in squeezed(shown)
        assert squeezed(option.text) in page
        for name in option.names:
            assert name in shown
            assert name in page
    assert options_of(shown) - {"--help"} <= options_of(page)
    for paragraph in command.paragraphs:
        assert squeezed(paragraph) in page
        assert squeezed(paragraph) in squeezed(shown)
    for below in command.below:
        assert below.words[-1] in shown


def test_every_option_on_a_page_is_one_of_its_commands() -> None:
    for command in PROGRAM.below:
        known = {name for each in command.all() for option in each.options for name in option.names}
        said = {name for each in command.all() for text in (*each.paragraphs, *(o.text for o in each.options))
                for name in options_of(text)}  # fmt: skip
        assert options_of(plain(page_of(command))) <= known | said | {"--json", "--help"}, command.name


def test_every_command_in_the_documents_has_its_page() -> None:
    used = {shown.words[0] for shown in SHOWN if shown.words and not shown.words[0].startswith("-")}
    assert len(used) > 20
    assert used <= {command.words[0] for command in PROGRAM.below}


def test_the_command_prints_what_is_compared_here(world: World) -> None:
    assert world.cli("manual", "register").stdout == PAGES["keychain-auth-register.1"]
    assert world.cli("manual").stdout == PAGES["keychain-auth.1"]
    assert world.cli("manual", "unheard-of").returncode == 6
    for shell in shells.SHELLS:
        assert world.cli("completion", shell).stdout == shells.script(shell, PROGRAM)


@pytest.mark.skipif(not shutil.which("man"), reason="man is not here (Debian: man-db)")
def test_man_shows_the_pages_without_a_complaint(world: World) -> None:
    for name in ("keychain-auth.1", "keychain-auth-audit.1", "keychain-auth-install.1"):
        path = world.write(f"tmp/{name}", PAGES[name])
        env = {**world.environment({"MANWIDTH": "80"}), "MANROFFOPT": "-ww"}
        done = subprocess.run(["man", "--warnings", "-l", path], env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0
        assert done.stderr == ""
        assert "NAME" in done.stdout


# --- completions ----------------------------------------------------------------------------------

_BASH = """
source /dev/stdin <<'SCRIPT'
%s
SCRIPT
complete_words() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _keychain_auth; printf '%%s\\n' "${COMPREPLY[@]}"; }
complete_words %s
"""
_ZSH = """
compdef() { : }
compadd() { shift; printf '%%s\\n' "$@" }
_files() { : }
_describe() { local name="${@[-1]}"; local -a all=("${(@P)name}"); printf '%%s\\n' "${(@)all%%%%:*}" }
%s
words=(%s) CURRENT=${#words}
_keychain_auth
"""
CASES = (
    (("reg",), {"register"}),
    (("audit", "veri"), {"verify"}),
    (("audit", ""), {"tail", "verify", "--help"}),
    (("register", "--str"), {"--strict"}),
    (("register", "--minimum-grade", ""), {"declared", "launched", "user", "system", "signed"}),
    (("completion", ""), {"bash", "zsh", "fish", "powershell"}),
    (("get", "--"), {"--json", "--socket", "--help"}),
)


def completed(shell: str, *words: str) -> Iterator[str]:
    script = shells.script(shell, PROGRAM)
    typed = " ".join(f"'{word}'" for word in (NAME, *words))
    if shell == "bash":
        command, text = ["bash", "--norc"], _BASH % (script, typed)
    elif shell == "zsh":
        command, text = ["zsh", "-f"], _ZSH % (script, typed)
    else:
        command, text = ["fish", "--no-config"], f'{script}\ncomplete -C "{" ".join((NAME, *words))}"\n'
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=60, cwd="/bin",
                          env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "TERM": "dumb"})  # fmt: skip
    assert done.stderr == "", done.stderr
    for line in done.stdout.splitlines():
        word = line.partition("\t")[0]
        if word.startswith(words[-1]):
            yield word


@pytest.mark.parametrize(
    ("words", "wanted"), CASES, ids=lambda each: str(sorted(each) if isinstance(each, set) else each)
)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes(shell: str, words: tuple[str, ...], wanted: set[str]) -> None:
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not here (Debian: {shell})")
    found = set(completed(shell, *words))
    assert wanted - {"--help"} <= found
    assert "approve" not in found or words == ("",)


def test_every_command_and_option_is_in_every_script() -> None:
    for shell in shells.SHELLS:
        script = shells.script(shell, PROGRAM)
        for command in ALL:
            assert " ".join(command.words) in script
            for option in command.options:
                for name in option.names:
                    assert name.lstrip("-") in script, (shell, command.name, name)


@pytest.mark.skipif(not shutil.which("pwsh"), reason="PowerShell is not here: its script is only looked at as text")
def test_powershell_completes() -> None:
    text = shells.script("powershell", PROGRAM) + (
        "\n(TabExpansion2 -inputScript 'keychain-auth reg' -cursorColumn 17).CompletionMatches.CompletionText\n"
    )
    done = subprocess.run(["pwsh", "-NoProfile", "-Command", text], capture_output=True, text=True, check=False)
    assert "register" in done.stdout.split()


def test_the_readme_names_no_option_that_is_not_there() -> None:
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as file:
        text = file.read()
    known = {name for command in ALL for option in command.options for name in option.names}
    lines = [line for line in text.splitlines() if "keychain-auth " in line]
    assert {name for line in lines for name in options_of(line)} <= known | {"--help"}
