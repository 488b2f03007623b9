"""Collections, items and secrets of a Secret Service, over one connection and one encrypted session.

Contract (beyond ``bus``):
* Nothing here asks a person. Where the service wants to show a prompt, the prompt is dismissed and ``Locked`` raised.
* Values cross the bus encrypted (``crypto.transfer``).
* ``Gone`` means that connection and session are of no use any more: the service left, was replaced, or did not answer.
  Whether a change that was under way was made is not known then.

What it does not promise: that who answers is an honest keyring. On a session bus every program of the user may take the
name of the Secret Service while nobody has it, as every program may ask the real one for everything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from keychain_auth.crypto.transfer import ALGORITHM, BadTransfer, Exchange
from keychain_auth.secret_service.bus import Bus, Call, Refused, Signal, Unreachable

BUS_NAME = "org.freedesktop.secrets"
ROOT = "/org/freedesktop/secrets"
TEXT = "text/plain; charset=utf8"  # the content type that go-keyring stores; keyring and libsecret read any
_NOWHERE = "/"
_INTERFACE = "org.freedesktop.Secret"
_PROPERTIES = "org.freedesktop.DBus.Properties"
_ITEM, _COLLECTION, _SERVICE = (f"{_INTERFACE}.{kind}" for kind in ("Item", "Collection", "Service"))
_NO_OBJECT = frozenset(
    (
        f"{_INTERFACE}.Error.NoSuchObject",
        "org.freedesktop.DBus.Error.UnknownObject",
        "org.freedesktop.DBus.Error.UnknownMethod",  # what GDBus says of a path that it does not know
        "org.freedesktop.DBus.Error.UnknownInterface",
    )
)


class Gone(Exception):
    """The service is not there, or lost our session. The text says what was wrong."""


class Locked(Exception):
    """Only a person can open this."""


class NoSuchObject(Exception):
    """A collection or item that does not exist (any more)."""


class Facts(NamedTuple):
    """What an item is, without its secret. ``modified``: seconds since 1970."""

    attributes: dict[str, str]
    label: str
    modified: int


class Secret(NamedTuple):
    """A value as it is stored."""

    value: bytes
    content_type: str


class Service:
    """Connects when it is made. ``deadline`` may be set anew for each piece of work."""

    def __init__(self, address: str, deadline: float) -> None:
        """Raises Gone."""
        try:
            self._bus = Bus(BUS_NAME, address, deadline)
        except Unreachable as problem:
            raise Gone(str(problem)) from None
        try:
            self._watch()
            self._open_session()
        except BaseException:
            self._bus.close()
            raise

    @property
    def deadline(self) -> float:
        """Until when (``time.monotonic``) everything must be answered."""
        return self._bus.deadline

    @deadline.setter
    def deadline(self, deadline: float) -> None:
        self._bus.deadline = deadline

    def close(self) -> None:
        """Leave; the service forgets the session then."""
        self._bus.close()

    def changes(self) -> list[Signal]:
        """What the service said of collections and items since the last time. Raises Gone if it was replaced."""
        try:
            signals = self._bus.signals()
        except Unreachable as problem:
            raise Gone(str(problem)) from None
        if any(signal.member == "NameOwnerChanged" for signal in signals):
            raise Gone("the Secret Service was started anew")
        return signals

    # --- collections ------------------------------------------------------------------------------

    def find_collection(self, name: str) -> str:
        """The path of the collection with this alias, last part of its path, or label; "" is the default one.

        Raises NoSuchObject naming those that there are, or that the label is not unique.
        """
        alias = self._call(ROOT, _SERVICE, "ReadAlias", "s", (name or "default",))[0]
        if alias != _NOWHERE:
            return str(alias)
        if not name:
            raise NoSuchObject("there is no default collection")
        paths = list(self._property(ROOT, _SERVICE, "Collections"))
        for path in paths:
            if path.rpartition("/")[2] == name:
                return str(path)
        labels = [str(self._property(path, _COLLECTION, "Label")) for path in paths]
        found = [path for path, label in zip(paths, labels, strict=True) if label == name]
        if len(found) == 1:
            return str(found[0])
        known = ", ".join(sorted({path.rpartition("/")[2] for path in paths}))
        raise NoSuchObject(f"{len(found) or 'no'} collections are called {name!r}; there are: {known}")

    def is_locked(self, collection: str) -> bool:
        """Raises NoSuchObject."""
        return bool(self._property(collection, _COLLECTION, "Locked"))

    def items(self, collection: str) -> list[str]:
        """The paths of all items."""
        return [str(path) for path in self._property(collection, _COLLECTION, "Items")]

    def search(self, collection: str, attributes: Sequence[Mapping[str, str]]) -> list[list[str]]:
        """For each of ``attributes``: the paths of the items that have all of it."""
        calls = [Call(collection, _COLLECTION, "SearchItems", "a{ss}", (dict(wanted),)) for wanted in attributes]
        return [[str(path) for path in answer[0]] for answer in map(_unwrap, self._calls(calls))]

    def create(
        self, collection: str, label: str, attributes: Mapping[str, str], secret: Secret, *, replace: bool = False
    ) -> str:
        """A new item; its path. ``replace``: in the place of one that has these attributes. Raises Locked."""
        properties = {f"{_ITEM}.Label": ("s", label), f"{_ITEM}.Attributes": ("a{ss}", dict(attributes))}
        body = (properties, self._sealed(secret), replace)
        path, prompt = self._call(collection, _COLLECTION, "CreateItem", "a{sv}(oayays)b", body)
        self._no_prompt(prompt)
        return str(path)

    # --- items ------------------------------------------------------------------------------------

    def facts(self, paths: Sequence[str]) -> dict[str, Facts]:
        """Of the items that there are."""
        answers = self._calls([Call(path, _PROPERTIES, "GetAll", "s", (_ITEM,)) for path in paths])
        found = {}
        for path, answer in zip(paths, answers, strict=True):
            if isinstance(answer, Refused):
                if answer.name in _NO_OBJECT:
                    continue
                raise _translated(answer)
            properties = answer[0]
            found[path] = Facts(
                dict(properties.get("Attributes", ("", {}))[1]),
                str(properties.get("Label", ("", ""))[1]),
                int(properties.get("Modified", ("", 0))[1]),
            )
        return found

    def secrets(self, paths: Sequence[str]) -> dict[str, Secret]:
        """Of those items that there are and that are open. Raises NoSuchObject if one vanished."""
        if not paths:
            return {}
        [secrets] = self._call(ROOT, _SERVICE, "GetSecrets", "aoo", (list(paths), self._session))
        try:
            return {
                str(path): Secret(self._key.open(bytes(vector), bytes(value)), str(content_type))
                for path, (_, vector, value, content_type) in secrets.items()
            }
        except BadTransfer:
            raise Gone("the Secret Service sent what this session cannot decrypt") from None

    def set_secret(self, path: str, secret: Secret) -> None:
        """A new value for an item. Raises NoSuchObject, Locked."""
        self._call(path, _ITEM, "SetSecret", "(oayays)", (self._sealed(secret),))

    def set_attributes(self, path: str, attributes: Mapping[str, str]) -> None:
        """All attributes of an item. Raises NoSuchObject, Locked."""
        body = (_ITEM, "Attributes", ("a{ss}", dict(attributes)))
        self._call(path, _PROPERTIES, "Set", "ssv", body)

    def delete(self, path: str) -> None:
        """Remove an item. Raises NoSuchObject, Locked."""
        [prompt] = self._call(path, _ITEM, "Delete")
        self._no_prompt(prompt)

    # --- the rest ---------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Before the session is opened: whoever takes the name from then on is noticed."""
        try:
            self._bus.watch(f"type='signal',sender='{BUS_NAME}',path_namespace='{ROOT}/collection'")
            self._bus.watch(f"type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',arg0='{BUS_NAME}'")
        except Unreachable as problem:
            raise Gone(str(problem)) from None

    def _open_session(self) -> None:
        exchange = Exchange()
        body = (ALGORITHM, ("ay", exchange.public))
        (_, public), path = self._call(ROOT, _SERVICE, "OpenSession", "sv", body)
        try:
            self._key = exchange.key_with(bytes(public))
        except (BadTransfer, TypeError, ValueError):
            raise Gone("the Secret Service and keychain-auth found no common key") from None
        self._session = str(path)

    def _sealed(self, secret: Secret) -> tuple[str, bytes, bytes, str]:
        vector, value = self._key.seal(secret.value)
        return (self._session, vector, value, secret.content_type)

    def _no_prompt(self, prompt: Any) -> None:
        if prompt != _NOWHERE:
            self._calls([Call(str(prompt), f"{_INTERFACE}.Prompt", "Dismiss")])
            raise Locked

    def _property(self, path: str, interface: str, name: str) -> Any:
        return self._call(path, _PROPERTIES, "Get", "ss", (interface, name))[0][1]

    def _call(
        self, path: str, interface: str, method: str, signature: str = "", body: tuple[Any, ...] = ()
    ) -> tuple[Any, ...]:
        [answer] = self._calls([Call(path, interface, method, signature, body)])
        return _unwrap(answer)

    def _calls(self, calls: Sequence[Call]) -> list[tuple[Any, ...] | Refused]:
        try:
            return self._bus.calls(calls)
        except Unreachable as problem:
            raise Gone(str(problem)) from None


def _unwrap(answer: tuple[Any, ...] | Refused) -> tuple[Any, ...]:
    if isinstance(answer, Refused):
        raise _translated(answer)
    return answer


def _translated(refused: Refused) -> Exception:
    if refused.name in _NO_OBJECT:
        return NoSuchObject("no such object")
    if refused.name == f"{_INTERFACE}.Error.IsLocked":
        return Locked()
    if refused.name == f"{_INTERFACE}.Error.NoSession":
        return Gone("the Secret Service forgot the session")
    return refused
