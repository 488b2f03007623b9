"""What an agent may know of its own access, and how it asks a person for more: the work behind ``mcp``.

Contract:
* Nothing here reads a value, or could: it looks at the policy, at the counts of grants that end, and at who started
  this process, and it writes into the queue of what waits for approval.
* What is asked for is one named secret of one service, for a time and a number of uses, by ``keychain-auth-run`` on
  behalf of the agent that started this process. A person approves it, with the command line, and nobody else.

What it does not promise: that the agent is who it seems. Who stands behind ``keychain-auth-run`` is looked at anew, by
the daemon, each time that it asks (``policy.behalf``). The reason is the agent's own words.
"""

from __future__ import annotations

import getpass
import os
import time
from datetime import UTC, datetime
from typing import Any

from msgspec import structs

from keychain_auth.cli.shared import config_file
from keychain_auth.cli.shared.location import trusted_filesystems
from keychain_auth.cli.shared.options import checked_service, checked_target
from keychain_auth.cli.shared.programs import look_at
from keychain_auth.cli.shared.temporary import uses_now
from keychain_auth.client import references
from keychain_auth.daemon.places import Places
from keychain_auth.daemon.state import pending_file
from keychain_auth.errors import KeychainAuthError, NotFound, UsageError
from keychain_auth.model import Entry, Program, Requester
from keychain_auth.moments import stamp
from keychain_auth.platform.base import Ancestor
from keychain_auth.platform.parents import own_ancestors
from keychain_auth.platform.place import only_root_writes
from keychain_auth.policy.behalf import carries, judge, problem_of
from keychain_auth.policy.interpreters import declared_script, is_interpreter
from keychain_auth.policy.pending import PendingEntry, PendingProgram, PendingRequest, approval_id, in_words, merge
from keychain_auth.policy.temporary import ended

RUNNER = "keychain-auth-run"
MOST_MINUTES = 24 * 60
MOST_USES = 100
_REASON_CHARS = 500


def agent(places: Places) -> Requester:
    """The program that started this process, shells aside, as it is now. Raises KeychainAuthError if it is none that
    could stand behind a helper."""
    with own_ancestors(trusted_filesystems(places)) as chain:
        for found in chain:
            path = found.facts().executable.path
            if not carries(path):
                return _identified(found, path)
    raise KeychainAuthError("nobody started this server who could be named", hint="let the agent start it itself")


def access(places: Places, requester: Requester) -> dict[str, Any]:
    """What ``requester`` may have by keychain-auth-run: names and limits, never a value."""
    runner = _runner(places)
    used = uses_now(places)
    now = time.time()
    once = []
    for grant in runner.temporary:
        if grant.behind not in ("", requester.program.path) or not grant.read:
            continue
        once.append(
            {
                "service": grant.service,
                "references": [references.compose(grant.service, name) for name in sorted(grant.targets or ())],
                "any_name": grant.targets is None,
                "until": grant.expires_text or None,
                "uses_left": None if used is None or grant.uses is None else max(0, grant.uses - used.get(grant.id, 0)),
                "over": bool(ended(grant, now=now, used=(used or {}).get(grant.id, 0))),
            }
        )
    return {
        "agent": requester.program.path,
        "approved": judge(runner, requester) is None,
        "granted_for_a_time": once,
        "granted": [{"service": service, "any_name": True} for service in sorted(runner.read_services)],
        "limited_to_names_that_begin_with": None if runner.allowed_targets is None else list(runner.allowed_targets),
        "waiting": [
            f"{references.compose(each.request.service, name)}: keychain-auth approve {approval_id(each)}"
            for each in pending_file.load(places.pending)
            if each.request is not None and each.path == requester.program.path
            for name in each.request.targets
        ],
        "how_to_use": f"NAME=keychain://SERVICE/SECRET {RUNNER} -- COMMAND; the command gets the value as the variable "
        "NAME. No tool of this server returns a value.",
    }


def ask_for(
    places: Places, requester: Requester, service: str, name: str, reason: str, minutes: int, uses: int
) -> dict[str, Any]:
    """Put the wish into the queue. Raises UsageError, NotFound, KeychainAuthError."""
    checked_service(service)
    checked_target(name)
    if not 1 <= minutes <= MOST_MINUTES or not 1 <= uses <= MOST_USES:
        raise UsageError(f"1 to {MOST_MINUTES} minutes, and 1 to {MOST_USES} uses")
    runner = _runner(places)
    interpreter = requester.interpreter
    request = PendingRequest("", service, [name], minutes * 60, uses, reason[:_REASON_CHARS])
    entry = PendingEntry(
        path=requester.program.path,
        hash=f"sha256:{requester.program.sha256}",
        command_line=in_words(request),
        timestamp=stamp(datetime.now(UTC)),
        user=getpass.getuser(),
        pid=os.getpid(),
        interpreter=None if interpreter is None else PendingProgram(interpreter.path, f"sha256:{interpreter.sha256}"),
        helper=PendingProgram(runner.program.path, f"sha256:{runner.program.sha256}"),
        request=request,
    )
    name_of_it = approval_id(entry)
    entry.request = structs.replace(request, id=name_of_it)

    def add(queue: list[PendingEntry]) -> tuple[list[PendingEntry], None]:
        return merge(queue, [entry], datetime.now(UTC)), None

    pending_file.change(places.pending, add)
    return {
        "status": "waits for a person",
        "person_runs": [
            "keychain-auth list-pending",
            f"keychain-auth approve {name_of_it}",
        ],
        "then": f"NAME={references.compose(service, name)} {RUNNER} -- COMMAND",
        "gone_after_hours": 24,
    }


def _runner(places: Places) -> Entry:
    for path, entries in sorted(config_file.read(places).by_path.items()):
        if os.path.basename(path) == RUNNER:
            return entries[0]
    raise NotFound(
        f"{RUNNER} is not registered: a person does that", hint=f'keychain-auth register --app "$(command -v {RUNNER})"'
    )


def _identified(found: Ancestor, path: str) -> Requester:
    script = None
    if is_interpreter(path):
        word = declared_script(path, found.command_line())
        opened = None if word is None else found.open_script(word)
        if opened is not None:
            script = opened.facts.path
            opened.close()
    if problem := problem_of(path, script=script is not None):
        raise KeychainAuthError(
            f"{path} started this server, and cannot be named as an agent: {problem}",
            hint="start it from a program, or from a script file",
        )
    program = look_at(path).program
    if script is None:
        return Requester(program, of_root=only_root_writes(path))
    return Requester(Program(script, look_at(script).program.sha256), program, only_root_writes(script))
