"""Open and locked: ``unlock``, ``lock``, ``unlocked``. And which keys there are: ``protect``, ``rekey``.

Contract: a passphrase comes from the person's terminal or a descriptor, never from stdin, an argument or a variable
(``client.passphrase``). A recovery code is printed once, to stdout, and is kept nowhere.
"""

from __future__ import annotations

import time
from typing import Any

import click

from keychain_auth.cli.report import complain
from keychain_auth.cli.shared import output
from keychain_auth.cli.shared.offline import remove_slot
from keychain_auth.cli.shared.options import json_option, passphrase_option, socket_option
from keychain_auth.client import admin, passphrase
from keychain_auth.daemon.admin.lock import AGAIN
from keychain_auth.daemon.places import find_places
from keychain_auth.errors import EXIT_LOCKED, ConnectionLost, DaemonNotRunning, KeychainAuthError

_ANEW_SECONDS, _ANEW_PAUSE = 30.0, 0.05
_SLOW = 120.0  # seconds: Argon2id, pauses after wrong answers, and a rekey of a large vault
_KINDS = ("keyfile", "passphrase", "recovery", "tpm2", "secret_service", "wsl", "dpapi", "macos_keychain")
_MEANS = {
    "keyfile": "vault.key",
    "passphrase": "what you know",
    "recovery": "the code on paper",
    "tpm2": "this machine's TPM",
    "secret_service": "an item in your keyring",
    "wsl": "a program on the Windows side",
    "dpapi": "your Windows account",
    "macos_keychain": "an item in your keychain",
}


@click.command()
@socket_option
@passphrase_option
@json_option
def unlock(socket: str | None, as_json: bool) -> None:
    """Open the locked vault with the passphrase, or with the recovery code.

    It is asked for on this terminal. A vault that a key file opens needs neither.
    """
    slots: dict[str, Any] = admin.ask("slots", socket=socket)
    answer = {}
    if not slots["open"] and any(slot["kind"] in ("passphrase", "recovery") for slot in slots["slots"]):
        answer["passphrase"] = passphrase.present("Passphrase or recovery code: ")
    opened = _unlock(socket, answer)
    status = admin.ask("status", socket=socket)
    policy, settings = status["policy"], status.get("settings", {"problem": ""})
    if as_json:
        outcome = "unlocked" if opened else "unchanged"
        problems = {"policy_problem": policy["problem"], "settings_problem": settings["problem"]}
        output.print_json({"outcome": outcome, **problems})
        return
    output.say("unlocked" if opened else "it was unlocked already")
    for file in (policy, settings):
        if file["problem"]:
            complain(f"{file['path']} is not obeyed: {file['problem']}")


def _unlock(socket: str | None, answer: dict[str, str]) -> bool:
    """Whether it was this that opened it. A daemon that began by settings which nobody accepted starts anew, and the
    next one has to be asked again. Raises KeychainAuthError."""
    deadline = time.monotonic() + _ANEW_SECONDS
    anew = False
    while True:
        try:
            opened = admin.ask("unlock", socket=socket, timeout=_SLOW, **answer)
        except (DaemonNotRunning, ConnectionLost):
            if not anew or time.monotonic() > deadline:
                raise
            opened = AGAIN
        if opened != AGAIN:
            return bool(opened)
        if time.monotonic() > deadline:
            raise KeychainAuthError("the daemon starts anew again and again", hint="keychain-auth status")
        anew = True
        time.sleep(_ANEW_PAUSE)


@click.command()
@socket_option
@json_option
def lock(socket: str | None, as_json: bool) -> None:
    """Lock the vault and wipe its keys from memory. Programs get keychain_locked until it is unlocked."""
    locked = admin.ask("lock", socket=socket, timeout=_SLOW)
    if as_json:
        output.print_json({"outcome": "locked" if locked else "unchanged"})
    else:
        output.say("locked" if locked else "it was locked already")


@click.command()
@socket_option
def unlocked(socket: str | None) -> int:
    """Say nothing; the exit code says whether the vault is open: 0 open, 5 locked, 4 no daemon."""
    return 0 if admin.ask("unlocked", socket=socket) else EXIT_LOCKED


@click.group(no_args_is_help=False)
def protect() -> None:
    """Show, add and remove what opens the vault: its key slots."""


@protect.command("list")
@socket_option
@json_option
def protect_list(socket: str | None, as_json: bool) -> None:
    """Show the key slots, and what they stop."""
    answer: dict[str, Any] = admin.ask("slots", socket=socket)
    if as_json:
        output.print_json(answer)
        return
    output.table(
        ("slot", "kind", "what it is"),
        [(slot["number"], slot["kind"], _MEANS.get(slot["kind"], "")) for slot in answer["slots"]],
    )
    output.say(answer["stops"])


