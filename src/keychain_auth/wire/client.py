"""The client's half of the protocol, without I/O: arguments to request lines. What comes back is in ``wire.answers``.

Contract (protocol, section "Requests"):
* A typed request that every daemon would call malformed is refused here, before it is sent: InvalidRequest says
  which argument and why. Limits that a daemon can set (line, value, number of targets) are the daemon's to judge.
* What went wrong on the way is worded here, because only the request knows what it means: a read that got no answer
  did nothing, a write may have happened.
* No error raised here holds a value, not even in its ``__context__``: exceptions of the JSON library carry the whole
  document, so ours are raised after their handler has ended.

No module but the lightest: this module is on the fast path of every command and program.
"""

from __future__ import annotations

from _collections_abc import Iterable, Mapping  # collections.abc is this, and the package around it costs 1 ms

from keychain_auth import errors
from keychain_auth.limits import LONGEST_SERVICE, LONGEST_TARGET, LONGEST_WAIT
from keychain_auth.wire import quick_json

_UNITS = {"s": 1, "m": 60, "h": 3600}

# What may be asked twice: asking changes nothing.
_REPEATABLE = frozenset(("read", "search", "check"))

# UTF-8 as it is, not \uXXXX: shorter, and a lone surrogate cannot hide in an escape.
_encode = quick_json.dumps


class Call:
    """One request on its way: ``line`` ends with its newline, ``action`` is its word for messages.

    Whoever sends it sets ``sent_whole`` when the last byte has been handed to the kernel.
    """

    __slots__ = ("_message", "action", "line", "repeatable", "sent_whole", "wait")

    def __init__(self, message: Mapping[str, object], wait: int = 0) -> None:
        """``wait``: the seconds that the message asks to wait, as far as a client added them itself."""
        self._message = message
        self.wait = wait
        action = message.get("action")
        self.action = action if isinstance(action, str) else "request"
        self.repeatable = self.action in _REPEATABLE
        self.line = _line(message)
        self.sent_whole = False

    def waiting(self, seconds: int) -> Call:
        """The same request, which waits ``seconds`` for a person if this program is not registered; 0: as it is."""
        if not seconds or "wait" in self._message:
            return self
        return Call({**self._message, "wait": seconds}, seconds)

    def plain(self) -> Call:
        """The same request without its wait."""
        return Call({name: field for name, field in self._message.items() if name != "wait"})

    @property
    def may_have_run(self) -> bool:
        """Could the daemon have changed something? A line without its newline is never executed."""
        return self.sent_whole and not self.repeatable

    def lost(self, received: int) -> errors.ConnectionLost:
        """The error to raise: the stream ended after ``received`` bytes of the answer."""
        where = f"in the middle of its answer (after {received} bytes)" if received else "before it answered"
        return errors.ConnectionLost(
            f"the keychain-auth daemon closed the connection {where}{self._outcome()}",
            hint="keychain-auth status",
        )

    def late(self, seconds: float) -> errors.RequestTimeout:
        """The error to raise: no whole answer came within ``seconds``."""
        return errors.RequestTimeout(
            f"the keychain-auth daemon gave no complete answer within {seconds:g} s{self._outcome()}",
            hint="keychain-auth status",
        )

    def _outcome(self) -> str:
        if self.repeatable:
            return ""
        if not self.sent_whole:
            return f"; the {self.action} was not carried out"
        return f"; whether the {self.action} was carried out is unknown: read back what it changes before repeating it"


def checked_wait(wait: float | str | None) -> int:
    """Seconds to wait for a person's approval: a number, or text such as "60", "60s", "5m". 0 for None and "".

    Raises InvalidRequest.
    """
    if wait is None or wait == "":
        return 0
    seconds: float = -1.0
    if isinstance(wait, str):
        number, unit = (wait[:-1], wait[-1]) if wait[-1] in _UNITS else (wait, "s")
        if number.isascii() and number.isdigit():
            seconds = int(number) * _UNITS[unit]
    elif isinstance(wait, int | float) and not isinstance(wait, bool):
        seconds = wait
    if not 0 <= seconds <= LONGEST_WAIT:
        raise errors.InvalidRequest(f"a wait is 0 to {LONGEST_WAIT} seconds, or a text such as 60s or 5m; not {wait!r}")
    return int(seconds) + (seconds > int(seconds))


# --- requests ---------------------------------------------------------------------------------


def raw(message: Mapping[str, object]) -> Call:
    """A request that the program wrote itself; the daemon judges it.

    Raises InvalidRequest only for what cannot be written as JSON at all.
    """
    if not isinstance(message, Mapping):
        raise errors.InvalidRequest(f"a request is a dict, not {_kind(message)}")
    return Call(message)


