"""config.json as it stands in the file: names and types, nothing more. What the words mean is ``parse``'s to say.

Contract: what is not here is refused, and so is a wrong type; the same names as in docs/protocol.md, "config.json".
"""

from __future__ import annotations

import msgspec

PROTOCOL_VERSION = "1"


class ProgramDocument(msgspec.Struct, forbid_unknown_fields=True):
    """A file named in config.json."""

    path: str
    hash: str


class LaunchDocument(msgspec.Struct, forbid_unknown_fields=True):
    """What a launched script may import, as it stands in the file."""

    prefix: str = ""
    imports: list[str] = []
    trees: list[ProgramDocument] = []


class BehindDocument(msgspec.Struct, forbid_unknown_fields=True):
    """Who may stand behind a helper; ``interpreter`` is the path of what runs a script."""

    path: str
    hash: str = ""
    interpreter: str = ""


class TemporaryDocument(msgspec.Struct, forbid_unknown_fields=True):
    """A grant that ends; ``targets`` are exact names, ``on_behalf_of`` is a path."""

    id: str
    service: str
    read: bool = False
    write: bool = False
    targets: list[str] | None = None
    granted_at: str = ""
    expires_at: str = ""
    uses: int | None = None
    on_behalf_of: str = ""


class PreviousDocument(msgspec.Struct, forbid_unknown_fields=True):
    """A hash that an entry had before, and until when it counts."""

    hash: str
    until: str


class EntryDocument(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """One element of ``registered_binaries`` as it stands in the file."""

    path: str
    hash: str
    registered_at: str = ""
    allowed_read_services: list[str] = []
    allowed_write_services: list[str] = []
    can_search: bool = False
    allowed_targets: list[str] | None = None
    interpreter: ProgramDocument | None = None
    minimum_grade: str | None = None
    libraries: list[ProgramDocument] = []
    executable_memory: bool = False
    foreign_mounts: bool = False
    strict: bool = False
    signer: str | None = None
    no_rollback: bool = False
    grace_seconds: int = 0
    allow_stale_reads: bool = False
    previous: list[PreviousDocument] = []
    launch: LaunchDocument | None = None
    on_behalf_of: list[str | BehindDocument] | None = None
    users: list[str] | None = None
    guarded: bool = False
    publisher: str | None = None
    temporary_grants: list[TemporaryDocument] = []


class SignerDocument(msgspec.Struct, forbid_unknown_fields=True):
    """One element of ``trusted_signers`` as it stands in the file."""

    service: str
    public_key: str


class ServiceDocument(msgspec.Struct, forbid_unknown_fields=True):
    """One element of ``services`` as it stands in the file: what a service asks of whoever uses it."""

    service: str
    minimum_grade: str | None = None
    shared: bool = False


class ConfigDocument(msgspec.Struct, forbid_unknown_fields=True):
    """The whole of config.json."""

    protocol_version: str = PROTOCOL_VERSION
    registered_binaries: list[EntryDocument] = []
    trusted_signers: list[SignerDocument] = []
    services: list[ServiceDocument] = []
