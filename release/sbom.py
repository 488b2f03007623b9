"""The bill of materials: what an installation of keychain-auth consists of, as CycloneDX 1.5 in JSON.

    python release/sbom.py VERSION [OUT]

Contract: made from ``requirements/run.txt`` alone, which pins every package with the hashes of its files. The same file
gives the same bytes: no time, and a serial number that is a hash of the content. Packages are named by purl, which says
which package it is, not from where somebody got it.

What it does not say: Python itself, OpenSSL within `cryptography`, and the C library.
"""

from __future__ import annotations

import json
import os
import re
import sys
import uuid
from typing import Any, NamedTuple

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LOCK = os.path.join(ROOT, "requirements", "run.txt")
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9.!+]+)(?:\s*;\s*([^\\]+?))?\s*\\?$")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_NAMESPACE = uuid.UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")  # of URLs (RFC 9562, section 6.6)


class Package(NamedTuple):
    """A pinned package: its name in its canonical form, its version, and the SHA-256 of each of its files."""

    name: str
    version: str
    hashes: tuple[str, ...]


def packages(lock: str) -> list[Package]:
    """The packages that the text of a lock file pins. Raises ValueError about a line that it does not understand."""
    found: list[Package] = []
    for line in lock.splitlines():
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if pin := _PIN.match(text):
            found.append(Package(re.sub(r"[-_.]+", "-", pin[1]).lower(), pin[2], ()))
        elif (hashed := _HASH.search(text)) and found:
            found[-1] = found[-1]._replace(hashes=(*found[-1].hashes, hashed[1]))
        else:
            raise ValueError(f"a line of the lock file that is neither a pin nor a hash: {text}")
    for package in found:
        if not package.hashes:
            raise ValueError(f"{package.name} has no hash")
    return sorted(found)


def document(version: str, lock: str) -> dict[str, Any]:
    """The whole document, for the release ``version``."""
    pinned = packages(lock)
    components = [component(package) for package in pinned]
    own = f"pkg:pypi/keychain-auth@{version}"
    body = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application", "bom-ref": own, "name": "keychain-auth", "version": version, "purl": own,
                "licenses": [{"license": {"id": "MIT"}}],
            },
        },
        "components": components,
        "dependencies": [{"ref": own, "dependsOn": [each["bom-ref"] for each in components]}],
    }  # fmt: skip
    serial = uuid.uuid5(_NAMESPACE, json.dumps(body, sort_keys=True))
    return {"$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json", **body, "serialNumber": f"urn:uuid:{serial}"}


def component(package: Package) -> dict[str, Any]:
    """One package. A package has many files, and an installation one of them: each is an external reference."""
    purl = f"pkg:pypi/{package.name}@{package.version}"
    references = [
        {"type": "distribution", "url": purl, "hashes": [{"alg": "SHA-256", "content": digest}]}
        for digest in sorted(package.hashes)
    ]
    return {
        "type": "library", "bom-ref": purl, "name": package.name, "version": package.version, "purl": purl,
        "externalReferences": references,
    }  # fmt: skip


def main(words: list[str]) -> int:
    """See above."""
    if not 1 <= len(words) <= 2:
        print(__doc__, file=sys.stderr)
        return 2
    with open(LOCK, encoding="utf-8") as file:
        text = json.dumps(document(words[0], file.read()), indent=1, sort_keys=True) + "\n"
    if len(words) == 2:
        with open(words[1], "w", encoding="utf-8") as out:
            out.write(text)
    else:
        sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
