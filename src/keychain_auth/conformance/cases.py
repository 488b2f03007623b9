"""What a daemon is tried with. Each case is one promise of docs/protocol.md, and touches one service of its own alone.

A case returns "" when the daemon kept the promise, else what it did instead. None of them changes another program, file
or setting; what is stored is removed at the end.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from keychain_auth.conformance.probe import PATIENCE, Probe, Programs, Silence, shipped

SERVICE = "conformance"
MALFORMED = "malformed_request"
_LINE_LIMIT = 1024 * 1024


class Bench(NamedTuple):
    """Where to try it: the daemon's socket, and the programs."""

    socket: str
    programs: Programs
    patience: float = PATIENCE

    def probe(self, *options: str, program: str = "") -> Probe:
        """The registered program, or ``program``, connected."""
        return Probe(program or self.programs.probe, self.socket, *options, patience=self.patience)


class Case(NamedTuple):
    """``part`` is where it belongs: messages (the vectors), behaviour, identity."""

    part: str
    name: str
    run: Callable[[Bench], str]


def request(action: str, *targets: str, service: str = SERVICE, **fields: Any) -> dict[str, Any]:
    """A request of the protocol."""
    return {"type": "REQUEST", "action": action, "service": service, **({"targets": list(targets)} if targets else {}),
            **fields}  # fmt: skip


def all_cases() -> list[Case]:
    """In the order in which they are run."""
    return [*vectors(), *BEHAVIOUR, *IDENTITY]


def in_short(answer: dict[str, Any]) -> str:
    """An answer as it may be shown: without values."""
    reason = answer.get("reason")
    return f"{answer.get('status')}{f' {reason}' if reason else ''}"


# --- messages -------------------------------------------------------------------------------------


def vectors() -> Iterator[Case]:
    """One for each of the shared vectors."""
    with open(shipped("requests.json"), encoding="utf-8") as file:
        for vector in json.load(file)["vectors"]:
            line = bytes.fromhex(vector["line_hex"]) if "line_hex" in vector else vector["line"].encode()
            yield Case("messages", vector["name"], _vector(line, vector.get("reason")))


def _vector(line: bytes, reason: str | None) -> Callable[[Bench], str]:
    def run(bench: Bench) -> str:
        with bench.probe() as probe:
            probe.send(line + b"\n")
            answer = probe.answer()
            # The probe has no grant for most services in the vectors: refused is as good as done, malformed is not.
            if reason is None:
                return "taken for malformed" if answer.get("reason") == MALFORMED else ""
            return "" if answer.get("reason") == reason and answer.get("status") == "error" else in_short(answer)

    return run


# --- behaviour ------------------------------------------------------------------------------------


def _store(probe: Probe, **values: str) -> None:
    answer = probe.ask(request("write", *values, values=list(values.values())))
    if answer.get("status") != "success":
        raise Silence(f"a write was answered: {in_short(answer)}")


def _items(answer: dict[str, Any]) -> list[tuple[str, str | None]]:
    return [(item["target"], item.get("value")) for item in answer.get("results") or ()]


def _expect(answer: dict[str, Any], *items: tuple[str, str | None]) -> str:
    if answer.get("status") != "success":
        return in_short(answer)
    return "" if _items(answer) == list(items) else f"other results: {[name for name, _ in _items(answer)]}"


def _exact_read(bench: Bench) -> str:
    with bench.probe() as probe:
        _store(probe, b="2", a="1")
        return _expect(probe.ask(request("read", "b", "missing", "a")), ("b", "2"), ("a", "1"))


def _values(bench: Bench) -> str:
    odd = 'π "\n\0\U0001f600'
    with bench.probe() as probe:
        _store(probe, empty="", odd=odd)
        return _expect(probe.ask(request("read", "empty", "odd")), ("empty", ""), ("odd", odd))


