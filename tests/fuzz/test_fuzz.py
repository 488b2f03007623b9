"""Every target for a few seconds, after every input that was once a find. `make fuzz MINUTES=60` goes on for longer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fuzz.engine import Find, Fuzzer, Target
from fuzz.file_targets import FILE_TARGETS
from fuzz.helper_targets import HELPER_TARGETS
from fuzz.text_targets import TEXT_TARGETS

TARGETS = {target.name: target for target in (*TEXT_TARGETS, *FILE_TARGETS, *HELPER_TARGETS)}
FINDS = Path(__file__).parent / "finds"
SECONDS = float(os.environ.get("FUZZ_SECONDS", "0.5"))
KNOWN = sorted(path.relative_to(FINDS).as_posix() for path in FINDS.glob("*/*"))


@pytest.mark.parametrize("find", KNOWN)
def test_what_was_once_found_stays_mended(find: str) -> None:
    TARGETS[find.partition("/")[0]].check((FINDS / find).read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_a_few_seconds_of_each(name: str) -> None:
    fuzzer = Fuzzer(TARGETS[name], seed=1)
    reached = len(fuzzer.lines)
    for _ in range(60):  # a busy machine gives half a second of ten other programs' time
        fuzzer.run(SECONDS)
        if fuzzer.tries > 20:
            break
    assert fuzzer.tries > 20
    assert len(fuzzer.lines) >= reached
    assert reached > 5 or name == "admin"  # it sees the code under test at all; that one is all msgspec's


def test_a_fuzzer_that_can_find() -> None:
    """It reaches what only a chain of lucky mutations reaches, by the lines that it meets on the way."""
    from keychain_auth.wire.codec import Malformed, decode_request
    from keychain_auth.wire.messages import Limits

    def naive(line: bytes) -> None:
        try:
            request = decode_request(line, Limits())
        except Malformed:
            return
        assert request.action != "delete" or request.match != "prefix", "found"

    seed = b'{"type":"REQUEST","action":"read","service":"s","match":"exact","targets":["a"]}'
    fuzzer = Fuzzer(Target("naive", naive, [seed], [b"delete", b"prefix", b"read", b"exact"]), seed=1)
    with pytest.raises(Find, match="found") as caught:
        fuzzer.run(30)
    assert b"delete" in caught.value.data
