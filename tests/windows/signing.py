"""Programs with Authenticode signatures, for the tests that run under Wine: made by osslsigncode, with keys of the day.

``signed`` by a publisher, ``altered`` after that, and ``server``, by a certificate that is not for code. All lead to
one root, ``root.der``, which nobody trusts until a test says so.
"""

from __future__ import annotations

import datetime
import os
import shutil
import subprocess

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

TOOL = "osslsigncode"
_FORM = serialization.Encoding.PEM


def make_signed(folder: str, program: str) -> None:
    """In ``folder``, nothing where the tool is missing (the tests there say so). ``program`` is what is signed."""
    os.mkdir(folder)
    if shutil.which(TOOL) is None:
        return
    root_key, root = _certificate("Test Root", None, None)
    _write(os.path.join(folder, "root.der"), root.public_bytes(serialization.Encoding.DER))
    for name, use in (("signed", ExtendedKeyUsageOID.CODE_SIGNING), ("server", ExtendedKeyUsageOID.SERVER_AUTH)):
        key, certificate = _certificate("Contoso", (root_key, root), use)
        _sign(folder, name, program, key, certificate, root)
        _write(os.path.join(folder, f"{name}.der"), certificate.public_bytes(serialization.Encoding.DER))
    with open(os.path.join(folder, "signed.exe"), "rb") as file:
        content = bytearray(file.read())
    content[content.index(b"This program cannot")] ^= 1  # where nothing that runs is, but what is signed
    _write(os.path.join(folder, "altered.exe"), bytes(content))


def _certificate(
    name: str, issuer: tuple[rsa.RSAPrivateKey, x509.Certificate] | None, use: x509.ObjectIdentifier | None
) -> tuple[rsa.RSAPrivateKey, x509.Certificate]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    subject = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Contoso, Ltd."), x509.NameAttribute(NameOID.COMMON_NAME, name)]
    )
    signing_key, signer = issuer or (key, None)
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer.subject if signer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=use is None, path_length=None), critical=True)
    )
    if use is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([use]), critical=False)
    return key, builder.sign(signing_key, hashes.SHA256())


def _sign(
    folder: str, name: str, program: str, key: rsa.RSAPrivateKey, certificate: x509.Certificate, root: x509.Certificate
) -> None:
    secret = key.private_bytes(_FORM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    paths = {kind: os.path.join(folder, f"{name}.{kind}") for kind in ("pem", "key", "exe")}
    _write(paths["pem"], certificate.public_bytes(_FORM) + root.public_bytes(_FORM))
    _write(paths["key"], secret)
    words = [TOOL, "sign", "-certs", paths["pem"], "-key", paths["key"], "-h", "sha256", "-in", program]
    done = subprocess.run([*words, "-out", paths["exe"]], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{TOOL}: {done.stdout} {done.stderr}")


def _write(path: str, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
