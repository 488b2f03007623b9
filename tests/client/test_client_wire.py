"""The sans-IO half: what is refused before it is sent, and how answers are read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from client_lab import messages
from hypothesis import given, settings
from hypothesis import strategies as st

from keychain_auth import errors
from keychain_auth.reasons import DENIED, FAILED
from keychain_auth.wire import answers
from keychain_auth.wire import client as wire
from keychain_auth.wire.codec import Malformed, decode_request
from keychain_auth.wire.messages import Limits

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=12)  # surrogates and controls included
NO_LIMITS = Limits(line_bytes=2**40, value_bytes=2**40, targets=2**40)


def sent(call: wire.Call) -> dict[str, Any]:
    assert call.line.endswith(b"\n")
    assert call.line.count(b"\n") == 1
    message = json.loads(call.line)
    assert isinstance(message, dict)
    return message


def test_requests_are_written_as_the_protocol_says() -> None:
    assert sent(wire.read("aws", ["a", "b"], False, None)) == {
        "type": "REQUEST", "action": "read", "service": "aws", "targets": ["a", "b"],
    }  # fmt: skip
    assert sent(wire.delete("aws", ["a:"], True, {"env": "dev"})) == {
        "type": "REQUEST", "action": "delete", "service": "aws", "match": "prefix", "targets": ["a:"],
        "attributes": {"env": "dev"},
    }  # fmt: skip
    assert sent(wire.write("aws", {"a": "", "b": "2"}, None)) == {
        "type": "REQUEST", "action": "write", "service": "aws", "targets": ["a", "b"], "values": ["", "2"],
    }  # fmt: skip
    assert sent(wire.search("aws", (), {})) == {"type": "REQUEST", "action": "search", "service": "aws"}
    assert sent(wire.search("aws", ["p"], None))["targets"] == ["p"]
    assert sent(wire.check("aws")) == {"type": "REQUEST", "action": "check", "service": "aws"}


def test_a_lone_string_is_one_target_not_its_letters() -> None:
    assert sent(wire.read("aws", "key", False, None))["targets"] == ["key"]
    assert sent(wire.search("aws", "key", None))["targets"] == ["key"]


@settings(deadline=None)  # the machine may be busy; time is not what is tested
@given(
    service=ANY_TEXT,
    targets=st.lists(ANY_TEXT, max_size=3),
    prefix=st.booleans(),
    attributes=st.none() | st.dictionaries(ANY_TEXT, ANY_TEXT, max_size=2),
)
def test_the_client_refuses_exactly_what_the_daemon_calls_malformed(
    service: str, targets: list[str], prefix: bool, attributes: dict[str, str] | None
) -> None:
    by_hand: dict[str, Any] = {"type": "REQUEST", "action": "read", "service": service, "targets": targets}
    by_hand |= {"match": "prefix"} if prefix else {}
    by_hand |= {"attributes": attributes} if attributes is not None else {}
    line = json.dumps(by_hand).encode()
    try:
        call = wire.read(service, targets, prefix, attributes)
    except errors.InvalidRequest:
        with pytest.raises(Malformed):
            decode_request(line, NO_LIMITS)
        return
    assert decode_request(call.line[:-1], NO_LIMITS) == decode_request(line, NO_LIMITS)


@settings(deadline=None)  # the machine may be busy; time is not what is tested
@given(st.dictionaries(ANY_TEXT, ANY_TEXT, max_size=3))
def test_the_client_refuses_exactly_the_writes_that_the_daemon_does(values: dict[str, str]) -> None:
    line = json.dumps(
        {"type": "REQUEST", "action": "write", "service": "s", "targets": [*values], "values": [*values.values()]}
    ).encode()
    try:
        call = wire.write("s", values, None)
    except errors.InvalidRequest:
        with pytest.raises(Malformed):
            decode_request(line, NO_LIMITS)
        return
    request = decode_request(call.line[:-1], NO_LIMITS)
    assert dict(zip(request.targets, request.values, strict=True)) == values


untyped: Any = wire  # what a program without a type checker can do
WRONG: list[tuple[Any, str]] = [
    (lambda: untyped.read("", ["a"], False, None), "a service has 1 to 256 characters"),
    (lambda: untyped.read("s" * 257, ["a"], False, None), "this one 257"),
    (lambda: untyped.read("s", ["t" * 1025], False, None), "a target has 1 to 1024 characters"),
    (lambda: untyped.read("s", ["a\nb"], False, None), "control characters"),
    (lambda: untyped.read("s", ["a\x85b"], False, None), "control characters"),
    (lambda: untyped.read("s", [], False, None), "at least one target"),
    (lambda: untyped.read("s", [b"a"], False, None), "must be a string, not bytes"),
    (lambda: untyped.read("s", 7, False, None), "a list of strings, not int"),
    (lambda: untyped.read("s", ["a"], False, ["b"]), "attributes are a dict"),
    (lambda: untyped.read("s", ["a"], False, {"b": 1}), "attribute 'b' must be a string"),
    (lambda: untyped.write("s", [("a", "b")], None), "values are a dict"),
    (lambda: untyped.write("s", {"a": b"b"}, None), "the value of 'a' must be a string, not bytes"),
    (lambda: untyped.write("s", {}, None), "at least one target"),
    (lambda: untyped.check(None), "a service must be a string, not NoneType"),
    (lambda: untyped.raw("read"), "a request is a dict, not str"),
    (lambda: untyped.raw({"values": [float("nan")]}), "cannot be written as JSON"),
    (lambda: untyped.raw({"values": [object()]}), "cannot be written as JSON"),
]


@pytest.mark.parametrize(("build", "text"), WRONG, ids=[text for _, text in WRONG])
def test_wrong_arguments_are_refused_in_words(build: Any, text: str) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        build()
    assert text in str(caught.value)
    assert isinstance(caught.value, RuntimeError)


def test_no_error_carries_a_value_not_even_in_its_context() -> None:
    secret = "hunter2"
    answer = f'{{"type":"RESPONSE","status":"success","results":[{{"value":"{secret}'.encode()
    # The attack: a crash reporter that prints the chain of exceptions. A decoder's error holds the whole document.
    with pytest.raises(ValueError) as naive:
        json.loads(answer)
    assert secret in messages(naive.value)

    with pytest.raises(answers.BadAnswer) as parsed:
        answers.parse_response(answer)
    with pytest.raises(errors.InvalidRequest) as written:
        wire.write("s", {"a": secret + "\ud800"}, None)
    assert secret not in messages(parsed.value)
    assert secret not in messages(written.value)


def test_a_secret_does_not_show_its_value() -> None:
    secret = answers.Secret("db", "hunter2", {"env": "dev"})
    assert repr(secret) == "Secret(target='db', attributes={'env': 'dev'})"
    assert secret == answers.Secret("db", "hunter2", {"env": "dev"})
    assert secret != answers.Secret("db", "other", {"env": "dev"})
    assert secret != answers.SecretInfo("db", {"env": "dev"})


@pytest.mark.parametrize(
    "line",
    [
        b"", b"null", b"[]", b"7", b'"RESPONSE"', b"{", b"{}", b'{"type":"REQUEST","status":"success"}',
        b'{"type":"RESPONSE"}', b'{"type":"RESPONSE","status":"maybe"}', b'{"type":"RESPONSE","status":["success"]}',
        b'\xef\xbb\xbf{"type":"RESPONSE","status":"success"}', b"\xff\xfe", b"[" * 100_000,
        '{"type":"RESPONSE","status":"success"}'.encode("utf-16"),
    ],
)  # fmt: skip
def test_a_line_that_is_no_answer_is_a_bad_answer(line: bytes) -> None:
    with pytest.raises(answers.BadAnswer):
        answers.parse_response(line)


@pytest.mark.parametrize(
    "results", [{}, "ab", [1], [{}], [{"target": 1, "value": "v"}], [{"target": "t"}],
                [{"target": "t", "value": 5}], [{"target": "t", "value": "v", "attributes": []}]],
)  # fmt: skip
def test_results_of_another_shape_are_a_bad_answer(results: object) -> None:
    with pytest.raises(answers.BadAnswer):
        answers.secrets({"type": "RESPONSE", "status": "success", "results": results})


def test_absent_results_and_attributes_are_empty() -> None:
    assert answers.secrets({"status": "success"}) == []
    assert answers.infos({"status": "success", "results": [{"target": "t"}]}) == [answers.SecretInfo("t", {})]


@pytest.mark.parametrize("reason", [*sorted(DENIED | FAILED), "of_a_later_version"])
def test_every_reason_becomes_the_published_text(reason: str) -> None:
    status = "error" if reason in FAILED else "denied"
    with pytest.raises(errors.RequestRejected) as caught:
        answers.successful(
            answers.parse_response(json.dumps({"type": "RESPONSE", "status": status, "reason": reason}).encode())
        )
    assert str(caught.value) == f"Daemon rejected request: {reason}"
    assert caught.value.reason == reason
    assert bool(caught.value.hint) == (reason in DENIED | FAILED)  # a traceback shows it, too
    assert getattr(caught.value, "__notes__", []) == ([f"Next: {caught.value.hint}"] if caught.value.hint else [])
    assert isinstance(caught.value, errors.RequestDenied if status == "denied" else errors.RequestFailed)
