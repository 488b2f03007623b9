"""builds.json: numbers only rise, are on disk before they count, and nothing strange is taken for an empty list."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keychain_auth.crypto.ed25519 import SigningKey
from keychain_auth.daemon.state.builds_file import BuildsFile
from keychain_auth.errors import KeychainAuthError
from keychain_auth.identity.signature import LARGEST_BUILD, key_text
from keychain_auth.policy.builds import decode_builds, encode_builds

A, B = (SigningKey.generate().public for _ in range(2))
TOOL = "/usr/bin/tool"


@pytest.fixture
def place(tmp_path: Path) -> str:
    tmp_path.chmod(0o700)
    return str(tmp_path / "builds.json")


def record(builds: BuildsFile, *numbers: tuple[str, bytes, int]) -> None:
    async def all_of_them() -> None:
        await asyncio.gather(*(builds.record(*number) for number in numbers))

    asyncio.run(all_of_them())


def test_numbers_only_rise_and_are_there_after_a_restart(place: str) -> None:
    builds = BuildsFile(place)
    assert not builds.seen
    record(builds, (TOOL, A, 7))
    record(builds, (TOOL, A, 5), (TOOL, B, 1), ("/x", A, 0))
    builds.close()
    again = BuildsFile(place)
    assert again.seen == {(TOOL, A): 7, (TOOL, B): 1, ("/x", A): 0}
    assert os.stat(place).st_mode & 0o777 == 0o600
    again.close()


def test_many_at_once_are_all_written(place: str) -> None:
    builds = BuildsFile(place)
    record(builds, *((f"/bin/{number % 7}", A, number) for number in range(100)))
    builds.close()
    assert decode_builds(Path(place).read_bytes()) == {(f"/bin/{number % 7}", A): number for number in range(93, 100)}


def test_a_number_that_cannot_be_written_is_told_and_tried_again(place: str) -> None:
    builds = BuildsFile(place)
    folder = os.path.dirname(place)
    os.rename(folder, folder + ".away")
    with pytest.raises(OSError, match="No such file"):
        record(builds, (TOOL, A, 7))
    assert builds.seen == {(TOOL, A): 7}  # older ones are refused already
    with pytest.raises(OSError, match="No such file"):
        record(builds, (TOOL, A, 7))
    os.rename(folder + ".away", folder)
    record(builds, (TOOL, A, 7))
    builds.close()
    assert BuildsFile(place).seen == {(TOOL, A): 7}


def test_a_known_number_is_not_written_again(place: str) -> None:
    builds = BuildsFile(place)
    record(builds, (TOOL, A, 7))
    before = os.stat(place).st_ino
    record(builds, (TOOL, A, 7), (TOOL, A, 6))
    assert os.stat(place).st_ino == before
    builds.close()


@pytest.mark.parametrize(
    "content",
    [
        "", "{}", "[1]", "\xff", '[{"path": "/x"}]', '[{"path": "/x", "public_key": "AAAA", "build": 1}]',
        f'[{{"path": "/x", "public_key": "{key_text(A)}", "build": -1}}]',
        f'[{{"path": "/x", "public_key": "{key_text(A)}", "build": {LARGEST_BUILD + 1}}}]',
        f'[{{"path": "/x", "public_key": "{key_text(A)}", "build": 1.5}}]',
        json.dumps([{"path": "/x", "public_key": key_text(A), "build": build} for build in (1, 2)]),
    ],
    ids=[
        "empty", "no list", "no object", "no text", "too little", "no key", "negative", "too large", "no whole number",
        "twice",
    ],
)  # fmt: skip
def test_what_is_no_list_of_builds_stops_the_start(place: str, content: str) -> None:
    Path(place).write_bytes(content.encode("latin-1"))
    with pytest.raises(KeychainAuthError, match="not a list of builds") as caught:
        BuildsFile(place)
    assert caught.value.hint.startswith(f"mv {place} {place}.damaged")
    assert Path(place).read_bytes() == content.encode("latin-1")


@given(st.dictionaries(st.tuples(st.text(max_size=9), st.sampled_from((A, B))), st.integers(0, LARGEST_BUILD)))
def test_what_is_written_is_read(builds: dict[tuple[str, bytes], int]) -> None:
    assert decode_builds(encode_builds(builds)) == builds
