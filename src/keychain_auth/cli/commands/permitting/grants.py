"""What a known program may do: ``authorize``, ``revoke``; what a service asks of programs: ``require``.

A running daemon obeys at its next request.
"""

from __future__ import annotations

import json
from typing import Any

import click

from keychain_auth.cli.shared import config_file, output
from keychain_auth.cli.shared.options import checked_prefix, checked_service, json_option, passphrase_option
from keychain_auth.cli.shared.temporary import described, grant_document
from keychain_auth.daemon.places import find_places
from keychain_auth.errors import NotFound, UsageError
from keychain_auth.model import Grade
from keychain_auth.policy import edit
from keychain_auth.policy.parse import parse_policy


@click.command()
@click.argument("path")
@click.argument("service")
@click.option("--read", is_flag=True, help="It may read the service's secrets.")
@click.option("--write", is_flag=True, help="It may write and delete them.")
@click.option("--search", is_flag=True, help="It may search and use prefixes, in every service that it may use.")
@click.option(
    "--targets",
    metavar="PREFIX",
    multiple=True,
    help="Limit it, in every service, to targets that begin with PREFIX. May be given several times.",
)
@click.option(
    "--for", "lasts", metavar="TIME", help="Only for so long: 90s, 10m, 8h, 7d. It may only read, unless told."
)
@click.option("--uses", metavar="N", type=click.IntRange(1, 1_000_000), help="Only so often: a use is a request.")
@click.option("--target", "names", metavar="NAME", multiple=True, help="With --for or --uses: only this secret.")
@click.option("--behind", metavar="PROGRAM", help="With --for or --uses: only while PROGRAM stands behind it.")
@click.option(
    "--no-rollback/--allow-rollback",
    default=None,
    help="Refuse a build with a lower number than was seen. For programs registered with --signer.",
)
@passphrase_option
@json_option
def authorize(
    path: str,
    service: str,
    read: bool,
    write: bool,
    search: bool,
    targets: tuple[str, ...],
    lasts: str | None,
    uses: int | None,
    names: tuple[str, ...],
    behind: str | None,
    no_rollback: bool | None,
    as_json: bool,
) -> None:
    """Allow the known program PATH to use SERVICE.

    Without --read, --write and --search it gets all three: full access to the service. (With --targets or
    --no-rollback alone, a service that it may use already stays as it is.) Grants add up; `revoke` takes them away.

    With --for or --uses the grant ends by itself, and takes the place of an earlier one of that kind. The daemon counts
    the uses, and a restart gives none back; list and check show what is left.
    """
    checked_service(service)
    if lasts is not None or uses is not None:
        if search or targets or no_rollback is not None:
            raise click.UsageError("--for and --uses go with --read, --write, --target and --behind.")
        authorize_for_a_time(
            path,
            grant_document(service, read=read, write=write, targets=names, lasts=lasts, uses=uses, behind=behind or ""),
            as_json,
        )
        return
    if names or behind is not None:
        raise click.UsageError("--target and --behind go with --for or --uses; --targets takes prefixes.")
    for prefix in targets:
        checked_prefix(prefix)

    def grant(document: edit.Document) -> tuple[edit.Document, tuple[str, dict[str, Any]]]:
        known = config_file.known_path(document, path)
        narrowed = bool(targets) or no_rollback is not None
        everything = not (read or write or search or (narrowed and _may_use(document, known, service)))
        changed = edit.authorize(
            document,
            known,
            service,
            read=read or everything,
            write=write or everything,
            search=search or everything,
            targets=targets,
            demands=None if no_rollback is None else {"no_rollback": no_rollback},
        )
        return changed, (known, config_file.entry_of(changed, known))

    known, entry = config_file.change(find_places(), grant)
    _tell("authorized", f"authorized {known} for {service}", service, known, entry, as_json)


def authorize_for_a_time(path: str, grant: edit.Document, as_json: bool) -> None:
    """Give PATH a grant that ends, and say so."""

    def give(document: edit.Document) -> tuple[edit.Document, tuple[str, edit.Document]]:
        known = config_file.known_path(document, path)
        changed = edit.grant_for_a_time(document, known, grant)
        return changed, (known, changed)

    # Told from what this command wrote, not from the file: another command may have changed that by now.
    known, written = config_file.change(find_places(), give)
    [entry, *_] = parse_policy(json.dumps(written).encode()).by_path[known]
    [given] = [each for each in described(entry, {}) if each["id"] == grant["id"]]
    if as_json:
        output.print_json({"outcome": "authorized", "path": known, "grant": given})
    else:
        output.say(f"authorized {known}", f"  {given['in_words']}")


