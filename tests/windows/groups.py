#!/usr/bin/env python3
"""Which tests run on Windows, and on a real one: run them.

    python tests/windows/groups.py     on Windows, with the packages of requirements/windows.txt

Under Wine, ``test_under_wine.py`` runs the same groups: most of them in ``make test``, all by ``make windows``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys

OPTIONS = ("-q", "-p", "no:cacheprovider")
_VAULT = (
    "attacks", "backup", "changes", "check", "contract", "history", "journal", "keychain", "keys", "opening", "samples",
)  # fmt: skip


def _vault(*names: str) -> tuple[str, ...]:
    return tuple(f"tests/vault/test_vault_{name}.py" for name in names)


def _system(*names: str) -> tuple[str, ...]:
    return tuple(f"tests/platform_windows/test_{name}.py" for name in names)


# What is tested over there, and how many tests of it must pass: a group that is collected no more would say nothing.
GROUPS: dict[str, tuple[tuple[str, ...], int]] = {
    "wire": (("tests/wire",), 100),
    "policy": (("tests/policy",), 250),
    "identity": (("tests/identity",), 150),
    "audit": (("tests/audit",), 170),
    "vault": ((*_vault(*_VAULT), "tests/vault/test_owned_keychain.py"), 210),
    "vault, its slots": (_vault("slots"), 19),
    "client": (("tests/client",), 120),
    "DPAPI, Credential Manager, tasks": (_system("credentials", "dpapi", "keeping", "task"), 62),
    "daemon": (_system("scenario", "security", "doctor"), 12),
    "its pipe": (_system("pipe_connections"), 13),
    "who it is": (_system("modules", "authenticode", "scripts"), 8),
}

# Two minutes that ``make test`` does not have: under Wine by ``make windows``, which the continuous integration runs.
LONG = ("audit", "its pipe", "who it is")


def main() -> int:
    """Each group as one run of pytest. The exit code is 1 if one failed, or was smaller than it should be."""
    root = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
    source = os.pathsep.join(os.path.join(root, name) for name in ("src", "tests"))
    failed = []
    for group, (paths, least) in GROUPS.items():
        print(f"== {group}", flush=True)
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *OPTIONS, *paths], cwd=root, env={**os.environ, "PYTHONPATH": source},
            stdout=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
        print(done.stdout, flush=True)
        passed = re.search(r"(\d+) passed", done.stdout)
        if done.returncode or passed is None or int(passed[1]) < least:
            failed.append(group)
    print(f"failed: {', '.join(failed)}" if failed else "all groups passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
