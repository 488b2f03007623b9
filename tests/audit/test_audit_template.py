"""A template makes the very bytes that encoding the whole record makes."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from keychain_auth.audit.record import AuditRecord, encode
from keychain_auth.audit.template import Template

# "exclude_categories=()": lone surrogates too; the names are a client's and a file system's.
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=20) | st.sampled_from(
    ['"targets":[]', '\\"targets":[]', "\x7f", "é", "\ud800", '","targets":[],"result":"GRANTED']
)


def record(action: str, path: str, service: str, detail: str | None) -> AuditRecord:
    return AuditRecord(
        action=action, pid=1, binary_path=path, binary_hash="sha256:00", service=service, targets=("other",),
        result="GRANTED", reason="", uid=1000, detail=detail,
    )  # fmt: skip


@given(action=ANY_TEXT, path=ANY_TEXT, service=ANY_TEXT, detail=st.none() | ANY_TEXT, targets=st.lists(ANY_TEXT))
def test_the_bytes_are_those_of_the_record(
    action: str, path: str, service: str, detail: str | None, targets: list[str]
) -> None:
    about = record(action, path, service, detail)
    assert b"{%b}" % Template(about).body(targets) == encode(msgspec.structs.replace(about, targets=targets))
