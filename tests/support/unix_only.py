"""Tests that mean something only where there are mode bits, fork(2), signals or Unix sockets, and why.

On Windows they are skipped with that reason (``conftest.py``). A name is the beginning of a test's id, below ``tests``.
"""

from __future__ import annotations

_MODES = "Windows has lists of who may do what (tests/platform_windows/test_security.py) in place of mode bits"
_FORK = "Windows has no fork(2)"
_LIMITS = "Windows has no setrlimit(2) that could make a disk look full"
_MEMORY = "Windows has no memfd_create(2)"
_SOCKETS = "Windows has a pipe in place of a Unix socket (tests/platform_windows)"
_SHELL = "the advice is a command of a POSIX shell"

TESTS = {
    "audit/test_audit_durability.py::test_a_full_disk_refuses": _LIMITS,
    "audit/test_audit_durability.py::test_the_naive_append_leaves_a_half_line": _LIMITS,
    "audit/test_audit_log.py::test_it_is_private": _MODES,
    "audit/test_audit_log.py::test_a_file_of_others_is_refused": _MODES,
    "audit/test_audit_record.py::test_stamps_are_utc": "the C library of Windows knows no time after the year 3000",
    "audit/test_audit_shelf.py::test_backwards_is_forwards": _MEMORY,
    "audit/test_audit_shelf.py::test_a_line_without_end": _MEMORY,
    "identity/test_signature.py::test_a_file_that_is_another_in_the_second_pass": "Windows has no pwrite(2)",
    "vault/test_vault_backup.py::test_a_backup_brings_back_everything_on_another_machine": _MODES,
    "vault/test_vault_backup.py::test_an_existing_file_is_not_overwritten": _MODES,
    "vault/test_vault_crash.py": _FORK,
    "vault/test_vault_keys.py::test_a_key_file_that_cannot_be_written_or_read": _MODES,
    "vault/test_vault_keys.py::test_the_key_file_gives_its_key_back": _MODES,
    "vault/test_vault_opening.py::test_a_folder_or_a_dangling_link": _MODES,
    "vault/test_vault_opening.py::test_a_new_vault_is_private": _MODES,
    "vault/test_vault_opening.py::test_files_that_others_can_write": _MODES,
    "vault/test_vault_opening.py::test_the_way_out_that_the_error_names": _SHELL,
    "vault/test_vault_slots.py::test_a_rekey_that_is_killed": _FORK,
}

FILES = {
    "client/test_client_aio.py": _SOCKETS,
    "client/test_client_endings.py": _SOCKETS,
    "client/test_client_exchange.py": _SOCKETS,
    "client/test_client_guards.py": _SOCKETS,
    "client/test_client_paths.py": _SOCKETS,
    "client/test_client_sync.py": _SOCKETS,
    "client/test_client_wire.py": _SOCKETS,
    "vault/test_vault_changes.py": _LIMITS,
    "vault/test_vault_faults.py": _LIMITS,
}
"""Files that cannot even be loaded on Windows."""
