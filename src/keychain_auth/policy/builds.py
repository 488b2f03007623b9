"""The highest build number that was seen of each entry that refuses older builds. Pure.

The file is a JSON array of ``{"path", "public_key", "build"}``, one for each path and signer. The daemon only ever
raises a number. A build that is not in the file has no lower limit.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from keychain_auth.identity.signature import LARGEST_BUILD, key_text, parse_public_key

Builds = Mapping[tuple[str, bytes], int]
"""(path of the entry, public key of the signer) to the highest build number that was seen."""
NOTHING_SEEN: Builds = MappingProxyType({})


class _Row(msgspec.Struct, forbid_unknown_fields=True):
    path: str
    public_key: str
    build: int


def decode_builds(content: bytes) -> dict[tuple[str, bytes], int]:
    """What the bytes of builds.json say. Raises ValueError, whose text says what is wrong."""
    try:
        rows = msgspec.json.decode(content, type=list[_Row])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from None
    builds: dict[tuple[str, bytes], int] = {}
    for number, row in enumerate(rows):
        if not 0 <= row.build <= LARGEST_BUILD:
            raise ValueError(f"$[{number}].build: 0 to {LARGEST_BUILD}")
        try:
            key = row.path, parse_public_key(row.public_key)
        except ValueError as problem:
            raise ValueError(f"$[{number}].public_key: {problem}") from None
        if key in builds:
            raise ValueError(f"$[{number}]: the same path and key a second time")
        builds[key] = row.build
    return builds


def encode_builds(builds: Builds) -> bytes:
    """builds.json."""
    rows = [_Row(path, key_text(key), build) for (path, key), build in builds.items()]
    return msgspec.json.format(msgspec.json.encode(rows)) + b"\n"
