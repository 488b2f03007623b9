"""What is on disk: tables, keys, rows, and the state that seals them all. Format 3.

Contract:
* A row's ``id`` is a pseudonym of (service, target). Names and values are encrypted; without a key the file
  shows how many secrets there are, how long each is, and when they changed in relation to each other.
* Each blob is bound to its kind, its row's id and its row's *generation*: the number of the transaction that
  wrote it. A blob moved to another row, or one from an earlier time, does not open.
* The ``state`` record seals generation, number of rows and a fingerprint of all (id, generation): a row that
  was removed, added, duplicated or replaced by its own past is noticed when the vault is opened.
* The table ``history`` holds rows that were replaced or deleted, byte for byte as they were. The state seals their
  number and fingerprint as well; that is looked at by a check of the whole vault, not when it is opened.
* The table ``journal`` holds writes that are durable and whose rows are still to be made (``journal``): each whole
  batch is one sealed blob, bound to its generation. The state seals their number and fingerprint too, and opening
  looks at all of them.

What it does not promise: noticing that the *whole* vault (or its write-ahead log) was put back to an earlier
time. Nothing inside a file can show that the file is old; that takes a counter elsewhere. The column ``gone`` is not
sealed: it only says which of the earlier values may be dropped first.

Format 1 had no history, and its names no program. Format 2 had no journal. ``migrate`` knows the way from there.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from keychain_auth.crypto.aead import KEY_BYTES, Aead, NotAuthentic, scrub_stack
from keychain_auth.crypto.kdf import fingerprint, pseudonym, subkey_into, wipe
from keychain_auth.keychain.vault.index import INLINE_BYTES, Record

FORMAT = 3
FIRST_WITH_HISTORY, FIRST_WITH_JOURNAL = 2, 3
APPLICATION_ID = 0x4B434156  # "KCAV" at offset 68 of the file; file(1) and SQLite show it
MAX_GENERATION = (1 << 63) - 1
GENERATION_BYTES = 8

# The vault's own rows: what it must remember, sealed and counted like every secret. No request can name this service
# (a control character), and it is in no list. An older version of the program only sees one more service.
OWN_SERVICE = "\0keychain-auth"
OWN_SLOTS = "slots"
"""The record of the key slots (``slots.record_of``)."""
OWN_AUDIT_KEY = "audit key"
"""The audit log's key in hex, once it is no longer derived from the vault key: after a ``rekey``."""
OWN_AUDIT_MARK = "audit mark"
"""How far the audit log had come: the number of a line that is on the disk, and its chain in hex."""
OWN_BUILDS = "builds"
"""The content of builds.json: the newest builds that were seen."""
OWN_POLICY = "policy"
"""The text of config.json that a person accepted; there only while the policy is sealed."""
OWN_SETTINGS = "settings"
"""The text of daemon.toml that a person accepted, likewise."""
OWN_OWNERS = "owners"
"""Which account each user id was (system mode): JSON, an object of uid and name."""
OWN_CANARIES = "canaries"
"""Which secrets are canaries, and which programs reached for one (``policy.canaries``)."""
OWN_USES = "uses"
"""How often each temporary grant was used: JSON, an object of id and count."""

_SCHEMA_1 = (
    "CREATE TABLE meta (name TEXT NOT NULL PRIMARY KEY, value BLOB NOT NULL)",
    "CREATE TABLE slots (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, params TEXT NOT NULL, wrapped BLOB NOT NULL)",
    "CREATE TABLE secrets (id BLOB NOT NULL UNIQUE, name BLOB NOT NULL, value BLOB NOT NULL, generation INTEGER)",
)
HISTORY_SCHEMA = (
    (
        "CREATE TABLE history (id BLOB NOT NULL, generation INTEGER NOT NULL, name BLOB NOT NULL, value BLOB NOT NULL,"
        " gone INTEGER, UNIQUE (id, generation))"
    ),
    "CREATE INDEX history_gone ON history (gone) WHERE gone IS NOT NULL",
)
JOURNAL_SCHEMA = ("CREATE TABLE journal (generation INTEGER NOT NULL PRIMARY KEY, batch BLOB NOT NULL)",)
SCHEMAS = {
    1: _SCHEMA_1,
    2: _SCHEMA_1 + HISTORY_SCHEMA,
    3: _SCHEMA_1 + HISTORY_SCHEMA + JOURNAL_SCHEMA,
}
"""The tables of every format that this version can open."""
SCHEMA = SCHEMAS[FORMAT]


