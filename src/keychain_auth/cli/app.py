"""All commands of ``keychain-auth``: the group, and how its errors become lines and exit codes.

Contract: no command ends in a traceback for anything that a person, a file or a daemon did. Wrong usage is exit code 2,
Ctrl-C is 130, the rest is said by the error itself (``errors.py``).
"""

from __future__ import annotations

import importlib
import re
import sys

import click

from keychain_auth import __version__
from keychain_auth.cli.report import EXIT_INTERRUPTED, complain, failure
from keychain_auth.errors import EXIT_USAGE, KeychainAuthError

NAME = "keychain-auth"

# By what a person wants, in the order of the help: the name, and where it is. Loaded when it is called: `status` does
# not pay for the vault.
_SECTIONS = {
    "Secrets": {
        "set": ("secrets.secrets", "set_secret"),
        "get": ("secrets.secrets", "get_secret"),
        "edit": ("secrets.edit", "edit_secret"),
        "rm": ("secrets.secrets", "remove_secret"),
        "list-secrets": ("secrets.secrets", "list_secrets"),
        "history": ("secrets.history", "history"),
        "restore-value": ("secrets.history", "restore_value"),
        "canary": ("secrets.canary", "canary"),
        "import": ("secrets.exchange", "import_secrets"),
        "export": ("secrets.exchange", "export"),
        "migrate": ("secrets.migrate", "migrate"),
        "owner": ("secrets.owner", "owner"),
    },
    "Programs that use them": {
        "run": ("using.run", "run_command"),
        "inject": ("using.inject", "inject"),
        "launch": ("using.launch", "launch_script"),
        "mcp": ("using.mcp", "mcp"),
    },
    "Programs that ask": {
        "list-pending": ("approving.pending", "list_pending"),
        "approve": ("approving.pending", "approve"),
        "deny": ("approving.pending", "deny"),
        "watch": ("approving.watch", "watch"),
    },
    "Programs that are known": {
        "register": ("registering.registry", "register"),
        "upgrade": ("registering.registry", "upgrade"),
        "unregister": ("registering.registry", "unregister"),
        "list": ("registering.registry", "list_entries"),
    },
    "What they may do": {
        "authorize": ("permitting.grants", "authorize"),
        "revoke": ("permitting.grants", "revoke"),
        "require": ("permitting.grants", "require"),
        "behalf": ("permitting.behalf", "behalf"),
        "share": ("permitting.grants", "share"),
        "trust": ("permitting.trust", "trust"),
        "distrust": ("permitting.trust", "distrust"),
        "check": ("permitting.check", "check"),
        "explain": ("permitting.explain", "explain"),
        "policy": ("permitting.policy_seal", "policy_group"),
    },
    "The vault": {
        "unlock": ("vault.locking", "unlock"),
        "lock": ("vault.locking", "lock"),
        "unlocked": ("vault.locking", "unlocked"),
        "protect": ("vault.locking", "protect"),
        "rekey": ("vault.locking", "rekey"),
        "backup": ("vault.backup", "backup"),
        "restore": ("vault.backup", "restore"),
        "vault": ("vault.vault", "vault"),
    },
    "What happened": {
        "audit": ("auditing.audit", "audit"),
        "doctor": ("doctoring.doctor", "doctor"),
        "status": ("daemon.status", "status"),
    },
    "The daemon": {
        "install": ("daemon.install", "install"),
        "uninstall": ("daemon.install", "uninstall"),
        "start": ("daemon.start", "start"),
        "restart": ("daemon.restart", "restart"),
    },
    "Signing, and the rest": {
        "keygen": ("publishing.signing", "keygen"),
        "sign": ("publishing.signing", "sign"),
        "verify": ("publishing.signing", "verify"),
        "conformance": ("publishing.conformance", "conformance"),
        "completion": ("manual.documenting", "completion"),
        "manual": ("manual.documenting", "manual"),
    },
}
_COMMANDS = {name: place for section in _SECTIONS.values() for name, place in section.items()}


class _Commands(click.Group):
    """Commands by name, each from its own file."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, attribute = _COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(f"keychain_auth.cli.commands.{module}"), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table of ``--help``, in sections; click's own is one list."""
        width = max(map(len, _COMMANDS))
        room = formatter.width - width - 4  # beside the name and the gaps around it
        for title, section in _SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), self._in_short(ctx, name, room)) for name in section])

    def _in_short(self, ctx: click.Context, name: str, room: int) -> str:
        command = self.get_command(ctx, name)
        return command.get_short_help_str(room) if command is not None else ""


@click.group(cls=_Commands, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name=NAME)
@click.option("--system", is_flag=True, help="The daemon of the whole machine is meant (as root).")
@click.option("--root", metavar="FOLDER", default="/", help="With --system: its folders are below FOLDER.")
@click.pass_context
def commands(context: click.Context, system: bool, root: str) -> int:
    """Secrets for programs, given out by who the kernel says they are.

    Every command takes --json where it prints an answer. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 denied by
    policy, 4 daemon not reachable, 5 keychain locked, 6 not found.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        return EXIT_USAGE
    if system:
        importlib.import_module("keychain_auth.cli.system").enter(context.invoked_subcommand, root)
    return 0


def run(words: list[str]) -> int:
    """Run the command that ``words`` say; its exit code."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:  # a letter that the terminal's encoding lacks must not stop the answer
            reconfigure(errors="backslashreplace")
    try:
        code = commands.main(words, prog_name=NAME, standalone_mode=False)
        sys.stdout.flush()
    except click.UsageError as error:
        complain(_in_one_line(error), f"{error.ctx.command_path if error.ctx is not None else _called(words)} --help")
        return EXIT_USAGE
    except click.ClickException as error:
        complain(error.format_message(), f"{_called(words)} --help")
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except (KeychainAuthError, OSError) as error:
        return failure(error, _called(words))
    return code if isinstance(code, int) else 0


def _called(words: list[str]) -> str:
    """The command among ``words``, as it is typed."""
    path: list[str] = [NAME]
    command: click.Command = commands
    for word in words:
        if not isinstance(command, click.Group):
            break
        if word.startswith("-"):
            continue
        found = command.get_command(click.Context(command), word)
        if found is None:
            break
        path.append(word)
        command = found
    return " ".join(path)


def _in_one_line(error: click.UsageError) -> str:
    """click's words: it puts choices below each other, and does not say which commands a group has."""
    text = " ".join(error.format_message().split())
    if text == "Missing command." and error.ctx is not None and isinstance(error.ctx.command, click.Group):
        text = f"Missing command: {', '.join(error.ctx.command.list_commands(error.ctx))}"
    return text + _meant(error, text)


def _meant(error: click.UsageError, text: str) -> str:
    """A command that is called nearly so, for one that there is not; else nothing."""
    wrong = re.match(r"No such command '([^']*)'\.$", text)
    if wrong is None or error.ctx is None or not isinstance(error.ctx.command, click.Group):
        return ""
    import difflib  # noqa: PLC0415 - only who mistyped pays for it

    near = difflib.get_close_matches(wrong[1], error.ctx.command.list_commands(error.ctx), 1)
    return f" Did you mean '{near[0]}'?" if near else ""
