"""``keychain-auth-kubectl NAME``: an exec credential plugin for kubectl and what else reads a kubeconfig.

Secrets of the service ``kubernetes``: ``NAME:token``, or ``NAME:client_certificate`` and ``NAME:client_key`` (PEM), or
all three; with ``NAME:expiration`` (RFC 3339) kubectl asks again then.

Contract: answers the version of the API that it is asked in (``KUBERNETES_EXEC_INFO``), v1 or v1beta1, and no other.
"""

from __future__ import annotations

import json
import os

from keychain_auth.errors import EXIT_USAGE
from keychain_auth.integrations.base import Helper, Refusal, write_output

SERVICE = "kubernetes"
_GROUP = "client.authentication.k8s.io"
_VERSIONS = (f"{_GROUP}/v1", f"{_GROUP}/v1beta1")
_FIELDS = {
    "token": "token",
    "client_certificate": "clientCertificateData",
    "client_key": "clientKeyData",
    "expiration": "expirationTimestamp",
}


def main(helper: Helper, arguments: list[str]) -> int:
    """Serve one call."""
    if len(arguments) != 1:
        raise Refusal(
            "a credential for kubectl", f"it was called with {len(arguments)} words", f"{helper.name} NAME", EXIT_USAGE
        )
    name = arguments[0]
    wanted = f"the credential {name} for kubectl"
    version = _version(wanted)
    found = helper.read([f"{name}:{field}" for field in _FIELDS], wanted)
    status = {
        field: secret.value for kind, field in _FIELDS.items() if (secret := found.get(f"{name}:{kind}")) is not None
    }
    certificate, key = "clientCertificateData" in status, "clientKeyData" in status
    if certificate != key:
        raise helper.absent(f"{name}:{'client_key' if certificate else 'client_certificate'}", wanted)
    if not certificate and "token" not in status:
        raise helper.absent(f"{name}:token", wanted)
    write_output(json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": status}) + "\n")
    return 0


def _version(wanted: str) -> str:
    try:
        asked = json.loads(os.environ.get("KUBERNETES_EXEC_INFO", "{}"))
        version = asked.get("apiVersion", _VERSIONS[0])
    except (ValueError, AttributeError, RecursionError):
        version = None
    if version not in _VERSIONS:
        raise Refusal(
            wanted, "kubectl asks in a version of its API that is not known here", f"apiVersion: {_VERSIONS[0]}"
        )
    return str(version)
