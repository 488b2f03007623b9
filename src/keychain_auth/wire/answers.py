"""What comes back to a client, without I/O: answer lines to results. The requests are in ``wire.client``.

Contract (protocol, section "Responses"): a line that is no answer of this protocol is BadAnswer, never a half-read
result. No error raised here holds a value, not even in its ``__context__``.

No module but the lightest: this module is on the fast path of every command and program.
"""

from __future__ import annotations

from keychain_auth import errors, reasons
from keychain_auth.wire import quick_json

TYPE_CHECKING = False
if TYPE_CHECKING:  # `typing` would double what this import costs
    from collections.abc import Mapping
    from typing import Any

    from keychain_auth.wire.client import Call

# After these the daemon closes the connection, or may (a malformed line that was too long).
_CLOSING = frozenset(
    (
        reasons.PENDING_APPROVAL,
        reasons.CALLER_CHANGED,
        reasons.SOCKET_NOT_CLOEXEC,
        reasons.USER_NOT_ALLOWED,
        reasons.IDENTITY_NOT_VERIFIED,
        reasons.MALFORMED_REQUEST,
        reasons.RATE_LIMITED,
    )
)


class BadAnswer(errors.KeychainAuthError):
    """The daemon's line is not an answer of this protocol. The connection is not used again."""


class SecretInfo:
    """What a search tells of a secret: ``target`` (str) and ``attributes`` (dict of str to str)."""

    __slots__ = ("attributes", "target")
    __hash__ = None  # type: ignore[assignment] # it holds a dict
    _equal_by: tuple[str, ...] = ("target", "attributes")

    def __init__(self, target: str, attributes: dict[str, str]) -> None:
        self.target = target
        self.attributes = attributes

    def __repr__(self) -> str:
        return f"{type(self).__name__}(target={self.target!r}, attributes={self.attributes!r})"

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self._equal_by)


class Secret(SecretInfo):
    """One secret as it was read: ``target``, ``value`` (str) and ``attributes``. Its repr never shows the value."""

    __slots__ = ("value",)
    _equal_by = ("target", "attributes", "value")

    def __init__(self, target: str, value: str, attributes: dict[str, str]) -> None:
        super().__init__(target, attributes)
        self.value = value


def parse_response(line: bytes) -> dict[str, Any]:
    """The answer in ``line`` (UTF-8 JSON, without its newline), whatever its status. Raises BadAnswer."""
    response = _json(line)
    if (
        isinstance(response, dict)
        and response.get("type") == "RESPONSE"
        and response.get("status") in ("success", "denied", "error")
    ):
        return response
    raise BadAnswer("the daemon's answer is not one of the keychain-auth protocol", hint="keychain-auth status")


def _json(line: bytes) -> object:
    try:
        return quick_json.loads(line.decode())
    except (ValueError, RecursionError):
        return None


def closes_connection(response: Mapping[str, object]) -> bool:
    """Will the daemon close, or may it, after this answer? Then the next request needs a new connection."""
    reason = response.get("reason")
    return response["status"] != "success" and isinstance(reason, str) and reason in _CLOSING


def knows_no_wait(call: Call, response: Mapping[str, Any]) -> bool:
    """Did a daemon of an older version refuse the request because it asks to wait?"""
    return bool(call.wait) and response.get("reason") == reasons.MALFORMED_REQUEST


def successful(response: dict[str, Any]) -> dict[str, Any]:
    """``response`` itself if its status is ``success``. Raises the typed RequestRejected otherwise."""
    if response["status"] != "success":
        raise errors.rejection(response)
    return response


def secrets(response: Mapping[str, Any]) -> list[Secret]:
    """The results of a read, in the order of the answer. Raises BadAnswer."""
    found = []
    for result in _results(response):
        value = result.get("value")
        if not isinstance(value, str):
            raise BadAnswer("a result of the daemon's answer to a read has no value")
        found.append(Secret(result["target"], value, result.get("attributes") or {}))
    return found


def infos(response: Mapping[str, Any]) -> list[SecretInfo]:
    """The results of a search, sorted by target as the daemon sent them. Raises BadAnswer."""
    return [SecretInfo(result["target"], result.get("attributes") or {}) for result in _results(response)]


def _results(response: Mapping[str, Any]) -> list[dict[str, Any]]:
    results = response.get("results")
    if results is None:
        return []
    if isinstance(results, list) and all(map(_is_result, results)):
        return results
    raise BadAnswer("the results of the daemon's answer are not a list of targets")


def _is_result(result: object) -> bool:
    if not isinstance(result, dict) or not isinstance(result.get("target"), str):
        return False
    attributes = result.get("attributes")
    return attributes is None or isinstance(attributes, dict)
