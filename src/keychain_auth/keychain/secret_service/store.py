"""One collection of the Secret Service, asked and changed in one thread.

Contract: as ``keychain.base``, but blocking, and

* every operation ends within its seconds (a change: each step of it). A service that went away is connected to anew,
  once, as long as nothing was changed;
* every operation first asks the service whether the collection is locked: that takes under a millisecond, shows
  whether the service is there at all, and brings the news of what others changed;
* several items of one place: the one modified last counts, a write changes all of them, a deletion removes all.

Raises KeychainError, and nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TypeVar

from keychain_auth.errors import CollectionLocked, KeychainError, ValueNotText
from keychain_auth.keychain.budget import ANSWER_BYTES, Budget
from keychain_auth.keychain.names import encoded, require_names
from keychain_auth.keychain.secret_service.batch import Batch, Undoable
from keychain_auth.keychain.secret_service.names import Names
from keychain_auth.keychain.secret_service.naming import place_of, queries, require_free
from keychain_auth.model import Item
from keychain_auth.secret_service.bus import Refused, session_address
from keychain_auth.secret_service.service import Gone, Locked, NoSuchObject, Secret, Service

T = TypeVar("T")

_NO_ANSWER = (ValueError, TypeError, LookupError)  # an answer whose parts are others than the specification says
_AT_ONCE = 32  # secrets in one answer of the service
_START = "log in to the desktop, or start its keyring (gnome-keyring, KWallet, KeePassXC)"


class Open:
    """A connection and what is known through it."""

    def __init__(self, service: Service, collection: str, names: Names) -> None:
        self.service = service
        self.collection = collection
        self.names = names


class SecretStore:
    """``collection``: alias, last part of the path, or label; "" is the default one. Nothing is connected yet."""

    def __init__(self, collection: str, *, seconds: float, names_seconds: float, address: str = "") -> None:
        self._name = collection
        self._seconds = seconds
        self._names_seconds = names_seconds
        self._address = address
        self._opened: Open | None = None
        self._closed = False
        self._deadline: float | None = None
        self.answer_bytes = ANSWER_BYTES
        self.state = "not asked yet"
        self.problem = ""

    def within(self, deadline: float, work: Callable[[], T]) -> T:
        """``work``, one of the operations below, by ``deadline`` (``time.monotonic``): waiting for its turn counts."""
        self._deadline = deadline
        try:
            return work()
        finally:
            self._deadline = None

    # --- operations -------------------------------------------------------------------------------

    def read(self, service: str, targets: Sequence[str], attributes: Mapping[str, str]) -> list[Item]:
        """See Keychain."""
        require_names(service, targets, attributes)
        return self._attempt(lambda at: self._read(at, service, targets, attributes), service)

    def read_prefix(self, service: str, prefixes: Sequence[str], attributes: Mapping[str, str]) -> list[Item]:
        """See Keychain."""
        require_names(service, prefixes, attributes)
        return self._attempt(
            lambda at: self._revealed(at, service, self._under(at, service, prefixes), attributes), service
        )

    def search(self, service: str, prefixes: Sequence[str], attributes: Mapping[str, str]) -> list[Item]:
        """See Keychain."""
        require_names(service, prefixes, attributes)

        def look(at: Open) -> list[Item]:
            budget = Budget(self.answer_bytes)
            found = []
            for target in self._under(at, service, prefixes or ("",)):
                own = at.names.attributes(self._newest(at, at.names.paths(service, target)))
                if attributes.items() <= own.items():
                    budget.take(0, target, own)
                    found.append(Item(target, None, own or None))
            return found

        return self._attempt(look, service)

    def services(self) -> list[str]:
        """See Keychain."""
        return self._attempt(lambda at: at.names.services(), None)

    def write(self, service: str, entries: Sequence[tuple[str, str]], attributes: Mapping[str, str]) -> None:
        """See Keychain; undone as far as the service lets us if a step fails."""
        require_names(service, [target for target, _ in entries], attributes)
        require_free(attributes)
        values = dict(zip((target for target, _ in entries), encoded(value for _, value in entries), strict=True))
        self._change(service, list(values), lambda batch: batch.write(values, attributes))

    def delete(self, service: str, targets: Sequence[str], attributes: Mapping[str, str]) -> None:
        """See Keychain; undone as far as the service lets us if a step fails."""
        require_names(service, targets, attributes)
        self._change(service, list(dict.fromkeys(targets)), lambda batch: batch.delete(attributes))

    def probe(self) -> None:
        """Bring ``state`` and ``problem`` up to date."""
        try:
            self._attempt(lambda at: None, "")
        except KeychainError:
            return  # it is in ``problem``

    def disconnect(self) -> None:
        """Leave the bus and forget all names; the next operation connects anew."""
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.service.close()

    def close(self) -> None:
        """Leave for good."""
        self.disconnect()
        self._closed = True

    # --- connecting -------------------------------------------------------------------------------

    def _attempt(self, work: Callable[[Open], T], names: str | None) -> T:
        """``work`` on an open collection, tried once more if it shows that the connection was of no use.

        ``names``: the service whose names it needs; None: those of all services; "": none.
        """
        if self._closed:
            raise KeychainError("this keychain is closed", hint="keychain-auth start")
        deadline = self._deadline or time.monotonic() + self._seconds
        problem: KeychainError
        while True:
            fresh = self._opened is None
            try:
                result = work(self._ready(deadline, names))
            except (Gone, NoSuchObject, Refused) as error:
                self.disconnect()
                problem = self._explained(error)
                if not fresh and time.monotonic() < deadline:
                    continue
                self.state = "not reachable"
            except Locked:
                problem = self._locked()
            except KeychainError:  # about what was asked, and it may name it: nothing for ``problem``
                self.state, self.problem = "open", ""
                raise
            except _NO_ANSWER:
                self.disconnect()
                problem = KeychainError("what is on the bus as the Secret Service does not answer like one")
            else:
                self.state, self.problem = "open", ""
                return result
            break
        self.problem = str(problem)
        raise problem  # outside of the handlers: what was tried does not hang on it

    def _ready(self, deadline: float, names: str | None) -> Open:
        at = self._opened
        if at is None:
            service = Service(self._address or session_address(), deadline)
            try:
                collection = service.find_collection(self._name)
            except BaseException:
                service.close()
                raise
            at = self._opened = Open(service, collection, Names(service, collection, self._names_seconds))
        at.service.deadline = deadline
        if at.service.is_locked(at.collection):
            at.names.forget()
            raise Locked
        if names != "":
            at.names.refresh(names)
        return at

    def _locked(self) -> KeychainError:
        self.state = "locked"
        return CollectionLocked(
            f"{self._called()} is locked, and only a person can open it",
            hint="open it in the desktop's keyring application, or log in to the desktop",
        )

    def _explained(self, error: Exception) -> KeychainError:
        if isinstance(error, Gone):
            return KeychainError(f"the Secret Service cannot be reached: {error}", hint=_START)
        if isinstance(error, NoSuchObject):
            return KeychainError(f"{self._called()} is not there: {error}", hint=_START)
        return KeychainError(f"the Secret Service refused ({error})")

    def _called(self) -> str:
        which = f"the collection {self._name!r}" if self._name else "the default collection"
        return f"{which} of the desktop's keyring"

    # --- reading ----------------------------------------------------------------------------------

    def _read(self, at: Open, service: str, targets: Sequence[str], attributes: Mapping[str, str]) -> list[Item]:
        unknown = [target for target in targets if not at.names.paths(service, target)]
        if unknown:
            self._search(at, service, unknown)
        return self._revealed(at, service, [t for t in targets if at.names.paths(service, t)], attributes)

    def _search(self, at: Open, service: str, targets: Sequence[str]) -> None:
        """Ask the service itself for places that are not remembered: a signal may not have come (yet)."""
        found = at.service.search(at.collection, [query for t in targets for query in queries(service, t)])
        paths = sorted({path for each in found for path in each})
        if paths:
            at.names.learn(paths)

    def _under(self, at: Open, service: str, prefixes: Sequence[str]) -> list[str]:
        wanted = tuple(prefixes)
        return sorted(target for target in at.names.targets(service) if target.startswith(wanted))

    def _revealed(self, at: Open, service: str, targets: Sequence[str], attributes: Mapping[str, str]) -> list[Item]:
        chosen = {target: self._newest(at, at.names.paths(service, target)) for target in targets}
        fitting = {
            target: path for target, path in chosen.items() if attributes.items() <= at.names.attributes(path).items()
        }
        budget = Budget(self.answer_bytes)
        items = []
        for target, secret in self._secrets(at, fitting):
            own = at.names.attributes(fitting[target]) or None
            if len(fitting) > 1:
                budget.take(len(secret.value), target, own)
            items.append(Item(target, _text(service, target, secret), own))
        return items

    def _secrets(self, at: Open, paths: Mapping[str, str]) -> Iterator[tuple[str, Secret]]:
        """Target and secret of those of ``paths`` that are still there, some at a time."""
        waiting = iter(paths.items())
        while some := dict(islice(waiting, _AT_ONCE)):
            secrets = at.service.secrets(list(some.values()))
            missing = [path for path in some.values() if path not in secrets]
            if missing and at.service.facts(missing):
                raise Locked  # it is there, and was not given
            yield from ((target, secrets[path]) for target, path in some.items() if path in secrets)

    def _newest(self, at: Open, paths: Sequence[str]) -> str:
        """The item that counts. gnome-keyring sends no signal for a new value: so several are looked at anew."""
        if len(paths) == 1:
            return paths[0]
        found = at.service.facts(paths)
        if not found:
            raise NoSuchObject("its items were removed meanwhile")
        return max(found, key=lambda path: (found[path].modified, len(path), path))

    # --- changing ---------------------------------------------------------------------------------

    def _change(self, service: str, targets: Sequence[str], work: Callable[[Batch], None]) -> None:
        """What is there is read first: that may be tried twice, and without it nothing could be undone."""
        if not targets:
            return
        batch = self._attempt(lambda at: self._prepared(at, service, targets), service)
        try:
            self._attempt_once(lambda: work(batch))
        except KeychainError as problem:
            failure = problem
        else:
            return
        if batch.untouched:
            raise failure
        raise self._undone(batch, failure)

    def _prepared(self, at: Open, service: str, targets: Sequence[str]) -> Batch:
        self._search(at, service, targets)
        places = {target: at.names.paths(service, target) for target in targets}
        paths = [path for found in places.values() for path in found]
        secrets = at.service.secrets(paths)
        if any(path not in secrets for path in paths):
            raise Locked
        before = {
            target: [Undoable(path, at.names.facts(path), secrets[path]) for path in found]
            for target, found in places.items()
        }
        newest = {target: self._newest(at, found) for target, found in places.items() if found}
        return Batch(self._step, service, before, newest)

    def _step(self) -> Open:
        """Time for one more step of a change."""
        at = self._opened
        if at is None:
            raise Gone("the connection was lost")
        at.service.deadline = time.monotonic() + self._seconds
        return at

    def _attempt_once(self, work: Callable[[], None]) -> None:
        problem: KeychainError
        try:
            work()
        except (Gone, NoSuchObject, Refused) as error:
            self.disconnect()
            problem = self._explained(error)
        except Locked:
            problem = self._locked()
        except _NO_ANSWER:
            self.disconnect()
            problem = KeychainError("what is on the bus as the Secret Service does not answer like one")
        else:
            return
        self.problem = str(problem)
        raise problem

    def _undone(self, batch: Batch, failure: KeychainError) -> KeychainError:
        """Put everything back. What is raised says whether that worked."""
        try:
            self._attempt(lambda at: batch.undo(lambda target: self._present(at, batch.service, target)), batch.service)
        except KeychainError as problem:
            names = ", ".join(repr(target) for target in batch.touched)
            failed = type(failure)(
                f"{failure}; what was changed before could not be undone ({problem}): look at {names}",
                hint=failure.hint,
            )
        else:
            return failure
        return failed

    def _present(self, at: Open, service: str, target: str) -> list[str]:
        """The items of a place as the service has them now."""
        found = at.service.search(at.collection, queries(service, target))
        paths = sorted({path for each in found for path in each})
        facts = at.service.facts(paths)
        return [path for path in paths if path in facts and place_of(facts[path].attributes) == (service, target)]


def _text(service: str, target: str, secret: Secret) -> str:
    try:
        return secret.value.decode()
    except UnicodeDecodeError:  # it would carry the value along: raised below, outside of the handler
        pass
    raise ValueNotText(f"the stored value of {target!r} in service {service!r} is not UTF-8 text")
