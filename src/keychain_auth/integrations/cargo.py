"""``cargo-credential-keychain-auth``: a credential provider of cargo, for registry tokens.

JSON lines as the Cargo Book has them ("Credential Provider Protocol", version 1): a hello first, then a request for
each line. A token is a secret of the service ``cargo``, named by the index of the registry as cargo writes it.

Contract: every request that can be read gets one answer line; what is wrong is told in it (cargo prints it on its
standard error), in the same three parts as everywhere. A token is answered for the session only.
"""

from __future__ import annotations

import json
import sys

from keychain_auth.errors import quoted
from keychain_auth.integrations.base import Helper, Refusal, write_output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SERVICE = "cargo"


def main(helper: Helper, arguments: list[str]) -> int:
    """Serve cargo until it ends the stream."""
    _say({"v": [1]})
    for line in sys.stdin.buffer:
        try:
            _say({"Ok": _answer(helper, _parsed(line))})
        except Refusal as refusal:
            causes = [f"Why not: {refusal.why}"] + ([f"Next: {refusal.mend}"] if refusal.mend else [])
            _say({"Err": {"kind": "other", "message": f"wanted {refusal.wanted}", "caused-by": causes}})
        except _Known as known:
            _say({"Err": {"kind": str(known)}})
    return 0


class _Known(Exception):
    """A kind of error that cargo knows."""


def _answer(helper: Helper, request: dict[str, Any]) -> dict[str, Any]:
    kind = request.get("kind")
    if kind not in ("get", "login", "logout"):
        raise _Known("operation-not-supported")
    index = request["registry"]["index-url"]
    if kind == "get":
        found = helper.read([index], f"the token for {index}").get(index)
        if found is None:
            raise _Known("not-found")
        return {"kind": "get", "token": found.value, "cache": "session", "operation_independent": True}
    if kind == "login":
        _login(helper, index, request.get("token"))
    else:
        if index not in helper.read([index], f"to forget the token for {index}"):
            raise _Known("not-found")
        helper.delete([index], f"to forget the token for {index}")
    return {"kind": kind}


def _login(helper: Helper, index: str, token: object) -> None:
    wanted = f"to keep the token for {index}"
    if not isinstance(token, str) or not token:
        raise Refusal(
            wanted, "cargo gave none, and nobody is asked here", f"keychain-auth set {SERVICE} {quoted(index)}"
        )
    helper.write({index: token}, {}, wanted)


def _parsed(line: bytes) -> dict[str, Any]:
    # Raised outside of the handler: the JSON library's error carries the whole line, token and all.
    try:
        request: Any = json.loads(line)
        if request["v"] == 1 and isinstance(request["registry"]["index-url"], str):
            checked: dict[str, Any] = request
            return checked
    except (ValueError, LookupError, TypeError, RecursionError):
        pass
    raise Refusal("a token for cargo", "this line is no request of its protocol, version 1")


def _say(message: dict[str, Any]) -> None:
    write_output(json.dumps(message, separators=(",", ":")) + "\n")
