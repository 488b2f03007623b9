"""Requests as the tests of the daemon write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SUCCESS = {"type": "RESPONSE", "status": "success"}
PENDING = "unregistered_binary_pending_approval"


def request(action: str, service: str = "aws", **fields: Any) -> dict[str, Any]:
    """A request of the wire."""
    return {"type": "REQUEST", "action": action, "service": service, **fields}


def read(*targets: str, service: str = "aws", **fields: Any) -> dict[str, Any]:
    """An exact read unless ``match`` says otherwise."""
    return request("read", service, targets=list(targets), **fields)


def write(values: Mapping[str, str], service: str = "aws", **fields: Any) -> dict[str, Any]:
    """A write of each target with its value."""
    return request("write", service, targets=list(values), values=list(values.values()), **fields)


def denied(reason: str) -> dict[str, Any]:
    """The answer of a denied request."""
    return {"type": "RESPONSE", "status": "denied", "reason": reason}


def failed(reason: str) -> dict[str, Any]:
    """The answer of a failed request."""
    return {"type": "RESPONSE", "status": "error", "reason": reason}


def results(*items: Mapping[str, Any]) -> dict[str, Any]:
    """The answer of a successful read or search."""
    return {**SUCCESS, "results": list(items)}
