"""What is read from text that somebody else wrote: requests, answers, policy, queue, settings, admin commands."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
import unicodedata
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from fuzz.engine import Target
from keychain_auth.cli.commands.secrets import interchange
from keychain_auth.daemon.admin.socket import AdminRequest
from keychain_auth.daemon.settings import load_settings
from keychain_auth.errors import KeychainAuthError, PolicyFormatError, UsageError
from keychain_auth.limits import LONGEST_WAIT
from keychain_auth.policy.parse import Policy, parse_policy
from keychain_auth.policy.pending import NotAQueue, decode_queue, encode_queue, find, merge
from keychain_auth.wire import answers
from keychain_auth.wire.codec import Malformed, decode_request
from keychain_auth.wire.framing import LineSplitter, LineTooLong
from keychain_auth.wire.messages import Limits

SCRATCH = Path(tempfile.mkdtemp(prefix="ka-fuzz-"))
atexit.register(shutil.rmtree, SCRATCH, ignore_errors=True)
VECTORS = Path(__file__).parent.parent / "vectors"
SMALL = Limits(line_bytes=4096, value_bytes=64, targets=4, service_chars=16, target_chars=24)
JSON = [b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"null", b"true", b"1e999", b"-0", b"\\u0000", b"\\ud800"]
JSON += [b"\\udc00", b"\\ud83d\\ude00", b"\xef\xbb\xbf", b"\xf0\x9f\x94\x91", b"\xc0\x80", b"\xed\xa0\x80", b"\x7f"]
JSON += [b"\xc2\x85", b"\n", b" ", b"NaN", b"[" * 2000, b'{"":' * 2000, b"9" * 5000, b'""', b"{}", b"[]"]
WIRE = [
    b"REQUEST",
    b"RESPONSE",
    b"type",
    b"action",
    b"service",
    b"match",
    b"targets",
    b"values",
    b"attributes",
    b"wait",
]
WIRE += [b"read", b"write", b"delete", b"search", b"check", b"exact", b"prefix", b"status", b"success", b"denied"]
WIRE += [b"error", b"reason", b"results", b"target", b"value", b'"targets":["a"]', b'"values":["v"]', b'"service":"s"']


# --- a request, judged a second time by plain code that shares nothing with ours --------------------


def plainly(line: bytes) -> dict[str, Any] | None:
    """The request that the protocol's text sees in ``line``; None if it sees none."""
    try:
        text = line.decode()
        if text.startswith("\ufeff"):
            return None
        found = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
        json.dumps(found, ensure_ascii=False).encode()  # no lone surrogate
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and _is_request(found) else None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)


def _no_constant(word: str) -> None:
    raise ValueError(word)


def _is_name(name: object, longest: int) -> bool:
    return (
        isinstance(name, str)
        and 1 <= len(name) <= longest
        and not any(unicodedata.category(char) == "Cc" for char in name)
    )


def _is_request(found: dict[str, Any]) -> bool:
    if set(found) - {"type", "action", "service", "match", "targets", "values", "attributes", "wait"}:
        return False
    wait = found.get("wait", 1)
    if type(wait) is not int or not 1 <= wait <= LONGEST_WAIT:
        return False
    if found.get("type") != "REQUEST" or not _is_name(found.get("service"), SMALL.service_chars):
        return False
    action, match = found.get("action"), found.get("match", "exact")
    if action not in ("read", "write", "delete", "search", "check") or match not in ("exact", "prefix"):
        return False
    targets, attributes = found.get("targets", []), found.get("attributes", {})
    if not isinstance(targets, list) or not all(_is_name(target, SMALL.target_chars) for target in targets):
        return False
    if len(targets) > SMALL.targets or (action in ("read", "write", "delete") and not targets):
        return False
    if not isinstance(attributes, dict) or not all(isinstance(value, str) for value in attributes.values()):
        return False
    if not all(_is_name(name, SMALL.target_chars) for name in attributes):
        return False
    if action == "check" and (match == "prefix" or "attributes" in found):
        return False
    if action != "write":
        return "values" not in found
    values = found.get("values")
    return (
        match == "exact"
        and isinstance(values, list)
        and len(values) == len(targets) == len(set(targets))
        and all(isinstance(value, str) and len(value.encode()) <= SMALL.value_bytes for value in values)
    )


