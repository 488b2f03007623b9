"""``install`` and ``uninstall``: the daemon as a service of the machine's service manager.

What is written, and which commands are run, is a plan that ``platform.service`` makes; here it is shown, carried out
and taken back. Contract: a file that ``install`` did not write is never replaced nor removed; ``uninstall`` keeps
policy, secrets and audit log, unless ``--purge`` is given and confirmed, and then removes the files that it names and
no other.
"""

from __future__ import annotations

import contextlib
import os

import click

from keychain_auth import files
from keychain_auth.cli.commands.daemon.installing import (
    check,
    documents,
    installed_choice,
    installed_documents,
    is_product,
    purgeable,
    remove_empty,
    request,
    require_choice,
    require_no_daemon,
    require_root,
    require_root_owned,
    run,
    show,
    state,
    system_request,
    there_is,
    write_papers,
)
from keychain_auth.cli.shared import output
from keychain_auth.cli.shared.options import json_option, socket_option
from keychain_auth.daemon.places import find_places
from keychain_auth.errors import KeychainAuthError, UsageError, quoted
from keychain_auth.platform import paths, service
from keychain_auth.platform.plan import Plan, ServiceFile


@click.command()
@click.option("--print", "only_print", is_flag=True, help="Show the files and the commands, and do nothing.")
@click.option("--check", "only_check", is_flag=True, help="Show what is installed, and do nothing.")
@click.option("--no-start", is_flag=True, help="Write the files, and leave the commands to you.")
@click.option(
    "--system", is_flag=True, help="One daemon for all users of this machine, as a user of its own. For root."
)
@click.option("--world", is_flag=True, help="With --system: every user may connect.")
@click.option("--group", metavar="NAME", default="", help="With --system: only members of this group may connect.")
@socket_option
@json_option
def install(
    only_print: bool,
    only_check: bool,
    no_start: bool,
    system: bool,
    world: bool,
    group: str,
    socket: str | None,
    as_json: bool,
) -> None:
    """Make the daemon a service that starts with your login.

    On Linux: two units of systemd for this user. systemd holds the sockets, so programs that connect while the daemon
    starts or is restarted wait, and are not refused. A unit that you wrote yourself is never replaced.

    With --system: units of the machine, a user and folders for the daemon, and keychain-auth-guarded. It is
    administered by root, with keychain-auth --system COMMAND.
    """
    if system:
        paths.use_system()
        if only_check:
            world, group = installed_choice()
        require_choice(world=world, group=group)
    elif world or group:
        raise UsageError("--world and --group go with --system")
    plan = service.plan_system(system_request(group)) if system else service.plan(request(socket))
    if only_print:
        show(plan, as_json=as_json)
    elif only_check:
        check(plan, documents(system=system), as_json=as_json)
    else:
        if system:
            require_root_owned(group)
        _carry_out(plan, documents(system=system), socket, system=system, no_start=no_start, as_json=as_json)


def _carry_out(
    plan: Plan, papers: tuple[ServiceFile, ...], socket: str | None, *, system: bool, no_start: bool, as_json: bool
) -> None:
    foreign = [file.path for file in plan.files if state(file) == "foreign"]
    if foreign:
        raise KeychainAuthError(
            f"{foreign[0]} was not written by keychain-auth install",
            hint=f"mv {quoted(foreign[0])} {quoted(foreign[0])}.old",
        )
    if not any(state(file) != "missing" for file in plan.files):
        require_no_daemon(socket)
    for file in plan.files:
        os.makedirs(os.path.dirname(file.path), exist_ok=True)
        files.replace(file.path, file.content.encode(file.encoding), file.mode)
    write_papers(paper for paper in papers if state(paper) != "foreign")
    if not no_start:
        run(plan.prepare)
    started = not no_start and there_is(plan)
    told = run(plan.start) if started else []
    result = {"manager": plan.manager, "files": [file.path for file in plan.files], "started": started, "failed": told}
    if as_json:
        output.print_json(result)
        return
    output.say(*(f"Wrote {file.path}" for file in plan.files))
    output.say(*(f"Wrote {len(papers)} manual pages and completions" for _ in papers[:1]), *told, *plan.notes)
    if started:
        output.say("The daemon is running. Next: keychain-auth status")
    else:
        if not no_start:
            output.say(f"The service manager cannot be reached ({' '.join(plan.probe)} fails). Once it can:")
        output.say(*(f"  {' '.join(step.words)}" for step in (*(plan.prepare if no_start else ()), *plan.start)))
        if not no_start and not system:
            output.say("Until then: keychain-auth start")


@click.command()
@click.option(
    "--purge", is_flag=True, help="Remove policy, secrets and audit log too. Asks first; nothing brings them back."
)
@click.option("--yes", is_flag=True, help="With --purge: do not ask.")
@click.option("--system", is_flag=True, help="The daemon of the whole machine. For root.")
@socket_option
@json_option
def uninstall(purge: bool, yes: bool, system: bool, socket: str | None, as_json: bool) -> None:
    """Stop the service and remove what install wrote.

    Policy, secrets and audit log stay where they are. A file of install's that was replaced by one of yours stays too.
    """
    if system:
        paths.use_system()
        require_root("uninstall --system")
    plan = service.plan_system(system_request("")) if system else service.plan(request(socket))
    doomed = purgeable() if purge else []
    if doomed and not yes:
        output.say(*doomed)
        click.confirm(f"Remove these {len(doomed)} files for ever, with every secret in them?", abort=True)
    ours = [file.path for file in plan.files if state(file) in ("installed", "differs")]
    ours += [path for path in plan.products if is_product(path)]
    kept = [file.path for file in plan.files if state(file) == "foreign"]
    papers = installed_documents(system=system)
    reachable = bool(ours) and there_is(plan)
    told = run(plan.stop, lenient=True) if reachable else []
    if purge:
        require_no_daemon(socket)
    for path in (*ours, *papers):
        os.unlink(path)
    told += run(plan.forget, lenient=True) if reachable else []
    for path in doomed:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    remove_empty(plan.folders if ours else ())
    remove_empty(sorted({os.path.dirname(path) for path in papers}))
    if purge:
        places = find_places(socket)
        folders = places.trees, os.path.dirname(places.policy), places.vault, os.path.dirname(places.audit_log)
        remove_empty(folders)
    if as_json:
        output.print_json({"removed": ours + papers + doomed, "kept": kept, "failed": told})
        return
    output.say(*(f"Removed {path}" for path in ours + doomed))
    output.say(*(f"Removed {len(papers)} manual pages and completions" for _ in papers[:1]))
    output.say(*(f"Kept {path}: it is not install's" for path in kept), *told)
    if not ours:
        output.say("Nothing was installed.")
    if not purge:
        output.say("Policy, secrets and audit log were kept.")
