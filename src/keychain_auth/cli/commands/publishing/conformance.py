"""``keychain-auth conformance``: the promises of the protocol, tried against any daemon that speaks it."""

from __future__ import annotations

import json
import os
from collections import Counter

import click

from keychain_auth.cli.shared import output
from keychain_auth.cli.shared.options import json_option, socket_option
from keychain_auth.client import discovery
from keychain_auth.conformance import kit
from keychain_auth.conformance.cases import SERVICE, Bench
from keychain_auth.conformance.probe import PATIENCE, prepare
from keychain_auth.errors import EXIT_DENIED, EXIT_FAILED, DaemonNotRunning, quoted


@click.command()
@click.option("--folder", metavar="FOLDER", help="Where the probe is. Otherwise ~/.cache/keychain-auth-conformance.")
@click.option("--patience", metavar="SECONDS", type=float, default=PATIENCE, help="How long to wait for an answer.")
@click.option("--all", "show_all", is_flag=True, help="Show the promises that were kept, too.")
@socket_option
@json_option
def conformance(folder: str | None, patience: float, show_all: bool, socket: str | None, as_json: bool) -> int:
    """Try a daemon: does it read messages as the protocol says, and is it hard to lie to about who asks?

    The daemon may be of any implementation. A small program, the probe, asks it; register it first, for the service
    "conformance". Nothing else is touched. Exit code 0 if every promise was kept, 1 if not, 3 while the probe is not
    registered.
    """
    path = discovery.find_socket_path(socket)
    if not os.path.exists(path):
        raise DaemonNotRunning
    bench = Bench(path, prepare(folder or os.path.expanduser("~/.cache/keychain-auth-conformance")), patience)
    if refusal := kit.why_not_ready(bench):
        return _tell_how(bench, refusal, as_json=as_json)
    results = kit.run(bench)
    failed = [result for result in results if not result.passed]
    if as_json:
        output.print_json({
            "socket": path, "passed": len(results) - len(failed), "failed": len(failed),
            "results": [{**result._asdict(), "passed": result.passed} for result in results],
        })  # fmt: skip
        return EXIT_FAILED if failed else 0
    shown = results if show_all else failed
    if shown:
        rows = [(each.part, each.name, "kept" if each.passed else f"BROKEN: {each.seen}") for each in shown]
        output.table(("part", "promise", "result"), rows)
    kept = Counter(result.part for result in results if result.passed)
    for part, number in Counter(result.part for result in results).items():
        output.say(f"{part}: {kept[part]} of {number} kept")
    return EXIT_FAILED if failed else 0


def _tell_how(bench: Bench, refusal: str, *, as_json: bool) -> int:
    wanted = kit.entry(bench)
    if as_json:
        output.print_json({"refused": refusal, "entry": wanted})
        return EXIT_DENIED
    program = bench.programs.probe
    output.say(
        f"The daemon does not serve the probe yet ({refusal}). Register it, and run this again:",
        f"  keychain-auth register {quoted(program)}",
        f"  keychain-auth authorize {quoted(program)} {SERVICE}",
        "With another implementation, put this entry into its policy:",
        *json.dumps(wanted, indent=2).splitlines(),
    )
    return EXIT_DENIED
