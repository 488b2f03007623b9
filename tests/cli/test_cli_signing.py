"""keygen, sign, verify: together with the real openssl, in both directions."""

from __future__ import annotations

import base64
import mmap
import os
import shutil
import subprocess
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from cli.lab import Terminal, run_code, script
from daemon.requests import PENDING, denied, read, results
from support.world import World, sha256_of

KEY = "signing-key.pem"


@pytest.fixture
def openssl() -> Callable[..., bytes]:
    """Runs the real openssl; its stdout."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("no openssl here")

    def run(*words: str) -> bytes:
        return subprocess.run([program, *words], stdin=subprocess.DEVNULL, capture_output=True, check=True).stdout

    return run


@pytest.fixture
def key(world: World) -> str:
    """A key made by keygen; the path of its file."""
    path = world.path(KEY)
    world.cli_json("keygen", "--out", path)
    return path


def public(world: World, path: str) -> str:
    """The public key of a signing key, in base64, without any code of ours."""
    return base64.b64encode(private(path).public_key().public_bytes_raw()).decode()


def private(path: str) -> Ed25519PrivateKey:
    key = load_pem_private_key(content_of(path), None)
    assert isinstance(key, Ed25519PrivateKey)
    return key


def content_of(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


# --- keygen -----------------------------------------------------------------------------------


def test_keygen_makes_a_key_that_openssl_reads(world: World, openssl: Callable[..., bytes]) -> None:
    path = world.path(KEY)
    answer = world.cli_json("keygen", "--out", path)
    assert answer == {"outcome": "created", "path": path, "public_key": public(world, path)}
    assert os.stat(path).st_mode & 0o777 == 0o600
    der = openssl("pkey", "-in", path, "-pubout", "-outform", "DER")
    assert base64.b64encode(der[-32:]).decode() == answer["public_key"]
    assert b"ED25519 Private-Key" in openssl("pkey", "-in", path, "-text", "-noout")


def test_keygen_never_overwrites(world: World, key: str) -> None:
    before = content_of(key)
    done = world.cli("keygen", "--out", key)
    assert (done.returncode, content_of(key)) == (2, before)
    assert "only copy" in done.stderr


def test_keygen_shows_no_private_key(world: World) -> None:
    done = world.cli("keygen", "--out", world.path(KEY))
    secret = content_of(world.path(KEY)).split(b"\n")[1].decode()
    assert secret not in done.stdout + done.stderr
    assert f"keychain-auth trust SERVICE {public(world, world.path(KEY))}" in done.stdout


# --- sign and verify ----------------------------------------------------------------------------


@pytest.mark.parametrize("options", [(), ("--pure",), ("--build", "7"), ("--build", "7", "--pure")])
def test_a_signed_program_verifies_and_runs(world: World, key: str, options: tuple[str, ...]) -> None:
    program = world.build_client()
    os.chmod(program, 0o711)
    before = content_of(program)
    answer = world.cli_json("sign", program, "--key", key, *options)
    assert answer == {
        "outcome": "signed", "path": program, "hash": sha256_of(program), "public_key": public(world, key),
        "build": 7 if "--build" in options else None, "over": "bytes" if "--pure" in options else "digest",
        "warnings": [],
    }  # fmt: skip
    assert content_of(program).startswith(before)
    about = os.stat(program)
    assert (about.st_mode & 0o777, about.st_uid) == (0o711, world.user.uid)
    found = world.cli_json("verify", program, "--public-key", public(world, key))
    assert {name: found[name] for name in answer if name != "outcome"} == {
        name: answer[name] for name in answer if name != "outcome"
    }
    assert found["valid"] is True
    assert world.spawn([program, "--late"]).pid  # the kernel still runs it
    assert [name for name in os.listdir(world.path("bin")) if name.startswith(".")] == []


def test_openssl_verifies_what_we_sign(world: World, key: str, openssl: Callable[..., bytes]) -> None:
    public_pem, signature, message = world.path("pub.pem"), world.path("sig"), world.path("message")
    openssl("pkey", "-in", key, "-pubout", "-out", public_pem)
    for options in (("--pure",), (), ("--pure", "--build", "3"), ("--build", "3")):
        program = world.build_client()
        world.cli_json("sign", program, "--key", key, *options)
        content = content_of(program)
        assert content.endswith(b"KCAS")
        world.write("sig", content[-68:-4])
        world.write("message", content[:-68])
        if "--pure" not in options:
            world.write("message", openssl("dgst", "-sha256", "-binary", message))
        said = openssl("pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", public_pem, "-sigfile", signature,
                       "-in", message)  # fmt: skip
        assert b"Signature Verified Successfully" in said


def test_we_verify_what_openssl_signs(world: World, openssl: Callable[..., bytes]) -> None:
    key, public_pem = world.path("openssl.pem"), world.path("pub.pem")
    openssl("genpkey", "-algorithm", "ed25519", "-out", key)
    openssl("pkey", "-in", key, "-pubout", "-out", public_pem)
    der = openssl("pkey", "-in", key, "-pubout", "-outform", "DER")
    world.write("pub.der", der)
    for path in (key, public_pem):
        world.user.own(path)
    program = world.build_client()
    content = content_of(program)
    digest = openssl("dgst", "-sha256", "-binary", program)
    for message, over in ((content, "bytes"), (digest, "digest")):
        message_path = world.write("message", message)
        signature = openssl("pkeyutl", "-sign", "-rawin", "-inkey", key, "-in", message_path)
        signed = world.write("bin/signed", content + signature + b"KCAS", 0o755)
        for given in (public_pem, world.path("pub.der"), base64.b64encode(der).decode(), public(world, key)):
            answer = world.cli_json("verify", signed, "--public-key", given)
            assert (answer["valid"], answer["over"], answer["build"]) == (True, over, None)
    assert world.cli_json("sign", program, "--key", key)["public_key"] == public(world, key)


def test_an_encrypted_key_asks_for_its_passphrase(
    world: World, openssl: Callable[..., bytes], terminal: Callable[..., Terminal]
) -> None:
    key, program = world.path("openssl.pem"), world.build_client()
    openssl("genpkey", "-algorithm", "ed25519", "-aes256", "-pass", "pass:correct horse", "-out", key)
    os.chmod(key, 0o600)
    world.user.own(key)
    done = world.cli("sign", program, "--key", key)
    assert done.returncode == 2
    assert "encrypted" in done.stderr
    for typed, code in (("wrong", 1), ("correct horse", 0)):
        session = terminal("sign", program, "--key", key)
        session.expect("Passphrase of")
        session.type(f"{typed}\n")
        assert session.wait() == code, session.screen
        assert typed not in session.screen
    assert content_of(program).endswith(b"KCAS")


def test_what_is_no_signing_key_is_refused(world: World, key: str, openssl: Callable[..., bytes]) -> None:
    program = world.build_client()
    before = content_of(program)
    rsa = world.path("rsa.pem")
    openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", rsa)
    pub = world.write("pub.pem", openssl("pkey", "-in", key, "-pubout"))
    world.user.own(rsa)
    large = world.write("large", b"x" * 70_000)
    for path, why in ((rsa, "not of Ed25519"), (pub, "no private key"), (large, "too large"), (world.home, "regular")):
        done = world.cli("sign", program, "--key", path)
        assert (done.returncode, content_of(program)) == (2, before)
        assert why in done.stderr
    assert world.cli("sign", program, "--key", world.path("missing.pem")).returncode == 6


def test_a_key_that_others_can_read_is_warned_of(world: World, key: str) -> None:
    os.chmod(key, 0o644)
    done = world.cli("sign", world.build_client(), "--key", key)
    assert done.returncode == 0
    assert f"chmod 600 {key}" in done.stderr


def test_signing_again_must_be_said(world: World, key: str) -> None:
    program = world.build_client()
    before = content_of(program)
    world.cli_json("sign", program, "--key", key, "--build", "1")
    done = world.cli("sign", program, "--key", key, "--build", "2")
    assert done.returncode == 2
    assert "--replace" in done.stderr
    assert world.cli_json("sign", program, "--key", key, "--build", "2", "--replace")["build"] == 2
    assert world.cli_json("sign", program, "--key", key, "--replace")["build"] is None
    assert content_of(program)[:-68] == before


@pytest.mark.parametrize("build", ["-1", str(2**63), "x", "1.5"])
def test_a_build_number_is_a_whole_number(world: World, key: str, build: str) -> None:
    assert world.cli("sign", world.build_client(), "--key", key, "--build", build).returncode == 2


def test_a_program_that_runs_can_be_signed(world: World, key: str) -> None:
    program = world.build_client()
    running = world.spawn([program, "--late"])
    assert world.cli("sign", program, "--key", key).returncode == 0
    assert os.readlink(f"/proc/{running.pid}/exe") == f"{program} (deleted)"


def test_verify_says_why_not(world: World, key: str) -> None:
    other = world.path("other.pem")
    world.cli_json("keygen", "--out", other)
    program = world.build_client()
    mine, theirs = public(world, key), public(world, other)

    def why(*words: str) -> str:
        done = world.cli("verify", program, *words)
        assert done.returncode == 1
        return done.stdout

    assert "not signed" in why()
    world.cli_json("sign", program, "--key", key)
    assert "not valid under any key of trusted_signers" in why()
    assert "not valid under the given public key" in why("--public-key", theirs)
    world.cli_json("sign", program, "--key", key, "--build", "4", "--replace")
    assert f"signed by {mine}, which trusted_signers does not have" in why()
    assert f"signed by {mine}, not by the given public key" in why("--public-key", theirs)
    world.write_policy({"trusted_signers": [{"service": "aws", "public_key": mine}]})
    answer = world.cli_json("verify", program)
    assert (answer["valid"], answer["services"], answer["build"]) == (True, ["aws"], 4)
    content = bytearray(content_of(program))
    content[200] ^= 1
    world.write("bin/talker", bytes(content), 0o755)
    assert "not by the key" in why()
    assert "neither a public key" in world.cli("verify", program, "--public-key", "nonsense").stderr
    assert world.cli("verify", world.path("missing")).returncode == 6


def test_trust_and_distrust(world: World, key: str, openssl: Callable[..., bytes]) -> None:
    pem = world.write("pub.pem", openssl("pkey", "-in", key, "-pubout"))
    der = world.write("pub.der", openssl("pkey", "-in", key, "-pubout", "-outform", "DER"))
    program, text = world.build_client(), public(world, key)
    world.cli_json("sign", program, "--key", key)
    for given, outcome in ((pem, "trusted"), (der, "unchanged"), (text, "unchanged")):
        assert world.cli_json("trust", "aws", given) == {"outcome": outcome, "service": "aws", "public_key": text}
    signer = {"service": "aws", "public_key": text}
    assert world.read_policy()["trusted_signers"] == [signer]
    world.start()
    talker = world.talker(program)
    assert talker.ask(read("a")) == results()
    world.cli_json("trust", "other", text)
    assert world.cli_json("distrust", "aws") == {"outcome": "distrusted", "signers": [signer]}
    assert talker.ask(read("a")) == denied("service_not_allowed")
    world.cli_json("trust", "aws", text)
    assert len(world.cli_json("distrust", pem)["signers"]) == 2
    assert talker.ask(read("a")) == denied(PENDING)
    assert world.cli("distrust", text).returncode == 6
    assert world.cli("distrust", "unheard-of").returncode == 2
    assert world.cli("trust", "aws", "AAAA").returncode == 2
    assert world.cli("trust", "a\n", text).returncode == 2
    assert world.read_policy()["trusted_signers"] == []


def test_what_no_daemon_accepts_is_signed_with_a_warning(world: World, key: str) -> None:
    path, interpreter = script(world), world.build_client("bash")
    for file, why in ((path, "its interpreter, which this does not sign"), (interpreter, "runs other programs")):
        done = world.cli("sign", file, "--key", key)
        assert done.returncode == 0
        assert why in done.stderr
        answer = world.cli_json("verify", file, "--public-key", public(world, key))
        assert answer["valid"] is True
        assert why in answer["warnings"][0]
        assert why in world.cli("verify", file, "--public-key", public(world, key)).stderr


def test_a_huge_file_needs_no_memory(world: World, key: str) -> None:
    """128 MiB, mostly holes, signed over its bytes: verified within the memory that a small one takes."""
    program = world.build_client()
    small = _peak(world, "verify", program, "--public-key", public(world, key))
    with open(program, "r+b") as file:
        file.truncate(128 << 20)
    with open(program, "r+b") as file:
        with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as content:
            signature = private(key).sign(content)  # type: ignore[arg-type]
        file.seek(0, os.SEEK_END)
        file.write(signature + b"KCAS")
    huge = _peak(world, "verify", program, "--public-key", public(world, key))
    assert huge - small < 8 << 10  # KiB


def _peak(world: World, *words: str) -> int:
    """The most memory that the command had, in KiB."""
    code = (  # not ru_maxrss: that counts what the parent had mapped when it forked
        "import sys; from keychain_auth.cli.main import main; main(sys.argv[1:]);"
        "print(*(line.split()[1] for line in open('/proc/self/status') if line[:5] == 'VmHWM'), file=sys.stderr)"
    )
    return int(run_code(world, code, *words).stderr.split()[-1])
