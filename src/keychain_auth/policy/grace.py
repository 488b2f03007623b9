"""The version before: for how long a program that was replaced while it ran is still served. Pure.

Contract: an entry with ``grace_seconds`` keeps, when ``upgrade`` gives it a new hash, the old one in ``previous`` with
a moment (``until``). Until then the old version is served

* on connections that were open and verified before the change, and
* on new connections of processes that still run it, if the daemon verified that very file (device, inode, hash) at its
  path before, in the same run, and the file was removed since (``Identity.retired``).

A process that starts the old file anew is not served: what stands at the path, or anywhere else, is judged by the new
hash. Nothing but an upgrade writes a moment, and none moves one that is there: grace never extends itself.

What this does not promise: that a process which runs the old version began before the upgrade. Until the moment has
come, a program of the same user can start that very file once more: through /proc/PID/exe of a process that runs it, or
by a link that it kept and puts back at the path for as long as that takes.
"""

from __future__ import annotations

from typing import Any

from keychain_auth.moments import moment_of, stamp_of

MOST_SECONDS = 7 * 24 * 3600


def in_force(until: float, now: float) -> bool:
    """Is the version before still served? Never for longer than any entry can have asked for."""
    return now < until <= now + MOST_SECONDS


def retire(entry: dict[str, Any], old: str, new: str, now: str) -> None:
    """Note in the entry (as it stands in the file) that ``old`` was its hash until ``now``; both are bare hex."""
    if old == new:
        return
    stays = [
        version
        for version in entry.get("previous", [])
        if version["hash"].removeprefix("sha256:").lower() not in (old, new)
        and moment_of(version["until"]) > moment_of(now)
    ]
    seconds = entry.get("grace_seconds", 0)
    if seconds:
        stays.append({"hash": f"sha256:{old}", "until": stamp_of(moment_of(now) + seconds)})
    entry["previous"] = stays
    if not stays:
        del entry["previous"]
