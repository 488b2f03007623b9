"""config.json: what is accepted, and that every refusal names line and field."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keychain_auth.crypto.ed25519 import SigningKey
from keychain_auth.errors import PolicyFormatError
from keychain_auth.identity.signature import key_text
from keychain_auth.model import Grade
from keychain_auth.policy.parse import MOST_SIGNERS, parse_policy

HASH = "0123456789abcdef" * 4
KEY = "1XqYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
DER = "MCowBQYDK2VwAyEA" + KEY
GOOD = """{
  "protocol_version": "1",
  "registered_binaries": [
    {
      "path": "/usr/local/bin/mytool",
      "hash": "sha256:HASH",
      "registered_at": "2026-05-21T12:00:00Z",
      "allowed_read_services": ["aws", "openai"],
      "allowed_write_services": ["openai"],
      "can_search": false
    },
    {
      "path": "/opt/other",
      "hash": "HASH"
    }
  ],
  "trusted_signers": [{"service": "AgentSecrets", "public_key": "KEY"}]
}
""".replace("HASH", HASH).replace("KEY", KEY)


def test_the_published_example() -> None:
    policy = parse_policy(GOOD.encode())
    entry = policy.by_program["/usr/local/bin/mytool", HASH]
    assert entry.read_services == {"aws", "openai"}
    assert entry.write_services == {"openai"}
    assert not entry.can_search
    assert entry.allowed_targets is None
    assert entry.minimum_grade is Grade.USER
    assert policy.by_program["/opt/other", HASH].read_services == frozenset()
    assert policy.signers == {base64.b64decode(KEY): {"AgentSecrets"}}


def test_a_byte_order_mark_is_called_what_it_is() -> None:
    with pytest.raises(PolicyFormatError, match="a byte order mark: save it as UTF-8 without one"):
        parse_policy(b"\xef\xbb\xbf" + GOOD.encode())


@pytest.mark.parametrize(
    ("launch", "field"),
    [
        ({"prefix": "venv"}, "prefix"),
        ({"prefix": "/venv\0"}, "prefix"),
        ({"imports": ["/lib", "lib"]}, "imports"),
        ({"imports": ["/lib\0"]}, "imports"),
        ({"trees": [{"path": "lib", "hash": HASH}]}, "trees[0].path"),
    ],
)
def test_what_a_script_imports_lies_at_absolute_paths(launch: dict[str, Any], field: str) -> None:
    with pytest.raises(PolicyFormatError) as caught:
        parse_policy(json.dumps({"registered_binaries": [{"path": "/x", "hash": HASH, "launch": launch}]}).encode())
    assert caught.value.field == f"$.registered_binaries[0].launch.{field}"
    good = {"prefix": "/venv", "imports": ["/lib"], "trees": [{"path": "/lib", "hash": HASH}]}
    text = json.dumps({"registered_binaries": [{"path": "/x", "hash": HASH, "launch": good}]})
    assert parse_policy(text.encode()).by_program["/x", HASH].launch.imports == ("/lib",)


@pytest.mark.parametrize(
    ("behind", "asks"), [({}, False), ({"on_behalf_of": []}, True), ({"on_behalf_of": ["/a"]}, True)]
)
def test_nobody_looks_behind_a_helper_unless_an_entry_wants_to_know(behind: dict[str, Any], asks: bool) -> None:
    text = json.dumps({"registered_binaries": [{"path": "/y", "hash": HASH}, {"path": "/x", "hash": HASH, **behind}]})
    assert parse_policy(text.encode()).asks_on_behalf is asks


def test_a_hash_may_be_bare_or_in_capitals() -> None:
    text = json.dumps({"registered_binaries": [{"path": "/x", "hash": HASH.upper()}]})
    assert ("/x", HASH) in parse_policy(text.encode()).by_program


@pytest.mark.parametrize(
    ("old", "new", "line", "field"),
    [
        ('"1"', '"2"', 2, "$.protocol_version"),
        ('"can_search": false', '"can_search": "no"', 10, "$.registered_binaries[0].can_search"),
        ('["aws", "openai"]', '"aws"', 8, "$.registered_binaries[0].allowed_read_services"),
        ('["aws", "openai"]', '["aws", 7]', 8, "$.registered_binaries[0].allowed_read_services[1]"),
        ('["aws", "openai"]', '["aws", ""]', 8, "$.registered_binaries[0].allowed_read_services[1]"),
        (f'"hash": "{HASH}"', '"hash": "sha256:zz"', 14, "$.registered_binaries[1].hash"),
        (f'"hash": "{HASH}"', '"hash": null', 14, "$.registered_binaries[1].hash"),
        ('"/opt/other"', '"relative/tool"', 13, "$.registered_binaries[1].path"),
        ('"can_search": false', '"can_serach": false', 10, "$.registered_binaries[0].can_serach"),
        ('"can_search": false', '"minimum_grade": "always"', 10, "$.registered_binaries[0].minimum_grade"),
        ('"can_search": false', '"allowed_targets": [3]', 10, "$.registered_binaries[0].allowed_targets[0]"),
        ('"can_search": false', '"path": "/evil"', 10, "$.registered_binaries[0].path"),
        ('"/opt/other"', '"/usr/local/bin/mytool"', 12, "$.registered_binaries[1]"),
        ('"service": "AgentSecrets"', '"service": 1', 17, "$.trusted_signers[0].service"),
        ('"service": "AgentSecrets"', '"service": ""', 17, "$.trusted_signers[0].service"),
        ('"service": "AgentSecrets"', '"service": "a\\n"', 17, "$.trusted_signers[0].service"),
        (f'"{KEY}"', '"AAAA"', 17, "$.trusted_signers[0].public_key"),
        (f'"{KEY}"', '"?"', 17, "$.trusted_signers[0].public_key"),
        (f'"{KEY}"', f'"{"A" * 43}="', 17, "$.trusted_signers[0].public_key"),
        (f'"{KEY}"}}', f'"{KEY}"}},\n{{"service": "AgentSecrets", "public_key": "{DER}"}}', 18, "$.trusted_signers[1]"),
        ("false\n    },", "false\n    }", 12, "$"),
    ],
)
def test_a_refusal_names_line_and_field(old: str, new: str, line: int, field: str) -> None:
    assert GOOD.count(old) == 1
    with pytest.raises(PolicyFormatError) as caught:
        parse_policy(GOOD.replace(old, new).encode())
    assert (caught.value.line, caught.value.field) == (line, field)


def test_a_key_may_stand_for_several_services_and_a_service_have_several_keys() -> None:
    other = base64.b64encode(bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")).decode()
    signers = [("a", KEY), ("b", DER), ("b", other)]
    text = json.dumps({"trusted_signers": [{"service": service, "public_key": key} for service, key in signers]})
    policy = parse_policy(text.encode())
    assert policy.signers == {base64.b64decode(KEY): {"a", "b"}, base64.b64decode(other): {"b"}}


def test_there_are_only_so_many_signers() -> None:
    keys = [SigningKey.generate().public for _ in range(MOST_SIGNERS + 1)]
    signers = [{"service": "s", "public_key": key_text(key)} for key in keys]
    parse_policy(json.dumps({"trusted_signers": signers[1:]}).encode())
    with pytest.raises(PolicyFormatError) as caught:
        parse_policy(json.dumps({"trusted_signers": signers}).encode())
    assert caught.value.field == f"$.trusted_signers[{MOST_SIGNERS}]"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b" \n",
        b"[]",
        b"null",
        b"{",
        b"\xff",
        b"\xef\xbb\xbf{}",
        b"[" * 10**6,
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"registered_binaries": [], "\\ud800": 1}',
    ],
)
def test_what_is_no_policy_is_refused(content: bytes) -> None:
    with pytest.raises(PolicyFormatError):
        parse_policy(content)


mutations = st.tuples(st.integers(0, len(GOOD)), st.integers(0, 40), st.text(max_size=10))


@given(st.binary(max_size=60) | mutations.map(lambda m: (GOOD[: m[0]] + m[2] + GOOD[m[0] + m[1] :]).encode()))
def test_any_bytes_are_a_policy_or_a_refusal_with_a_line(content: bytes) -> None:
    try:
        parse_policy(content)
    except PolicyFormatError as error:
        assert 1 <= error.line <= content.count(b"\n") + 1
        assert error.field


documents: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["registered_binaries", "path", "hash", "minimum_grade", "interpreter", "trusted_signers"]),
            inner,
        )
    ),
)


@given(documents)
def test_any_json_is_a_policy_or_a_refusal(document: Any) -> None:
    with contextlib.suppress(PolicyFormatError):
        parse_policy(json.dumps(document, indent=1).encode())
