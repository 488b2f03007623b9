"""One connection to a D-Bus session bus, for calls to one service: deadlines everywhere, nothing started, no prompt.

Contract:
* Every method returns or raises before ``deadline`` (of ``time.monotonic``), which the caller sets for each piece of
  work. Sending and connecting count too: a bus that does not read blocks nobody.
* A service that does not run is not started (the flag NO_AUTO_START): a keyring that comes up because somebody asked
  for a secret comes up locked, and may ask the person at the desktop.
* Several calls may be under way at once; answers come back in the order of the calls.
* Belongs to one thread.

Errors hold names of errors, never what was in a message.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Sequence
from itertools import count, islice
from typing import Any, NamedTuple

from jeepney import DBusAddress, HeaderFields, Message, MessageFlag, MessageType, Parser, new_method_call
from jeepney.bus import get_bus
from jeepney.io.blocking import prep_socket

_BUS = DBusAddress("/org/freedesktop/DBus", "org.freedesktop.DBus", "org.freedesktop.DBus")
_AT_ONCE = 64  # calls under way: dbus-daemon counts the answers that a connection waits for
_PIECE = 65536
_NO_MESSAGE = (ValueError, TypeError, LookupError, struct.error)  # what jeepney raises for bytes that are no message


class Unreachable(Exception):
    """No bus, no service, or no answer in time. The text says which. The connection is of no use any more."""


class Refused(Exception):
    """The service answered with an error; ``name`` is the error's."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class Call(NamedTuple):
    """A method call: ``signature`` and ``body`` as D-Bus has them."""

    path: str
    interface: str
    method: str
    signature: str = ""
    body: tuple[Any, ...] = ()


class Signal(NamedTuple):
    """A signal that came."""

    path: str
    interface: str
    member: str
    body: tuple[Any, ...]


class Bus:
    """Connects when it is made. ``name``: the service that is called. Raises Unreachable."""

    def __init__(self, name: str, address: str, deadline: float) -> None:
        self.name = name
        self.deadline = deadline
        self._serials = count(1)
        self._parser = Parser()
        self._signals: list[Signal] = []
        try:
            self._socket = prep_socket(get_bus(address), timeout=self._left())
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise Unreachable(f"there is no D-Bus at {address} ({_reason(error)})") from None
        try:
            self._to_bus("Hello")
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """Readable when something came."""
        number: int = self._socket.fileno()
        return number

    def close(self) -> None:
        """Leave the bus. May be called twice."""
        self._socket.close()

    def call(self, call: Call) -> tuple[Any, ...]:
        """The answer's body. Raises Refused, Unreachable."""
        [answer] = self.calls([call])
        if isinstance(answer, Refused):
            raise answer
        return answer

    def calls(self, calls: Sequence[Call]) -> list[tuple[Any, ...] | Refused]:
        """The answers' bodies, or how the service refused, in the order of the calls. Raises Unreachable."""
        found: list[tuple[Any, ...] | Refused] = []
        waiting = iter(calls)
        while batch := list(islice(waiting, _AT_ONCE)):
            messages = []
            for call in batch:
                address = DBusAddress(call.path, self.name, call.interface)
                message = new_method_call(address, call.method, call.signature or None, call.body)
                message.header.flags |= MessageFlag.no_auto_start
                messages.append(message)
            found += self._exchange(messages)
        return found

    def watch(self, rule: str) -> None:
        """Ask for signals (a match rule, D-Bus specification, "Match Rules"). Raises Unreachable."""
        self._to_bus("AddMatch", "s", (rule,))

    def has_owner(self, name: str) -> bool:
        """Is somebody on the bus under this name? Raises Unreachable."""
        return bool(self._to_bus("NameHasOwner", "s", (name,))[0])

    def signals(self) -> list[Signal]:
        """The signals that came since this was asked the last time. Raises Unreachable if the bus is gone."""
        self._socket.setblocking(False)
        try:
            while True:
                self._take(self._socket.recv(_PIECE))
        except BlockingIOError:
            pass
        except OSError as error:
            raise Unreachable(f"the D-Bus session is gone ({_reason(error)})") from None
        except _NO_MESSAGE:
            raise Unreachable("the D-Bus session sent what is no message") from None
        found, self._signals = self._signals, []
        return found

    # --- the wire ---------------------------------------------------------------------------------

    def _to_bus(self, method: str, signature: str | None = None, body: tuple[Any, ...] = ()) -> tuple[Any, ...]:
        [answer] = self._exchange([new_method_call(_BUS, method, signature, body)])
        if isinstance(answer, Refused):
            raise Unreachable(f"the D-Bus session refused {method} ({answer.name})")
        return answer

    def _exchange(self, messages: Sequence[Message]) -> list[tuple[Any, ...] | Refused]:
        serials = [next(self._serials) for _ in messages]
        answers: dict[int, tuple[Any, ...] | Refused] = {}
        try:
            for message, serial in zip(messages, serials, strict=True):
                self._socket.settimeout(self._left())
                self._socket.sendall(message.serialise(serial=serial))
            while len(answers) < len(serials):
                self._socket.settimeout(self._left())
                for message in self._take(self._socket.recv(_PIECE)):
                    serial = message.header.fields.get(HeaderFields.reply_serial, -1)
                    if serial in serials:
                        answers[serial] = self._answer(message)
        except TimeoutError:
            raise Unreachable("it did not answer in time") from None
        except OSError as error:
            raise Unreachable(f"the D-Bus session is gone ({_reason(error)})") from None
        except _NO_MESSAGE:
            raise Unreachable("the D-Bus session sent what is no message, or does not take one so long") from None
        return [answers[serial] for serial in serials]

    def _take(self, data: bytes) -> list[Message]:
        """Messages that ``data`` completes; signals are put aside."""
        if not data:
            raise ConnectionResetError("closed")
        self._parser.add_data(data)
        found = []
        while (message := self._parser.get_next_message()) is not None:
            if message.header.message_type is MessageType.signal:
                fields = message.header.fields
                self._signals.append(
                    Signal(
                        fields.get(HeaderFields.path, ""),
                        fields.get(HeaderFields.interface, ""),
                        fields.get(HeaderFields.member, ""),
                        tuple(message.body),
                    )
                )
            else:
                found.append(message)
        return found

    def _answer(self, message: Message) -> tuple[Any, ...] | Refused:
        if message.header.message_type is not MessageType.error:
            return tuple(message.body)
        name = str(message.header.fields.get(HeaderFields.error_name, ""))
        if name in _GONE:
            raise Unreachable(f"nobody is on the bus as {self.name}")
        return Refused(name)

    def _left(self) -> float:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


_GONE = frozenset(
    f"org.freedesktop.DBus.Error.{name}"
    for name in ("ServiceUnknown", "NameHasNoOwner", "NoReply", "Disconnected", "Timeout", "TimedOut")
)


def session_address() -> str:
    """Where this process's session bus is: DBUS_SESSION_BUS_ADDRESS, else the usual place of systemd's."""
    address = os.environ.get("DBUS_SESSION_BUS_ADDRESS", "")
    if address:
        return address
    folder = os.environ.get("XDG_RUNTIME_DIR", "") or f"/run/user/{os.getuid()}"
    return f"unix:path={folder}/bus"


def _reason(error: BaseException) -> str:
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else type(error).__name__


__all__ = ["Bus", "Call", "Refused", "Signal", "Unreachable", "session_address"]