def check_request(line: bytes) -> None:
    """Ours and the plain reading agree, about yes and no and about every field."""
    expected = plainly(line)
    try:
        request = decode_request(line, SMALL)
    except Malformed as problem:
        assert expected is None, f"refused ({problem}), but it is a request"
        return
    assert expected is not None, "accepted, but it is none"
    assert request.action == expected["action"]
    assert request.service == expected["service"]
    assert request.match == expected.get("match", "exact")
    assert list(request.targets) == expected.get("targets", [])
    assert list(request.values) == expected.get("values", [])
    assert request.attributes == expected.get("attributes", {})


def check_framing(data: bytes) -> None:
    """However a stream is cut into pieces, its lines are those between the newlines."""
    limit = 64
    sizes = data[:8]
    stream = data[8:]
    *lines, _ = stream.split(b"\n")
    splitter, found, at = LineSplitter(limit), [], 0
    try:
        turn = 0
        while at < len(stream):
            size = 1 + (sizes[turn % len(sizes)] % 100 if sizes else 0)
            found += splitter.feed(stream[at : at + size])
            at, turn = at + size, turn + 1
    except LineTooLong:
        assert any(len(line) > limit for line in stream.split(b"\n"))
        assert found == lines[: len(found)]
        return
    assert found == lines
    assert splitter.unfinished == bool(stream.split(b"\n")[-1])


def check_answer(line: bytes) -> None:
    """A client that is sent anything at all has an answer, or the one error."""
    try:
        response = answers.parse_response(line)
        answers.closes_connection(response)
        for read in (answers.secrets, answers.infos):
            for item in read(response):
                assert isinstance(item.target, str)
                assert isinstance(item.attributes, dict)
    except answers.BadAnswer:
        return


def check_policy(content: bytes) -> None:
    """A policy, or a line and a field that say where it is wrong."""
    try:
        policy = parse_policy(content)
    except PolicyFormatError as error:
        assert 1 <= error.line <= content.count(b"\n") + 1
        assert error.field.startswith("$")
        return
    assert isinstance(policy, Policy)
    assert parse_policy(content) == policy
    entries = json.loads(content).get("registered_binaries", [])
    assert len(policy.by_program) == len(entries)
    for (path, sha256), entry in policy.by_program.items():
        assert path.startswith("/")
        assert len(sha256) == 64
        assert entry.program.path == path
        named = [each for each in entries if each["path"] == path]
        assert any(entry.read_services == frozenset(each.get("allowed_read_services", ())) for each in named)
        assert any(entry.write_services == frozenset(each.get("allowed_write_services", ())) for each in named)
        assert any(entry.can_search == each.get("can_search", False) for each in named)


def check_pending(content: bytes) -> None:
    """A queue that can be written and read again, or NotAQueue."""
    try:
        queue = decode_queue(content)
    except NotAQueue:
        return
    assert decode_queue(encode_queue(queue)) == queue
    kept = merge(queue, (), datetime(2026, 5, 21, 13, tzinfo=UTC))
    assert decode_queue(encode_queue(kept)) == kept
    for entry in queue:
        assert len(entry.programs()) == 2
        assert all(other in queue for other in find(queue, entry.hash))


def check_settings(content: bytes) -> None:
    """Settings, or an error of the one kind that the start explains."""
    path = SCRATCH / "daemon.toml"
    path.write_bytes(content)
    path.chmod(0o600)
    try:
        load_settings(str(path))
    except KeychainAuthError as error:
        assert error.hint