def _prefix_read(bench: Bench) -> str:
    with bench.probe() as probe:
        _store(probe, **{"p:b": "2", "p:a": "1", "q": "3"})
        answer = probe.ask(request("read", "p", "p:", match="prefix"))
        return _expect(answer, ("p:a", "1"), ("p:b", "2"))


def _search(bench: Bench) -> str:
    with bench.probe() as probe:
        _store(probe, **{"s:b": "2", "s:a": "1"})
        return _expect(probe.ask(request("search", "s:")), ("s:a", None), ("s:b", None))


def _attributes(bench: Bench) -> str:
    with bench.probe() as probe:
        probe.ask(request("write", "t:a", values=["1"], attributes={"env": "x", "of": "y"}))
        probe.ask(request("write", "t:b", values=["2"], attributes={"env": "z"}))
        answer = probe.ask(request("read", "t:", match="prefix", attributes={"env": "x"}))
        if (wrong := _expect(answer, ("t:a", "1"))) or answer["results"][0].get("attributes") == {
            "env": "x",
            "of": "y",
        }:
            return wrong
        return "attributes are not answered"


def _delete(bench: Bench) -> str:
    with bench.probe() as probe:
        _store(probe, gone="1")
        for _ in range(2):
            answer = probe.ask(request("delete", "gone"))
            if answer.get("status") != "success":
                return in_short(answer)
        return _expect(probe.ask(request("read", "gone")))


def _pipelining(bench: Bench) -> str:
    with bench.probe() as probe:
        _store(probe, a="1", b="2")
        names = ["a", "b", "a", "a", "b"] * 4
        probe.send(b"".join(json.dumps(request("read", name)).encode() + b"\n" for name in names))
        found = [_items(probe.answer())[0][0] for _ in names]
        return "" if found == names else "the answers came in another order"


def _stays_open(bench: Bench) -> str:
    with bench.probe() as probe:
        _store(probe, a="1")
        probe.send(b"no request\n")
        if (answer := probe.answer()).get("reason") != MALFORMED:
            return in_short(answer)
        return _expect(probe.ask(request("read", "a")), ("a", "1"))


def _pieces(bench: Bench) -> str:
    with bench.probe() as probe:
        line = json.dumps(request("check")).encode() + b"\n"
        probe.send(line[:20])
        probe.send(line[20:])
        return "" if (answer := probe.answer()).get("status") == "success" else in_short(answer)


def _no_newline(bench: Bench) -> str:
    with bench.probe() as probe:
        probe.send(json.dumps(request("write", "unfinished", values=["1"])).encode())
        probe.order("half-close")
        probe.ended()
    with bench.probe() as probe:
        return _expect(probe.ask(request("read", "unfinished")))


def _long_line(bench: Bench) -> str:
    with bench.probe() as probe:
        probe.send(b"x" * (_LINE_LIMIT + 2) + b"\n")
        if (answer := probe.answer()).get("reason") != MALFORMED:
            return in_short(answer)
        return "" if probe.ended() else "the connection stayed open, and nobody knows where the next line begins"


def _foreign_service(bench: Bench) -> str:
    with bench.probe() as probe:
        for action in ("read", "write", "delete"):
            more = {"values": ["1"]} if action == "write" else {}
            answer = probe.ask(request(action, "a", service="conformance-not-granted", **more))
            if (answer.get("status"), answer.get("reason")) != ("denied", "service_not_allowed"):
                return f"{action}: {in_short(answer)}"
        return ""


def _all_or_nothing(bench: Bench) -> str:
    with bench.probe() as probe:
        probe.ask(request("delete", "half"))
        probe.ask(request("write", "half", "", values=["1", "2"]))
        return _expect(probe.ask(request("read", "half")))