def read(service: str, targets: str | Iterable[str], prefix: bool, attributes: Mapping[str, str] | None) -> Call:
    """A read of ``targets``, or of everything that begins with one of them. Raises InvalidRequest."""
    return Call(_selection("read", service, targets, prefix, attributes))


def delete(service: str, targets: str | Iterable[str], prefix: bool, attributes: Mapping[str, str] | None) -> Call:
    """A deletion of ``targets``, or of everything that begins with one of them. Raises InvalidRequest."""
    return Call(_selection("delete", service, targets, prefix, attributes))


def write(service: str, values: Mapping[str, str], attributes: Mapping[str, str] | None) -> Call:
    """A batch of target to value, stored whole or not at all. Raises InvalidRequest."""
    if not isinstance(values, Mapping):
        raise errors.InvalidRequest(f"values are a dict of target to value, not {_kind(values)}")
    message = _begin("write", service)
    message["targets"] = _names("target", values)
    for target, value in values.items():
        if not isinstance(value, str):
            raise errors.InvalidRequest(f"the value of {target!r} must be a string, not {_kind(value)}")
    message["values"] = list(values.values())
    return Call(_with_attributes(message, attributes))


def search(service: str, prefixes: str | Iterable[str], attributes: Mapping[str, str] | None) -> Call:
    """A search by prefixes (all targets when there are none). Raises InvalidRequest."""
    message = _begin("search", service)
    filters = _listed(prefixes)
    if filters:
        message["targets"] = _names("prefix", filters)
    return Call(_with_attributes(message, attributes))


def check(service: str) -> Call:
    """May this program read, write and search ``service``? Raises InvalidRequest."""
    return Call(_begin("check", service))


def _begin(action: str, service: str) -> dict[str, object]:
    _check_name("service", service, LONGEST_SERVICE)
    return {"type": "REQUEST", "action": action, "service": service}


def _selection(
    action: str,
    service: str,
    targets: str | Iterable[str],
    prefix: bool,
    attributes: Mapping[str, str] | None,
) -> dict[str, object]:
    message = _begin(action, service)
    if prefix:
        message["match"] = "prefix"
    message["targets"] = _names("target", _listed(targets))
    return _with_attributes(message, attributes)


def _with_attributes(message: dict[str, object], attributes: Mapping[str, str] | None) -> dict[str, object]:
    if attributes is None:
        return message
    if not isinstance(attributes, Mapping):
        raise errors.InvalidRequest(f"attributes are a dict of strings, not {_kind(attributes)}")
    for name, value in attributes.items():
        _check_name("attribute name", name, LONGEST_TARGET)
        if not isinstance(value, str):
            raise errors.InvalidRequest(f"attribute {name!r} must be a string, not {_kind(value)}")
    if attributes:
        message["attributes"] = dict(attributes)
    return message


def _listed(names: str | Iterable[str]) -> list[str]:
    # A lone string is one name: taken as a sequence it would ask for each of its letters.
    if isinstance(names, str):
        return [names]
    if not isinstance(names, Iterable):
        raise errors.InvalidRequest(f"targets are a list of strings, not {_kind(names)}")
    return list(names)


def _names(what: str, names: Iterable[str]) -> list[str]:
    checked = list(names)
    if not checked:
        raise errors.InvalidRequest(f"at least one {what} is needed")
    for name in checked:
        _check_name(what, name, LONGEST_TARGET)
    return checked


def _check_name(what: str, name: object, longest: int) -> None:
    if not isinstance(name, str):
        raise errors.InvalidRequest(f"a {what} must be a string, not {_kind(name)}")
    if not 1 <= len(name) <= longest:
        raise errors.InvalidRequest(f"a {what} has 1 to {longest} characters, this one {len(name)}")
    # isprintable() is one call in C and true for nearly every name; U+0000-1F and U+007F-9F are category Cc.
    if not name.isprintable() and any(char < " " or "\x7f" <= char <= "\x9f" for char in name):
        raise errors.InvalidRequest(f"a {what} must not hold control characters: {name!r}")


def _kind(thing: object) -> str:
    return type(thing).__name__


def _line(message: Mapping[str, object]) -> bytes:
    try:
        return (_encode(message if isinstance(message, dict) else dict(message)) + "\n").encode()
    except UnicodeEncodeError:
        problem = "it holds half of a surrogate pair, which UTF-8 cannot express"
    except (TypeError, ValueError, RecursionError) as error:
        problem = str(error)
    raise errors.InvalidRequest(f"the request cannot be written as JSON: {problem}")
