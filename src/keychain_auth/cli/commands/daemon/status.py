"""``keychain-auth status``: what the running daemon says of itself."""

from __future__ import annotations

from typing import Any

import click

from keychain_auth import __version__
from keychain_auth.cli.shared import output
from keychain_auth.cli.shared.options import json_option, socket_option
from keychain_auth.client import admin
from keychain_auth.errors import KeychainAuthError


@click.command()
@click.option("--checks", is_flag=True, help="Show how each rule of identity is enforced on this kernel.")
@socket_option
@json_option
def status(checks: bool, socket: str | None, as_json: bool) -> None:
    """Ask the daemon how it is. Exit code 4 if none runs."""
    answer: dict[str, Any] = admin.ask("status", socket=socket)
    if as_json:
        output.print_json(answer)
        return
    try:
        facts = {**_facts(answer), **_rules(answer["identity"], each=checks)}
    except (KeyError, TypeError):
        raise KeychainAuthError(
            "this daemon is of another version than this command", hint="keychain-auth status --json"
        ) from None
    policy = answer["policy"]
    if policy["problem"]:
        output.shout(f"{policy['path']} IS NOT OBEYED: {policy['problem']}")
        output.shout("The last good policy stays in force until the file is mended.")
    settings = answer["settings"]
    if settings["problem"]:
        output.shout(f"{settings['path']} IS NOT OBEYED: {settings['problem']}")
    if answer["version"] != __version__:
        output.shout(
            f"The daemon is of version {answer['version']}, this command of {__version__}: keychain-auth restart"
        )
    for held in answer.get("held", ()):
        output.shout(f"{held['program']} REACHED FOR A CANARY at {held['when']}, and is held.")
        output.shout("Find out why before: keychain-auth canary release PROGRAM")
    width = max(map(len, facts))
    output.say(*(f"{name:<{width}}  {fact}" for name, fact in facts.items()))


def _facts(answer: dict[str, Any]) -> dict[str, str]:
    policy, keychain = answer["policy"], answer["keychain"]
    waiting, programs = answer["pending"], _count(policy["entries"], "program")
    pending = "the queue cannot be read" if waiting is None else f"{waiting} waiting for approval"
    return {
        "daemon": f"running, pid {answer['pid']}, version {answer['version']}, for {_time(answer['uptime_seconds'])}",
        "socket": f"{answer['socket']}, {answer['connections']} connected",
        "policy": f"{policy['state']}, {'sealed, ' * policy['sealed']}{programs}, {policy['path']}",
        "settings": _settings(answer["settings"]),
        "pending": pending,
        "keychain": ", ".join(f"{name} {_plain(value)}" for name, value in keychain.items()),
        **_others(answer["keychains"]),
        "protection": answer["protection"],
        "sleep": answer["sleep"],
        "notifications": answer.get("notifications", ""),
        "audit": f"{_count(answer['audit']['seq'], 'line')}, {answer['audit']['path']}",
        "key memory": "locked" if answer["key_memory_locked"] else "NOT locked: RLIMIT_MEMLOCK is too small",
        "callers": ", ".join(f"{count} {name}" for name, count in answer["counts"].items()) or "none yet",
    }


def _settings(settings: dict[str, Any]) -> str:
    words = [settings["state"], *["sealed"] * settings["sealed"], settings["path"]]
    if settings["restart"]:
        words.append("others count after: keychain-auth restart")
    return ", ".join(words)


def _rules(rules: dict[str, str], *, each: bool) -> dict[str, str]:
    """How callers are identified: each rule, or how many there are."""
    if each:
        return {f"checks {name}": rule for name, rule in rules.items()}
    return {"identity": f"{_count(len(rules), 'rule')}; how this kernel enforces each: keychain-auth status --checks"}


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _others(keychains: dict[str, Any]) -> dict[str, str]:
    """The keychains beside the vault, if there are any."""
    found = {
        f"keychain {name}": ", ".join(f"{key} {_plain(value)}" for key, value in health.items())
        for name, health in keychains["keychains"].items()
        if name != "vault"
    }
    if keychains["routes"] or keychains["default"] != "vault":
        routes = {**keychains["routes"], "all others": keychains["default"]}
        found["routes"] = ", ".join(f"{service} to {name}" for service, name in routes.items())
    return found


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{number} {name}" for name, number in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _time(seconds: int) -> str:
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours} h {minute} min" if hours else f"{minute} min {second} s" if minute else f"{second} s"
