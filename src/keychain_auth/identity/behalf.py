"""What was seen of the process behind a helper, and why it cannot be believed. Pure.

The rules are those of ``attest``, as far as they apply to a process that did not connect itself: there is no descriptor
to look at. Its start is not known either (the kernel keeps no time of an exec), so whoever started the helper may have
been another program in the same process.

Code in its memory that comes from no file is not asked about: many requesters (agents, editors) compile as they run.
"""

from __future__ import annotations

from keychain_auth.identity.facts import AncestorFacts, HostFacts


def judge_ancestor(facts: AncestorFacts, host: HostFacts, *, uid: int, interpreter: bool) -> str:
    """Why the process is not the program that it seems to be; "" if it is. ``uid``: the helper's. ``interpreter``: what
    counts is a script, which its command line names, so what it has mapped says nothing."""
    executable, ours, theirs = facts.executable, host.namespaces, facts.namespaces
    if facts.uid != uid:
        return f"it runs as uid {facts.uid}"
    if (theirs.user, theirs.pid, theirs.mount) != (ours.user, ours.pid, ours.mount):
        return "it runs in another namespace"
    if not facts.steady:
        return "it replaced its program while it was looked at"
    if executable.filesystem not in host.filesystems:
        return f"its executable lies on {executable.filesystem}"
    if facts.at_path != (executable.key.device, executable.key.inode):
        return "the file at its path is not the one that runs"
    if facts.tracer:
        return f"process {facts.tracer} traces it"
    if interpreter:
        return ""
    if not facts.code.program:
        return "its own file is not among the code that it has mapped"
    if facts.code.files:
        return f"it has loaded {facts.code.files[0].path}, which others than root could replace"
    return ""
