"""Completions for bash, zsh, fish and PowerShell: scripts that know all commands, options and choices. Pure.

Why whole scripts, and not click's own completion: that starts Python for every press of the tab key. What it does not
complete: names of services and secrets. To ask for them is an access, which would stand in the record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from keychain_auth.cli.commands.manual.tree import HELP, Command, Option

PLACES = {
    "bash": "bash-completion/completions/keychain-auth",
    "zsh": "zsh/site-functions/_keychain-auth",
    "fish": "fish/vendor_completions.d/keychain-auth.fish",
}
"""Where each shell looks, below a "share" folder. PowerShell has no such place: it goes into a profile."""


def script(shell: str, program: Command, mark: str = "") -> str:
    """The script for ``shell``; ``mark`` is a comment in it."""
    return _SHELLS[shell](program, f"# {mark}\n" if mark else "")


def _paths(program: Command) -> list[str]:
    """Every command as its words, but for the program itself."""
    return [" ".join(command.words) for command in program.all() if command.words]


def _words(command: Command) -> Iterator[tuple[str, str]]:
    """What can be typed next, with what it is: commands below, choices of the arguments, options."""
    for below in command.below:
        yield below.words[-1], below.summary
    for argument in command.arguments:
        for choice in argument.choices:
            yield choice, argument.metavar
    for option in command.options:
        for name in option.names:
            yield name, option.text
    if not any(HELP[-1] in option.names for option in command.options):
        yield HELP[-1], "Show this message and exit."


def _valued(program: Command) -> Iterator[tuple[list[str], Option]]:
    """Each option that takes a value, with the words after which the value is typed, one for each of its names."""
    for command in program.all():
        for option in command.options:
            if option.metavar:
                yield [" ".join([*command.words, name]) for name in option.names], option


# --- bash -----------------------------------------------------------------------------------------


def _bash(program: Command, mark: str) -> str:
    words = [f"        {_q(' '.join(c.words))}) words={_q(' '.join(_unique(_words(c))))} ;;" for c in program.all()]
    values = [
        f"        {'|'.join(map(_q, after))}) {_bash_value(option)}; return ;;" for after, option in _valued(program)
    ]
    return f"""{mark}# bash completion for keychain-auth: keychain-auth completion bash
_keychain_auth() {{
    local current="${{COMP_WORDS[COMP_CWORD]}}" previous="${{COMP_WORDS[COMP_CWORD - 1]}}" path='' word words=''
    COMPREPLY=()
    for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        case "${{path:+$path }}$word" in
        {"|".join(_q(path) for path in _paths(program))}) path="${{path:+$path }}$word" ;;
        esac
    done
    case "${{path:+$path }}$previous" in
{chr(10).join(values)}
    esac
    case "$path" in
{chr(10).join(words)}
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}}
complete -o default -F _keychain_auth keychain-auth
"""


def _bash_value(option: Option) -> str:
    if option.choices:
        return f'mapfile -t COMPREPLY < <(compgen -W {_q(" ".join(option.choices))} -- "$current")'
    return 'mapfile -t COMPREPLY < <(compgen -f -- "$current")' if option.takes_file else ":"


# --- zsh ------------------------------------------------------------------------------------------


def _zsh(program: Command, mark: str) -> str:
    cases = []
    for command in program.all():
        lines = [f"    {_q(' '.join(command.words))})"]
        plain: list[str] = []
        options: list[str] = []
        for word, text in _words(command):
            (options if word.startswith("-") else plain).append(_q(f"{_zsh_escape(word)}:{_zsh_escape(text)}"))
        if plain:
            lines.append(f"        found=({' '.join(plain)})\n        _describe -t commands command found")
        if options:
            lines.append(f"        found=({' '.join(options)})\n        _describe -o -t options option found")
        lines.append("        ;;")
        cases.append("\n".join(lines))
    values = []
    for after, option in _valued(program):
        if option.choices or option.takes_file:
            what = f"compadd -- {' '.join(map(_q, option.choices))}" if option.choices else "_files"
            values.append(f"    {'|'.join(map(_q, after))}) {what}; return ;;")
    return f"""#compdef keychain-auth
{mark}# zsh completion for keychain-auth: keychain-auth completion zsh
_keychain_auth() {{
    local at='' word
    local -a found
    for word in "${{(@)words[2,CURRENT-1]}}"; do
        case "${{at:+$at }}$word" in
        {"|".join(_q(path) for path in _paths(program))}) at="${{at:+$at }}$word" ;;
        esac
    done
    case "${{at:+$at }}${{words[CURRENT-1]}}" in
{chr(10).join(values)}
    esac
    case "$at" in
{chr(10).join(cases)}
    esac
    [[ "${{words[CURRENT]}}" == -* ]] || _files
}}
if [[ "$funcstack[1]" == _keychain-auth ]]; then _keychain_auth "$@"; else compdef _keychain_auth keychain-auth; fi
"""


def _zsh_escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace(":", "\\:")


# --- fish -----------------------------------------------------------------------------------------


def _fish(program: Command, mark: str) -> str:
    lines = []
    for command in program.all():
        at = f"-n {_fq('__keychain_auth_at ' + _fq(' '.join(command.words)))}"
        for below in command.below:
            lines.append(f"complete -c keychain-auth -f {at} -a {_fq(below.words[-1])} -d {_fq(below.summary)}")
        for argument in command.arguments:
            for choice in argument.choices:
                lines.append(f"complete -c keychain-auth -f {at} -a {_fq(choice)} -d {_fq(argument.metavar)}")
        for option in command.options:
            names = " ".join(
                f"-l {_fq(name[2:])}" if name.startswith("--") else f"-s {_fq(name[1:])}" for name in option.names
            )
            value = f" -x -a {_fq(' '.join(option.choices))}" if option.choices else " -r" if option.metavar else ""
            lines.append(f"complete -c keychain-auth {at} {names}{value} -d {_fq(option.text)}")
    return f"""{mark}# fish completion for keychain-auth: keychain-auth completion fish