@protect.command("add")
@click.argument("kind", type=click.Choice(_KINDS))
@click.option("--new-passphrase-fd", metavar="FD", type=int, help="Read the new passphrase from this descriptor.")
@click.option("--pcrs", metavar="PCRS", default="", help="Bind a TPM's slot to these PCRs, as sha256:0,7.")
@socket_option
@passphrase_option
@json_option
def protect_add(kind: str, new_passphrase_fd: int | None, pcrs: str, socket: str | None, as_json: bool) -> None:
    """Add a way to open the vault.

    With a first passphrase policy and settings are sealed too: from then on a change of config.json or daemon.toml
    counts only once somebody who knows the passphrase has accepted it, and commands that show or change secrets ask
    for it.

    A TPM's slot opens on this machine only. With --pcrs it opens only as long as firmware and boot loader are what
    they are now: have another slot, and `protect reseal` after an update.
    """
    words = {}
    if kind == "passphrase":
        words["new_passphrase"] = passphrase.new(new_passphrase_fd)
    elif new_passphrase_fd is not None:
        raise click.UsageError("--new-passphrase-fd goes with passphrase.")
    answer: dict[str, Any] = admin.ask("protect-add", socket=socket, timeout=_SLOW, kind=kind, pcrs=pcrs, **words)
    if as_json:
        output.print_json({"outcome": "added", **answer})
        return
    output.say(f"added slot {answer['number']}, {kind}")
    _tell_code(answer["code"])
    if kind == "passphrase":
        output.say(
            "The key file still opens the vault for every program that runs as you, as long as its slot is there.",
            "Next: keychain-auth protect add recovery; keychain-auth protect list",
        )


@protect.command("remove")
@click.argument("number", type=int)
@socket_option
@passphrase_option
@json_option
def protect_remove(number: int, socket: str | None, as_json: bool) -> None:
    """Remove the key slot NUMBER, as `protect list` shows it. The last one stays.

    While no daemon runs, a vault that opens without you (by the key file) needs no passphrase for this: the way out if
    it is forgotten.

    Who has an older copy of the vault and that slot's key can still open it, and so later copies: `rekey` ends that.
    """
    answer: dict[str, Any]
    try:
        answer = admin.ask("protect-remove", socket=socket, timeout=_SLOW, number=number)
    except DaemonNotRunning:
        answer = {"number": number, "kind": remove_slot(find_places(socket), number)}
    if as_json:
        output.print_json({"outcome": "removed", **answer})
        return
    output.say(
        f"removed slot {number}, {answer['kind']}", "Next, if somebody else may have had it: keychain-auth rekey"
    )


@protect.command("reseal")
@click.argument("number", type=int)
@click.option("--pcrs", metavar="PCRS", default="", help="Bind it to these PCRs, not to those of before.")
@socket_option
@passphrase_option
@json_option
def protect_reseal(number: int, pcrs: str, socket: str | None, as_json: bool) -> None:
    """Have the TPM make a new key for its slot NUMBER, after an update that changed its PCRs.

    The vault must be open: unlock it by another slot first.
    """
    answer: dict[str, Any] = admin.ask("protect-reseal", socket=socket, timeout=_SLOW, number=number, pcrs=pcrs)
    if as_json:
        output.print_json({"outcome": "resealed", **answer})
    else:
        output.say(f"resealed slot {number}" + (f" to {answer['pcrs']}" if answer["pcrs"] else ""))


@click.command()
@socket_option
@passphrase_option
@json_option
def rekey(socket: str | None, as_json: bool) -> None:
    """Give the vault a new key, and write every secret anew under it, in one step.

    Needed when somebody may have had the old one: an old copy of the vault, and of a slot that was removed. Slots keep
    their own keys; a recovery code is replaced by a new one, which is printed.
    """
    kinds = [slot["kind"] for slot in admin.ask("slots", socket=socket)["slots"]]
    words = {"passphrase": passphrase.present()} if "passphrase" in kinds else {}
    answer: dict[str, Any] = admin.ask("rekey", socket=socket, timeout=_SLOW * 10, **words)
    if as_json:
        output.print_json({"outcome": "rekeyed", **answer})
        return
    output.say("rekeyed")
    _tell_code(answer["code"])


def _tell_code(code: str | None) -> None:
    if code is not None:
        output.say(
            "Recovery code. It is shown this once; write it down, and keep it away from this machine:",
            "",
            f"  {code}",
            "",
        )
