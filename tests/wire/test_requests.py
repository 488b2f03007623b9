"""The wire format of requests: the shared vectors, and any bytes at all."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keychain_auth.model import Item, Request
from keychain_auth.reasons import DENIED, FAILED
from keychain_auth.wire.codec import Malformed, decode_request, encode_reason, encode_results
from keychain_auth.wire.messages import Limits

LIMITS = Limits()
VECTORS = os.path.join(os.path.dirname(__file__), "..", "vectors", "requests.json")

with open(VECTORS) as file:
    CASES: list[dict[str, Any]] = json.load(file)["vectors"]


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_vector(case: dict[str, Any]) -> None:
    line = bytes.fromhex(case["line_hex"]) if "line_hex" in case else case["line"].encode()
    if "reason" in case:
        with pytest.raises(Malformed):
            decode_request(line, LIMITS)
    else:
        wanted = case["request"]
        request = decode_request(line, LIMITS)
        found = {name: getattr(request, name) for name in wanted}
        for name in ("targets", "values"):
            found[name] = list(found[name])
        assert found == wanted


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
almost_requests = st.fixed_dictionaries(
    {"type": st.just("REQUEST"), "action": st.sampled_from(["read", "write", "delete", "search", "check"])},
    optional={
        "service": st.text(max_size=5) | json_values,
        "match": st.sampled_from(["exact", "prefix"]) | json_values,
        "targets": st.lists(st.text(max_size=5), max_size=4) | json_values,
        "values": st.lists(st.text(max_size=5), max_size=4) | json_values,
        "attributes": st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=3) | json_values,
    },
).map(lambda document: json.dumps(document).encode())


@given(st.binary(max_size=200) | almost_requests)
@example(b'{"type":"REQUEST","action":"read","service":"a","targets":["\\ud800"]}')
def test_any_bytes_are_a_request_or_malformed(line: bytes) -> None:
    try:
        request = decode_request(line, LIMITS)
    except Malformed:
        return
    assert isinstance(request, Request)
    document = json.loads(line)  # what we accept, the standard library accepts as well, and reads the same
    assert document["service"] == request.service
    assert tuple(document.get("targets", ())) == request.targets


@given(
    st.dictionaries(st.text(min_size=1, max_size=6), st.text(max_size=6), max_size=4),
    st.sampled_from([True, False]),
    st.data(),
)
def test_a_key_that_stands_twice_is_always_found(
    attributes: dict[str, str], ascii_only: bool, data: st.DataObject
) -> None:
    """A naive parser takes the last of two equal keys, and so may another than the one that decided."""
    members = [(name, value) for name, value in attributes.items() if name.isprintable()]
    fields = [("type", "REQUEST"), ("action", "read"), ("service", "first"), ("targets", ["t"])]
    encoded = [f"{json.dumps(k, ensure_ascii=ascii_only)}:{json.dumps(v, ensure_ascii=ascii_only)}" for k, v in fields]
    inside = [f"{json.dumps(k, ensure_ascii=ascii_only)}:{json.dumps(v, ensure_ascii=ascii_only)}" for k, v in members]
    encoded.append('"attributes":{' + ",".join(inside) + "}")
    good = ("{" + ",".join(encoded) + "}").encode()
    assert decode_request(good, LIMITS).service == "first"
    repeated = data.draw(st.sampled_from(encoded)).replace('"first"', '"second"')
    bad = ("{" + ",".join([*encoded, repeated]) + "}").encode()
    assert isinstance(json.loads(bad), dict)  # the naive parser accepts it
    with pytest.raises(Malformed):
        decode_request(bad, LIMITS)


@given(st.lists(st.text(max_size=6), max_size=3), st.sampled_from([True, False]), st.data())
def test_no_key_of_a_write_stands_twice(values: list[str], ascii_only: bool, data: st.DataObject) -> None:
    """Writes are counted by a rule of their own: so many marks that no field more can be there."""
    targets = [f"t{number}" for number in range(len(values))]
    fields = {"type": "REQUEST", "action": "write", "service": "s", "targets": targets, "values": values}
    members = [json.dumps({name: field}, ensure_ascii=ascii_only)[1:-1] for name, field in fields.items()]
    twice = data.draw(st.sampled_from(list(fields)))
    other = {"targets": data.draw(st.lists(st.sampled_from("tuv"), max_size=3)), "values": ["second"] * len(values)}
    more = json.dumps({twice: other.get(twice, fields[twice])})[1:-1]
    bad = ("{" + ",".join([*members, more]) + "}").encode()
    assert isinstance(json.loads(bad), dict)  # the naive parser accepts it
    with pytest.raises(Malformed):
        decode_request(bad, LIMITS)
    if values:
        good = decode_request(("{" + ",".join(members) + "}").encode(), LIMITS)
        assert (good.targets, good.values, good.attributes) == (tuple(targets), tuple(values), {})


def line_of(**fields: Any) -> bytes:
    return json.dumps({"type": "REQUEST", **fields}).encode()


def test_limits() -> None:
    most = LIMITS.targets
    decode_request(line_of(action="read", service="s", targets=["t"] * most), LIMITS)
    with pytest.raises(Malformed, match="1000 targets"):
        decode_request(line_of(action="read", service="s", targets=["t"] * (most + 1)), LIMITS)
    largest = "ä" * (LIMITS.value_bytes // 2)
    decode_request(line_of(action="write", service="s", targets=["t"], values=[largest]), LIMITS)
    with pytest.raises(Malformed, match="longer than 262144 bytes"):
        decode_request(line_of(action="write", service="s", targets=["t"], values=[largest + "a"]), LIMITS)


def test_attributes_count_once_for_each_target() -> None:
    """They are stored with each: a line of half a megabyte would become half a gigabyte."""
    limits = Limits(attribute_bytes=1000)
    attributes = {"a" * 50: "ä" * 25}  # 100 bytes
    names = [str(number) for number in range(11)]
    ten = names[:10]
    decode_request(line_of(action="write", service="s", targets=ten, values=ten, attributes=attributes), limits)
    with pytest.raises(Malformed, match="longer than 1000 bytes"):
        decode_request(line_of(action="write", service="s", targets=names, values=names, attributes=attributes), limits)
    decode_request(line_of(action="read", service="s", targets=names, attributes=attributes), limits)  # only compared


def test_a_malformed_request_is_described_without_its_values() -> None:
    line = line_of(action="write", service="s", targets=["t", "t"], values=["hunter2", "hunter2"])
    with pytest.raises(Malformed) as caught:
        decode_request(line, LIMITS)
    assert "hunter2" not in str(caught.value)


def test_answers_byte_for_byte() -> None:
    assert encode_results([]) == b'{"type":"RESPONSE","status":"success","results":[]}\n'
    items = [Item("a", "", {"k": "v"}), Item("b"), Item("c", "x")]
    assert encode_results(items) == (
        b'{"type":"RESPONSE","status":"success","results":'
        b'[{"target":"a","value":"","attributes":{"k":"v"}},{"target":"b"},{"target":"c","value":"x"}]}\n'
    )
    assert encode_reason("service_not_allowed") == (
        b'{"type":"RESPONSE","status":"denied","reason":"service_not_allowed"}\n'
    )
    for reason in DENIED:
        assert json.loads(encode_reason(reason)) == {"type": "RESPONSE", "status": "denied", "reason": reason}
    for reason in FAILED:
        assert json.loads(encode_reason(reason)) == {"type": "RESPONSE", "status": "error", "reason": reason}


@given(st.text())
def test_an_answer_is_one_line_whatever_it_holds(text: str) -> None:
    line = encode_results([Item(text, text, {text: text})])
    assert line.count(b"\n") == 1
    assert json.loads(line)["results"][0] == {"target": text, "value": text, "attributes": {text: text}}