BEHAVIOUR = tuple(
    Case("behaviour", name, run)
    for name, run in (
        ("an exact read keeps the order, and leaves out what is not there", _exact_read),
        ("any text is a value, the empty one too", _values),
        ("a prefix read is sorted, each target once", _prefix_read),
        ("a search shows no value", _search),
        ("attributes are stored, and filter", _attributes),
        ("to delete what is not there succeeds", _delete),
        ("answers come in the order of the requests", _pipelining),
        ("a malformed request leaves the connection open", _stays_open),
        ("a line may come in pieces", _pieces),
        ("a line without its end is no request", _no_newline),
        ("a line beyond the limit ends the connection", _long_line),
        ("a service that was not granted is refused", _foreign_service),
        ("a request with one wrong target changes nothing", _all_or_nothing),
    )
)


# --- identity -------------------------------------------------------------------------------------

_ASK = request("read", "kept")
_LINE = json.dumps(_ASK)


def _refused(ask: Callable[[Bench], dict[str, Any] | None]) -> Callable[[Bench], str]:
    """The attack ``ask`` wins if its answer is a success. No answer at all is a refusal."""

    def run(bench: Bench) -> str:
        with bench.probe() as probe:
            _store(probe, kept="1")
        try:
            answer = ask(bench)
        except Silence:
            return ""
        return "it was served" if answer is not None and answer.get("status") == "success" else ""

    return run


def _by(program: Callable[[Programs], str]) -> Callable[[Bench], dict[str, Any]]:
    def ask(bench: Bench) -> dict[str, Any]:
        with bench.probe(program=program(bench.programs)) as probe:
            return probe.ask(_ASK)

    return ask


def _stranger_is_told(bench: Bench) -> str:
    with bench.probe(program=bench.programs.stranger) as probe:
        answer = probe.ask(_ASK)
        if answer.get("reason") != "unregistered_binary_pending_approval":
            return in_short(answer)
        return "" if probe.ended() else "the connection stayed open"


def _inheritable(bench: Bench) -> dict[str, Any]:
    with bench.probe("--inheritable") as probe:
        return probe.ask(_ASK)


def _child(bench: Bench) -> dict[str, Any]:
    with bench.probe() as probe:
        probe.order(f"fork {_LINE}")
        return probe.answer()


def _passed(bench: Bench) -> dict[str, Any]:
    with bench.probe() as probe:
        probe.tell(f"pass {_LINE}")
        return probe.answer()


def _connect_then_exec(bench: Bench) -> dict[str, Any]:
    """The stranger connects and becomes the registered program, which takes the connection over and asks."""
    with bench.probe("--inheritable", program=bench.programs.stranger) as probe:
        probe.become(bench.programs.probe)
        return probe.ask(_ASK)


def _exec_away(bench: Bench) -> dict[str, Any]:
    """The registered program asks once, and then becomes another one, which goes on asking."""
    with bench.probe() as probe:
        probe.ask(_ASK)
        probe.order("inheritable")
        probe.become(bench.programs.stranger)
        return probe.ask(_ASK)


def _http(bench: Bench) -> str:
    with bench.probe() as probe:
        probe.ask(request("delete", "smuggled"))
    smuggled = json.dumps(request("write", "smuggled", values=["1"]))
    with bench.probe() as probe:
        probe.send(f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {len(smuggled) + 1}\r\n\r\n{smuggled}\n".encode())
        probe.ended()
    with bench.probe() as probe:
        return "a request in the body of HTTP was carried out" if _items(probe.ask(request("read", "smuggled"))) else ""


IDENTITY = (
    Case("identity", "a stranger is told so, once, and let go", _stranger_is_told),
    Case("identity", "other bytes are another program", _refused(_by(lambda programs: programs.stranger))),
    Case("identity", "an equal copy elsewhere is not the program", _refused(_by(lambda programs: programs.copy))),
    Case("identity", "a connection that others could inherit is not served", _refused(_inheritable)),
    Case("identity", "a stranger that connects and becomes the program is not served", _refused(_connect_then_exec)),
    Case("identity", "a program that becomes another one is no longer served", _refused(_exec_away)),
    Case("identity", "a child that uses the program's connection is not served", _refused(_child)),
    Case("identity", "a message with a descriptor attached is not served", _refused(_passed)),
    Case("identity", "requests in the body of another protocol are not carried out", _http),
)