@click.command()
@click.argument("path")
@click.argument("service", required=False)
@passphrase_option
@json_option
def revoke(path: str, service: str | None, as_json: bool) -> None:
    """Take SERVICE from the program PATH; without SERVICE, everything.

    The program stays registered. A connection that is open already is refused at its next request. Exit code 6 if there
    was nothing to take.
    """

    def take(document: edit.Document) -> tuple[edit.Document, tuple[str, dict[str, Any]]]:
        known = config_file.known_path(document, path)
        changed, taken = edit.revoke(document, known, service)
        if not taken:
            what = "no permission" if service is None else f"no permission for {service}"
            raise NotFound(f"{known} has {what}: there is nothing to revoke", hint="keychain-auth list")
        return changed, (known, config_file.entry_of(changed, known))

    known, entry = config_file.change(find_places(), take)
    what = "everything" if service is None else service
    _tell("revoked", f"revoked {what} from {known}", service, known, entry, as_json)


def _tell(outcome: str, sentence: str, service: str | None, known: str, entry: dict[str, Any], as_json: bool) -> None:
    if as_json:
        output.print_json({"outcome": outcome, "service": service, **grants_of(known, entry)})
    else:
        output.say(sentence)
        tell_grants(entry)


def _may_use(document: edit.Document, path: str, service: str) -> bool:
    """Does it have a grant for the service, be it one that ends? Then a limit alone must not give it more."""
    entry = config_file.entry_of(document, path)
    grants = grants_of(path, entry)
    return (
        service in grants["allowed_read_services"]
        or service in grants["allowed_write_services"]
        or any(grant["service"] == service for grant in entry.get("temporary_grants", []))
    )


def grants_of(path: str, entry: dict[str, Any]) -> dict[str, Any]:
    """What an entry of config.json allows, as plain data."""
    return {
        "path": path,
        "allowed_read_services": entry.get("allowed_read_services", []),
        "allowed_write_services": entry.get("allowed_write_services", []),
        "can_search": entry.get("can_search", False),
        "allowed_targets": entry.get("allowed_targets"),
    }


def tell_grants(entry: dict[str, Any]) -> None:
    """Say what an entry of config.json allows."""
    grants = grants_of("", entry)
    targets = grants["allowed_targets"]
    output.say(
        f"  read    {output.words(grants['allowed_read_services'])}",
        f"  write   {output.words(grants['allowed_write_services'])}",
        f"  search  {'yes' if grants['can_search'] else 'no'}",
        f"  targets {'any' if targets is None else 'only those that begin with ' + output.words(targets)}",
    )


@click.command()
@click.argument("service")
@click.argument("grade", type=click.Choice([grade.value for grade in Grade]), required=False)
@passphrase_option
@json_option
def require(service: str, grade: str | None, as_json: bool) -> None:
    """Let SERVICE ask for a minimum GRADE of every program that uses it; without GRADE, for none.

    The grades, the weakest first: declared, launched, user, system, signed.
    """
    checked_service(service)
    config_file.change(find_places(), lambda document: (edit.require_grade(document, service, grade), None))
    if as_json:
        output.print_json({"outcome": "required", "service": service, "minimum_grade": grade})
    elif grade is None:
        output.say(f"{service} asks for no grade of its own")
    else:
        output.say(f"{service} is for programs of grade {grade} or surer")


@click.command()
@click.argument("service")
@click.option("--off", is_flag=True, help="Let each user have secrets of their own again.")
@passphrase_option
@json_option
def share(service: str, off: bool, as_json: bool) -> None:
    """In system mode: let the secrets of SERVICE be the same for all users.

    Otherwise each user has secrets of their own under that name, which nobody else can read. What was stored before
    stays where it was, and is not seen under the other rule.
    """
    if checked_service(service).startswith("@"):
        raise UsageError("the name of a shared service does not begin with @")
    config_file.change(find_places(), lambda document: (edit.share(document, service, shared=not off), None))
    if as_json:
        output.print_json({"outcome": "shared" if not off else "not shared", "service": service})
    else:
        output.say(f"{service} is {'of each user' if off else 'shared by all users'}")
