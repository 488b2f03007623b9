"""A person who knows a passphrase: commands that get it from a descriptor of their own."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

from support.world import World

WORDS = "six random words are better"


def tell(
    world: World, *words: str, passphrase: str | None = WORDS, new: str | None = None, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a command; ``passphrase`` and ``new`` (a new one) come from pipes that only it has."""
    options: list[str] = []
    ends: list[int] = []
    for option, text in (("--passphrase-fd", passphrase), ("--new-passphrase-fd", new)):
        if text is not None:
            reading, writing = os.pipe()
            os.write(writing, text.encode() + b"\nnot the passphrase\n")
            os.close(writing)
            ends.append(reading)
            options += [option, str(reading)]
    try:
        return subprocess.run(
            [world.python, "-m", "keychain_auth.cli.main", *words, *options], input=stdin, capture_output=True,
            text=True, check=False, env=world.environment(), cwd="/", timeout=60, pass_fds=ends, **world.user.popen(),
        )  # fmt: skip
    finally:
        for end in ends:
            os.close(end)


def told(world: World, *words: str, **keywords: Any) -> Any:
    """As ``tell`` with ``--json``: it succeeds, and this is what it printed."""
    done = tell(world, *words, "--json", **keywords)
    assert done.returncode == 0, done.stderr or done.stdout
    return json.loads(done.stdout)


def protect(world: World, *, key_file: bool = False) -> None:
    """Set the passphrase WORDS; without ``key_file`` nothing else opens the vault any more."""
    told(world, "protect", "add", "passphrase", passphrase=None, new=WORDS)
    if not key_file:
        told(world, "protect", "remove", "1")


__all__ = ["WORDS", "protect", "tell", "told"]
