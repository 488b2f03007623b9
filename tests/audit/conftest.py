"""Fixtures of the audit tests: a path, a way to open the log there, a log with ten lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from audit_lab import KEY, make_record

from keychain_auth.audit.log import AuditLog


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "audit.log"


@pytest.fixture
def open_log(path: Path) -> Iterator[Callable[..., AuditLog]]:
    """Opens the log; whatever a test leaves open is closed at its end."""
    opened: list[AuditLog] = []

    def open_it(**options: object) -> AuditLog:
        log = AuditLog.open(str(path), KEY, **options)  # type: ignore[arg-type]
        opened.append(log)
        return log

    yield open_it
    for log in opened:
        log.close()


@pytest.fixture
def written(path: Path, open_log: Callable[..., AuditLog]) -> Path:
    """A closed log of ten lines: the first is the log's own, then targets t2 to t10."""
    log = open_log()
    for number in range(2, 11):
        log.append([make_record(f"t{number}")], sync=number % 2 == 0)
    log.close()
    return path
