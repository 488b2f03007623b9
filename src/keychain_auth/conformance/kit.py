"""Runs all cases against a daemon, one after the other, and cleans up."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

from keychain_auth.conformance.cases import SERVICE, Bench, Case, all_cases, in_short, request
from keychain_auth.conformance.probe import Silence

_STORED = (
    "a", "b", "empty", "odd", "p:a", "p:b", "q", "s:a", "s:b", "t:a", "t:b", "gone", "unfinished", "half", "kept",
    "smuggled",
)  # fmt: skip


class Result(NamedTuple):
    """``seen`` is "" for a promise that was kept."""

    part: str
    name: str
    seen: str

    @property
    def passed(self) -> bool:
        """Whether the promise was kept."""
        return not self.seen


def entry(bench: Bench) -> dict[str, Any]:
    """What the daemon's policy must hold for the probe, as config.json has it."""
    with open(bench.programs.probe, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "path": bench.programs.probe, "hash": f"sha256:{digest}", "registered_at": "2026-01-01T00:00:00Z",
        "allowed_read_services": [SERVICE], "allowed_write_services": [SERVICE], "can_search": True,
    }  # fmt: skip


def why_not_ready(bench: Bench) -> str:
    """What the daemon says to the probe while it has not all its grants; "" once it has. Raises KeychainAuthError."""
    with bench.probe() as probe:
        try:
            answer = probe.ask(request("check"))
        except Silence as silence:
            return str(silence)
    return "" if answer.get("status") == "success" else in_short(answer)


def run(bench: Bench, told: Callable[[Result], None] = lambda result: None) -> list[Result]:
    """All cases; ``told`` hears of each as it is done. Raises KeychainAuthError when the daemon is gone."""
    results = []
    for case in all_cases():
        results.append(_result(bench, case))
        told(results[-1])
    with contextlib.suppress(Silence), bench.probe() as probe:
        probe.ask(request("delete", *_STORED))
    return results


def _result(bench: Bench, case: Case) -> Result:
    try:
        seen = case.run(bench)
    except Silence as silence:
        seen = str(silence)
    except (KeyError, IndexError, TypeError) as odd:
        seen = f"an answer of another form ({type(odd).__name__})"
    return Result(case.part, case.name, seen)
