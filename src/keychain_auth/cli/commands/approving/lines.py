"""``approve --interactive``: the same decisions as ``watch``, in plain lines, for any terminal.

Contract: one program at a time, the longest waiting first. What is typed is read from the person's terminal, and a
question that finds it ended ends the command; a program that is not answered goes on waiting. On a terminal an answer
counts only for the program that was shown before it was typed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

if sys.platform != "win32":
    import termios

from keychain_auth.cli.commands.approving.admitting import load, unsettled
from keychain_auth.cli.commands.approving.answering import answer, look_into, who_waits
from keychain_auth.cli.commands.approving.asking import Asked, Choice, Looked, choices, facts, why_not
from keychain_auth.cli.report import complain, failure
from keychain_auth.cli.shared import output
from keychain_auth.client import passphrase
from keychain_auth.daemon.places import Places
from keychain_auth.errors import EXIT_DONE, DaemonNotRunning, KeychainAuthError
from keychain_auth.policy.pending import approval_id

_LATER = "l"


def decide(places: Places) -> int:
    """Ask about everybody who waits, and about who comes, until the input ends. Raises KeychainAuthError."""
    version, put_off, answered = -1, set[str](), set[tuple[str, str, str]]()
    output.say("Waiting for programs that ask. Ctrl-C ends this; who is not answered goes on waiting.")
    version, waiting = who_waits(places, version)
    _tell_refused(places, waiting)
    while True:
        put_off &= {asked.id for asked in waiting}
        answered &= {_request(asked) for asked in waiting}
        for asked in waiting:
            if asked.id in put_off or _request(asked) in answered:
                continue
            looked = look_into(places, asked)
            _show(asked, looked)
            try:
                choice = _ask(asked, looked)
            except EOFError:
                return EXIT_DONE
            if choice is None:
                put_off.add(asked.id)
            elif _carry_out(places, asked, looked, choice):
                answered.add(_request(asked))
            version = -1  # the list is another by now
            break
        version, waiting = who_waits(places, version)


def _tell_refused(places: Places, waiting: Sequence[Asked]) -> None:
    """Who did not wait is not asked about here, but may be what somebody came for."""
    here = {approval_id(asked.entry) for asked in waiting}
    if refused := sum(approval_id(entry) not in here for entry in unsettled(places, load(places))):
        output.say(f"Refused already, and not asked about here: {refused}. See them: keychain-auth list-pending")


def _request(asked: Asked) -> tuple[str, str, str]:
    """What was answered: it stays in the daemon's list while the program is looked at anew (a script: for seconds)."""
    return asked.id, asked.since, repr(asked.wants)


def _show(asked: Asked, looked: Looked) -> None:
    output.say("")
    found = facts(asked, looked)
    width = max(len(fact.name) for fact in found)
    output.say(*(f"{fact.standing:<8}  {fact.name:<{width}}  {fact.text}" for fact in found))


def _ask(asked: Asked, looked: Looked) -> Choice | None:
    """The choice; None for later. Raises EOFError."""
    possible = choices(asked, looked)
    _forget_typed()
    words = [f"[{choice.key}] {choice.label}" for choice in possible]
    while True:
        output.say("", f"Allow {', '.join(words)}, [{_LATER}] later?")
        sys.stdout.flush()
        typed = sys.stdin.readline()
        if not typed:
            raise EOFError
        key = typed.strip().lower()
        if key == _LATER:
            return None
        chosen = next((choice for choice in Choice if choice.key == key), None)
        if chosen in possible:
            return chosen
        if chosen is not None:
            complain(f"not possible here: {why_not(chosen, asked, looked)}")
        else:
            output.say(*(f"[{choice.key}] {choice.label}: {choice.means(asked)}" for choice in possible))


def _forget_typed() -> None:
    """What was typed before this program was shown was meant for another one (or pressed twice)."""
    if sys.platform != "win32" and sys.stdin.isatty():
        termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)


def _carry_out(places: Places, asked: Asked, looked: Looked, choice: Choice) -> bool:
    """Whether it was done; if not, it has said why."""
    try:
        output.say(answer(places, asked, looked, choice))
    except DaemonNotRunning:
        raise
    except (KeychainAuthError, OSError) as error:
        failure(error, "keychain-auth approve")
        return False
    else:
        return True
    finally:
        passphrase.forget()  # asked for each time, as everywhere