function __keychain_auth_at --description 'Whether the words so far lead to this command'
    set -l at
    for word in (commandline -opc)[2..-1]
        if contains -- (string join ' ' -- $at $word) {" ".join(_fq(path) for path in _paths(program))}
            set at $at $word
        end
    end
    test "$at" = "$argv[1]"
end
{chr(10).join(lines)}
"""


def _fq(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


# --- PowerShell -----------------------------------------------------------------------------------


def _powershell(program: Command, mark: str) -> str:
    rows = []
    for command in program.all():
        words = ", ".join(f"@({_pq(word)}, {_pq(text or word)})" for word, text in _words(command))
        rows.append(f"        {_pq(' '.join(command.words))} = @({words})")
    values = [
        f"        {_pq(words)} = @({', '.join(map(_pq, option.choices))})"
        for after, option in _valued(program)
        if option.choices
        for words in after
    ]
    return f"""{mark}# PowerShell completion for keychain-auth: keychain-auth completion powershell
Register-ArgumentCompleter -Native -CommandName keychain-auth -ScriptBlock {{
    param($wordToComplete, $commandAst, $cursorPosition)
    $words = @{{
{chr(10).join(rows)}
    }}
    $values = @{{
{chr(10).join(values)}
    }}
    $at = ''
    $previous = ''
    foreach ($element in $commandAst.CommandElements | Select-Object -Skip 1) {{
        if ($element.Extent.EndOffset -ge $cursorPosition) {{ break }}
        $previous = $element.ToString()
        $next = "$at $previous".Trim()
        if ($words.ContainsKey($next)) {{ $at = $next }}
    }}
    $choices = $values["$at $previous".Trim()]
    if ($choices) {{
        $choices | Where-Object {{ $_ -like "$wordToComplete*" }}
        return
    }}
    $words[$at] | Where-Object {{ $_[0] -like "$wordToComplete*" }} | ForEach-Object {{
        [System.Management.Automation.CompletionResult]::new($_[0], $_[0], 'ParameterValue', $_[1])
    }}
}}
"""


def _pq(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _q(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _unique(words: Iterable[tuple[str, str]]) -> list[str]:
    return list(dict.fromkeys(word for word, _ in words))


_SHELLS: dict[str, Callable[[Command, str], str]] = {
    "bash": _bash, "zsh": _zsh, "fish": _fish, "powershell": _powershell,
}  # fmt: skip
SHELLS = tuple(_SHELLS)