class Damage(Exception):
    """What was read cannot be what was written. The text names the part, never its content."""


class Name(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The plaintext of a name blob. ``modified`` is in seconds since 1970, ``program`` the path of who wrote it."""

    service: str
    target: str
    attributes: dict[str, str] | None
    modified: int
    program: str = ""


class State(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What the whole vault must add up to. ``members`` is the XOR of all rows' fingerprints.

    ``past_count`` and ``past_members`` are the same of the history, ``waiting_count`` and ``waiting_members`` of the
    journal.
    """

    generation: int
    count: int
    members: int
    past_count: int = 0
    past_members: int = 0
    waiting_count: int = 0
    waiting_members: int = 0


class _SealedState(msgspec.Struct, array_like=True, frozen=True, gc=False):
    generation: int
    count: int
    members: bytes
    past_count: int = 0
    past_members: bytes = b""
    waiting_count: int = 0
    waiting_members: bytes = b""


class Row(msgspec.Struct, frozen=True, gc=False):
    """One row as it goes into the table, and the record that stands for it in memory."""

    row_id: bytes
    name: bytes
    value: bytes
    generation: int
    service: str
    record: Record


class SlotRow(NamedTuple):
    """One row of the table ``slots``. ``params`` are the very bytes that the envelope is bound to."""

    number: int
    kind: str
    params: bytes
    wrapped: bytes

    def parameters(self) -> dict[str, str]:
        """The parameters as the protector wrote them. Raises Damage."""
        try:
            return msgspec.json.decode(self.params, type=dict[str, str])
        except msgspec.DecodeError:
            raise Damage(f"the parameters of key slot {self.number} cannot be read") from None


EMPTY = State(generation=1, count=0, members=0)
_encode = msgspec.msgpack.Encoder().encode
_decode_name = msgspec.msgpack.Decoder(Name).decode
_decode_state = msgspec.msgpack.Decoder(_SealedState).decode


def context_of(row_id: bytes, generation: int) -> bytes:
    """What a row's blobs are bound to, and what the state counts. ``generation`` is 1 to 2^63-1."""
    return row_id + generation.to_bytes(GENERATION_BYTES, "big")


def generation_of(context: bytes) -> int:
    """The generation in a context."""
    return int.from_bytes(context[-GENERATION_BYTES:], "big")


def row_id_of(context: bytes) -> bytes:
    """The row id in a context."""
    return context[:-GENERATION_BYTES]


class Codec:
    """Everything that needs a key. Built once when the vault opens; used by both threads."""

    def __init__(self, vault_key: bytes | bytearray | memoryview, vault_id: bytes) -> None:
        self._keys = {name: bytearray(KEY_BYTES) for name in ("index", "members", "name", "state", "value")}
        for name, buffer in self._keys.items():
            subkey_into(vault_key, vault_id, f"vault 1 {name}", buffer)
        self._index_key = self._keys["index"]
        self._member_key = self._keys["members"]
        self._names = Aead(self._keys["name"])
        self._state = Aead(self._keys["state"])
        self._values = Aead(self._keys["value"])
        self.open_bytes = self._values.opener(b"value")
        """A value as it was given to ``seal_row``, of its blob and context. Raises NotAuthentic."""
        for name in ("name", "state", "value"):  # OpenSSL has its own copy now, and clears it itself
            wipe(self._keys[name])
        self._vault_id = vault_id

    def wipe(self) -> None:
        """Overwrite the keys. Nothing can be looked up or counted with this object afterwards."""
        for buffer in self._keys.values():
            wipe(buffer)
        scrub_stack()

    def row_id(self, service: str, target: str) -> bytes:
        """32 bytes that name this target of this service. Raises UnicodeEncodeError."""
        return pseudonym(self._index_key, service.encode(), target.encode())

    def seal_row(self, service: str, target: str, value: bytes, generation: int) -> Row:
        """The row for one secret without attributes, written in transaction ``generation``."""
        name = Name(service, target, None, int(time.time()))
        return self._sealed(name, self.row_id(service, target), value, generation)

    def reseal_row(self, old: Codec, sealed_name: bytes, sealed_value: bytes, context: bytes, generation: int) -> Row:
        """A row of the codec ``old`` as this one seals it, its time and attributes kept. Raises Damage."""
        name = old.open_name(sealed_name, context)
        try:
            value = old._values.open(sealed_value, b"value" + context)
        except NotAuthentic:
            raise Damage(f"the value of {name.target!r} in service {name.service!r} does not authenticate") from None
        return self._sealed(name, self.row_id(name.service, name.target), value, generation)

    def _sealed(self, name: Name, row_id: bytes, value: bytes, generation: int) -> Row:
        context = context_of(row_id, generation)
        blob = self._values.seal(value, b"value" + context)
        record = Record(name.target, context, blob if len(blob) <= INLINE_BYTES else None, name.attributes)
        return Row(row_id, self.seal_names([name], [context])[0], blob, generation, name.service, record)

    def seal_names(self, names: Iterable[Name], contexts: Sequence[bytes]) -> list[bytes]:
        """The name blobs of rows, by their contexts."""
        return self._names.seal_all(list(map(_encode, names)), b"name", contexts)

    def seal_values(self, values: Sequence[bytes], contexts: Sequence[bytes]) -> list[bytes]:
        """The value blobs of rows, by their contexts."""
        return self._values.seal_all(values, b"value", contexts)

    def seal_batch(self, plain: bytes, generation: int) -> bytes:
        """The blob of an entry of the journal."""
        return self._names.seal(plain, b"batch" + generation.to_bytes(GENERATION_BYTES, "big"))

    def open_batch(self, blob: bytes, generation: int) -> bytes:
        """Raises Damage."""
        try:
            return self._names.open(blob, b"batch" + generation.to_bytes(GENERATION_BYTES, "big"))
        except NotAuthentic:
            raise Damage("an entry of its journal does not authenticate") from None

    def batch_member(self, generation: int) -> int:
        """An entry's part in ``State.waiting_members``."""
        return fingerprint(self._member_key, b"batch" + generation.to_bytes(GENERATION_BYTES, "big"))

    def open_name(self, blob: bytes, context: bytes) -> Name:
        """Raises Damage."""
        try:
            return _decode_name(self._names.open(blob, b"name" + context))
        except (NotAuthentic, msgspec.DecodeError):
            raise Damage("a name does not authenticate") from None

    def open_value(self, blob: bytes, context: bytes) -> str:
        """Raises NotAuthentic."""
        return self.open_bytes(blob, context).decode()

    def member(self, context: bytes) -> int:
        """This row's part in ``State.members``."""
        return fingerprint(self._member_key, context)

    def past_member(self, context: bytes) -> int:
        """An earlier row's part in ``State.past_members``: never the number that it had as a present one."""
        return fingerprint(self._member_key, b"past" + context)

    def seal_state(self, state: State) -> bytes:
        """The ``state`` entry of the table meta."""
        sealed = _SealedState(
            state.generation, state.count, state.members.to_bytes(32, "big"),
            state.past_count, state.past_members.to_bytes(32, "big"),
            state.waiting_count, state.waiting_members.to_bytes(32, "big"),
        )  # fmt: skip
        return self._state.seal(_encode(sealed), b"state" + self._vault_id)

    def open_state(self, blob: bytes) -> State:
        """Raises Damage."""
        try:
            sealed = _decode_state(self._state.open(blob, b"state" + self._vault_id))
        except (NotAuthentic, msgspec.DecodeError):
            raise Damage("its state record does not authenticate") from None
        members, past, waiting = (
            int.from_bytes(each, "big") for each in (sealed.members, sealed.past_members, sealed.waiting_members)
        )
        return State(
            sealed.generation, sealed.count, members, sealed.past_count, past, sealed.waiting_count, waiting
        )  # fmt: skip
