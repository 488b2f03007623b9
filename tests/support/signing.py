"""Signed programs for the tests, made by `cryptography` alone: the trailer is put together here, byte by byte."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from support import programs
from support.world import World


class Publisher:
    """Somebody with a key."""

    def __init__(self) -> None:
        self.key = Ed25519PrivateKey.generate()
        self.public = self.key.public_key().public_bytes_raw()
        self.text = base64.b64encode(self.public).decode()

    def signer(self, service: str) -> dict[str, str]:
        """An element of trusted_signers."""
        return {"service": service, "public_key": self.text}

    def sign(self, content: bytes, build: int | None = None, *, digest: bool = False) -> bytes:
        """``content`` with a signature at its end, and a build number in front of that if there is one."""
        if build is not None:
            content += b"\x01" + build.to_bytes(8, "big") + self.public + (41).to_bytes(4, "big") + b"KCA-META"
        message = hashlib.sha256(content).digest() if digest else content
        return content + self.key.sign(message) + b"KCAS"

    def build(
        self,
        world: World,
        name: str = "signed",
        variant: str = "plain",
        build: int | None = None,
        *,
        digest: bool = False,
        change: Callable[[bytes], bytes] = bytes,
        source: str = programs.TALKER,
    ) -> str:
        """A signed talker in the world's bin folder; ``change`` is what somebody does to the file afterwards."""
        with open(programs.compiled(source, variant), "rb") as file:
            content = change(self.sign(file.read(), build, digest=digest))
        return programs.install(world.write(f"tmp/{name}", content), world.path("bin", name), world.user)


def trust(world: World, *signers: dict[str, str]) -> None:
    """Put ``signers`` into the policy, in place of those it had."""
    world.write_policy({**world.read_policy(), "trusted_signers": list(signers)})