def check_admin(line: bytes) -> None:
    """A command, or one of the errors that are answered as wrong usage."""
    try:
        request = msgspec.json.decode(line, type=AdminRequest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return
    assert isinstance(request.command, str)


def check_import(content: bytes) -> None:
    """Secrets that can be written as JSON and read again, or an error; the first byte chooses the form."""
    form = interchange.FORMATS[content[0] % len(interchange.FORMATS)] if content else "json"
    try:
        secrets = interchange.parse(form, content[1:].decode())
    except (UnicodeDecodeError, UsageError):
        return
    assert interchange.parse("json", interchange.compose("json", secrets)) == secrets


POLICY = json.dumps(
    {
        "protocol_version": "1",
        "registered_binaries": [
            {
                "path": "/usr/bin/tool",
                "hash": "sha256:" + "ab" * 32,
                "registered_at": "2026-05-21T12:00:00Z",
                "allowed_read_services": ["aws"],
                "allowed_write_services": ["aws", "gcp"],
                "can_search": True,
                "allowed_targets": ["proj:"],
            },
            {
                "path": "/home/u/app.py",
                "hash": "cd" * 32,
                "registered_at": "2026-05-21T12:00:00Z",
                "allowed_read_services": [],
                "allowed_write_services": [],
                "can_search": False,
                "interpreter": {"path": "/usr/bin/python3.11", "hash": "ef" * 32},
                "accepts": ["declared"],
            },
        ],
        "trusted_signers": [{"service": "S", "public_key": "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="}],
    },
    indent=1,
).encode()
PENDING = json.dumps(
    [
        {
            "path": "/usr/bin/tool",
            "hash": "sha256:" + "ab" * 32,
            "command_line": "tool --flag",
            "timestamp": "2026-05-21T12:00:00Z",
            "user": "me",
            "pid": 17,
        }
    ]
).encode()


def _vectors() -> list[bytes]:
    found = []
    for case in _each_text(json.loads((VECTORS / "requests.json").read_text(encoding="utf-8"))):
        found.append(case.encode("utf-8", "surrogatepass"))
    return found


def _each_text(document: Any) -> list[str]:
    if isinstance(document, str):
        return [document] if "REQUEST" in document else []
    if isinstance(document, dict):
        return [text for value in document.values() for text in _each_text(value)]
    if isinstance(document, list):
        return [text for value in document for text in _each_text(value)]
    return []


_READ = b'{"type":"REQUEST","action":"read","service":"s","match":"prefix","targets":["a","b"],"attributes":{"k":"v"}}'
_WRITE = b'{"type":"REQUEST","action":"write","service":"s","targets":["a","\\u00e9"],"values":["","x\\n"]}'
_CHECK = b'{"type":"REQUEST","action":"check","service":"s"}'
_ANSWER = b'{"type":"RESPONSE","status":"success","results":[{"target":"a","value":"v","attributes":{"k":"v"}}]}'
_DENIED = b'{"type":"RESPONSE","status":"denied","reason":"service_not_allowed"}'
_FIELDS = [
    name.encode() for name in ("path", "hash", "registered_at", "allowed_read_services", "can_search", "accepts")
]
_FIELDS += [
    b"interpreter",
    b"trusted_signers",
    b"public_key",
    b"declared",
    b"native",
    b"launched",
    b"sha256:",
    b"services",
]
_FIELDS += [b"minimum_grade", b"allowed_targets", b"signer", b"manifest", b"maps", b"protocol_version", b"/../", b"//"]
_TOML = [
    b"[limits]\n",
    b"[audit]\n",
    b"[history]\n",
    b"=",
    b"values",
    b"keep",
    b"'''",
    b"\n",
    b"inf",
    b"0x",
    b"1979-05-27",
]

_EXPORTS = [
    b'\0[{"service":"s","target":"t","value":"v","attributes":{"k":"v"}},{"target":"u","value":""}]',
    b"\1A=b # c\nexport B=\"x\\ny\"\nC='z'\n",
    (
        b"\2folder,favorite,type,name,notes,fields,reprompt,login_uri,login_username,login_password,login_totp\n"
        b'F,,login,N,"a\nb",,0,u,n,"p""q",t\n'
    ),
    b"\5name,url,username,password,note\nn,u,a,p,\nn,u,b,q,x\n",
]
TEXT_TARGETS = [
    Target("request", check_request, [_READ, _WRITE, _CHECK, *_vectors()], JSON + WIRE),
    Target(
        "framing", check_framing, [b"\x03" * 8 + b"one\ntwo\n\nthree", bytes(8) + b"x" * 70 + b"\n"], [b"\n", b"\n\n"]
    ),
    Target("answer", check_answer, [_ANSWER, _DENIED], JSON + WIRE),
    Target("policy", check_policy, [POLICY, b'{"protocol_version":"1","registered_binaries":[]}'], JSON + _FIELDS),
    Target(
        "pending", check_pending, [PENDING, b"[]"], [*JSON, b"pid", b"user", b"timestamp", b"command_line", b"script"]
    ),
    Target("settings", check_settings, [b"[limits]\nconnections = 5\n[history]\nvalues = 0\n"], _TOML),
    Target("import", check_import, _EXPORTS, [*JSON, b'"', b"'", b",", b"\r\n", b"export ", b"=", b"#", b"\0"]),
    Target("admin", check_admin, [b'{"command":"set","service":"s","target":"t","value":"v"}'], JSON + WIRE),
]
