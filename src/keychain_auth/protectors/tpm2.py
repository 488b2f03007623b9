"""The TPM 2.0: a key that only this machine's chip can open again, by the programs of ``tpm2-tools``.

What it stops: whoever has the files, or the disk, without the machine. What it does *not* stop: a program that may use
the TPM here, which is every one of this user if this user may (group ``tss``). Nor somebody who listens on the wires
between processor and chip.

The key is sealed under the primary key of the owner hierarchy, which the chip makes anew from its own seed each time,
so nothing has to stay in the chip. What it gave (two blobs) is stored in the slot; other chips cannot open them.

No PCR binding unless it is asked for (``pcrs``): PCRs change with every update of firmware or boot loader, and then
only another slot opens the vault, until ``protect reseal``.

The tools are looked for in the system's folders only: a ``tpm2`` in the user's own would see the key.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import secrets
import subprocess

from keychain_auth.crypto.aead import KEY_BYTES
from keychain_auth.crypto.envelope import Key, Params
from keychain_auth.errors import UsageError, VaultKeyMissing

KIND = "tpm2"
DEVICE = "/dev/tpmrm0"  # through the kernel's resource manager (Linux 4.12): many programs share one chip
_TOOL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SECONDS = 60  # a slow chip takes a few for one command
_PCRS = re.compile(r"(?:sha1|sha256|sha384|sha512):(?:[0-9]|1[0-9]|2[0-3])(?:,(?:[0-9]|1[0-9]|2[0-3]))*")
# TPM 2.0 part 2, TPMA_OBJECT: never leaves this chip, no password, no lock-out. With PCRs only the policy opens it.
_ATTRIBUTES = "fixedtpm|fixedparent|noda"
_HINT_OTHER_SLOT = "keychain-auth unlock; keychain-auth protect list"


class Tpm2:
    """The protector of kind ``tpm2``. ``pcrs``: what to bind a new key to, as ``sha256:0,7``; empty for nothing.

    ``tcti``: how to reach the chip, as tss2-tcti(7) has it; empty for the usual device.
    """

    kind = KIND
    asked = False

    def __init__(self, tcti: str = "", pcrs: str = "") -> None:
        """Raises UsageError for PCRs that cannot be."""
        if pcrs and not _PCRS.fullmatch(pcrs):
            raise UsageError(f"PCRs are a bank and numbers, as sha256:0,7; not {pcrs!a}")
        self._tcti = tcti
        self._pcrs = pcrs

    def present(self) -> bool:
        """Never: what belongs to a slot lies in the slot."""
        return False

    def create(self) -> tuple[Params, Key]:
        """A new key, sealed by the chip. Takes a second or several. Raises VaultKeyMissing."""
        key = bytearray(secrets.token_bytes(KEY_BYTES))
        with _Session(self._tcti) as tpm:
            tpm.primary()
            attributes, policy = f"{_ATTRIBUTES}|userwithauth", []
            if self._pcrs:
                tpm.run("createpolicy", "-Q", "--policy-pcr", "-l", self._pcrs, "-L", "policy")
                attributes, policy = _ATTRIBUTES, ["-L", "policy"]
            words = ["-Q", "-C", "primary.ctx", "-i", "-", "-u", "public", "-r", "private", "-a", attributes, *policy]
            tpm.run("create", *words, given=bytes(key))
            params = {name: base64.b64encode(tpm.read(name)).decode() for name in ("public", "private")}
        if self._pcrs:
            params["pcrs"] = self._pcrs
        return params, key

    def commit(self) -> None:
        """Nothing to keep: the slot has it."""

    def withdraw(self, params: Params) -> None:
        """Nothing to remove."""

    def unwrap_key(self, params: Params) -> Key:
        """What the chip unseals. Raises VaultKeyMissing: no chip, another one, or other PCRs than it was bound to."""
        pcrs = params.get("pcrs", "")
        if pcrs and not _PCRS.fullmatch(pcrs):
            raise ValueError("PCRs that cannot be")
        with _Session(self._tcti) as tpm:
            for name in ("public", "private"):
                tpm.write(name, _decoded(params, name))
            tpm.primary()
            words = ["-Q", "-C", "primary.ctx", "-u", "public", "-r", "private", "-c", "sealed.ctx"]
            tpm.run("load", *words, failing="another machine's TPM sealed it, or this one was cleared since")
            auth = ["-p", f"pcr:{pcrs}"] if pcrs else []
            failing = f"the PCRs {pcrs} changed: an update of firmware or boot, or another system" if pcrs else ""
            key = bytearray(tpm.run("unseal", "-c", "sealed.ctx", *auth, failing=failing))
        if len(key) != KEY_BYTES:
            raise VaultKeyMissing("what the TPM unsealed is no key", hint=_HINT_OTHER_SLOT)
        return key


class _Session:
    """The tools with a private folder for their files, none of which is secret (what the chip made for itself)."""

    def __init__(self, tcti: str) -> None:
        import shutil  # noqa: PLC0415 - brings three compressors with it, and a daemon without a TPM has no use for them

        tool = shutil.which("tpm2", path=_TOOL_PATH)
        if tool is None:
            raise VaultKeyMissing("the TPM cannot be used: tpm2-tools are not installed", hint="apt install tpm2-tools")
        if not tcti and not os.access(DEVICE, os.R_OK | os.W_OK):
            why = "may not be used by this user" if os.path.exists(DEVICE) else "is not there"
            raise VaultKeyMissing(f"the TPM cannot be used: {DEVICE} {why}", hint=f"ls -l {DEVICE}; id")
        self._tool = tool
        self._env = {"PATH": _TOOL_PATH, "LANG": "C", "TPM2TOOLS_TCTI": tcti or f"device:{DEVICE}"}
        self._folder = ""

    def __enter__(self) -> _Session:
        import tempfile  # noqa: PLC0415 - see above

        self._folder = tempfile.mkdtemp(prefix="keychain-auth-")  # 0700
        return self

    def __exit__(self, *_: object) -> None:
        import shutil  # noqa: PLC0415 - see above

        shutil.rmtree(self._folder, ignore_errors=True)

    def primary(self) -> None:
        """Have the chip make its primary key: the same for the same chip, as long as it is not cleared."""
        self.run("createprimary", "-Q", "-C", "o", "-G", "ecc", "-c", "primary.ctx")

    def run(self, command: str, *words: str, given: bytes = b"", failing: str = "") -> bytes:
        """The output of one tool. ``failing``: what it means if it fails. Raises VaultKeyMissing."""
        try:
            done = subprocess.run(
                [self._tool, command, *words], input=given, capture_output=True, check=False, cwd=self._folder,
                env=self._env, timeout=_SECONDS,
            )  # fmt: skip
            # Without a resource manager every command leaves its objects behind, and there is room for three.
            flush = [self._tool, "flushcontext", "-t"]
            subprocess.run(flush, capture_output=True, check=False, cwd=self._folder, env=self._env, timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            raise VaultKeyMissing(f"the TPM did not answer within {_SECONDS} s", hint=_HINT_OTHER_SLOT) from None
        except OSError as error:
            raise VaultKeyMissing(f"cannot run {self._tool}: {error.strerror}") from None
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines()
            why = failing or next((line for line in said if line.startswith("ERROR")), f"tpm2 {command} failed")
            raise VaultKeyMissing(f"the TPM does not open it: {why}", hint=_HINT_OTHER_SLOT)
        return done.stdout

    def write(self, name: str, content: bytes) -> None:
        """A file for the tools."""
        with open(os.path.join(self._folder, name), "xb") as file:
            file.write(content)

    def read(self, name: str) -> bytes:
        """A file that a tool wrote."""
        with open(os.path.join(self._folder, name), "rb") as file:
            return file.read()


def _decoded(params: Params, name: str) -> bytes:
    try:
        return base64.b64decode(params[name], validate=True)
    except (KeyError, binascii.Error):
        raise ValueError(f"the slot lacks its {name} part") from None
