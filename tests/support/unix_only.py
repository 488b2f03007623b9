"""Tests that mean something only where there are mode bits, fork(2), signals or Unix sockets, and why.

On Windows they are skipped with that reason (``conftest.py``). A name is the beginning of a test's id, below ``tests``.
"""

from __future__ import annotations

_MODES = "Windows has lists of who may do what (tests/platform_windows/test_security.py) in place of mode bits"
_FORK = "Windows has no fork(2)"
_LIMITS = "Windows has no setrlimit(2) that could make a disk look full"
_MEMORY = "Windows has no memfd_create(2)"
_SOCKETS = "Windows has a pipe in place of a Unix socket (tests/platform_windows)"
_RENAME = "rename(2) is made to fail, which Windows does not use"
_REMOVED = "a file that is removed while it is open keeps its name until it is closed (Wine, and Windows before 1809)"
_IMPORTS = "what is counted is what a program on POSIX loads: pywin32 is more"
_SHELL = "the advice is a command of a POSIX shell"

TESTS = {
    "client/test_client_aio.py::test_a_forked_child": _FORK,
    "client/test_client_aio.py::test_a_full_queue": _SOCKETS,
    "client/test_client_aio.py::test_without_a_daemon": _SOCKETS,
    "client/test_client_endings.py::test_a_daemon_that_accepts_nobody": _SOCKETS,
    "client/test_client_import.py::test_the_client_imports_nothing_heavy": _IMPORTS,
    "client/test_client_import.py::test_the_command_get_imports_less": _IMPORTS,
    "client/test_client_sync.py::test_without_a_daemon": _SOCKETS,
    "client/test_client_sync.py::test_a_program_with_the_default_sigpipe": "Windows has no SIGPIPE",
    "audit/test_audit_durability.py::test_a_full_disk_refuses": _LIMITS,
    "audit/test_audit_durability.py::test_the_naive_append_leaves_a_half_line": _LIMITS,
    "audit/test_audit_durability.py::test_files_replace_is_what_writes": _RENAME,
    "audit/test_audit_log.py::test_files_are_private": _MODES,
    "audit/test_audit_log.py::test_a_log_that_others_can_write": _MODES,
    "audit/test_audit_log.py::test_what_is_no_file": "the link, the FIFO and the advice are those of POSIX",
    "audit/test_audit_log.py::test_no_descriptor_is_left_open": "Windows has no /proc/self/fd",
    "audit/test_audit_log.py::test_rotation_keeps_the_newest_files": _REMOVED,
    "audit/test_audit_log.py::test_a_kill_between_any_two_steps_of_a_rotation[rename": _RENAME,
    "audit/test_audit_log.py::test_a_kill_between_any_two_steps_of_a_rotation[unlink": _REMOVED,
    "audit/test_audit_log.py::test_a_rotation_that_fails": _RENAME,
    "audit/test_audit_log.py::test_check_notices_and_the_chain_goes_on_in_a_new_file[re": _REMOVED,
    "audit/test_audit_record.py::test_stamps_are_utc": "the C library of Windows knows no time after the year 3000",
    "audit/test_audit_shelf.py::test_backwards_is_forwards": _MEMORY,
    "audit/test_audit_shelf.py::test_a_line_without_end": _MEMORY,
    "identity/test_signature.py::test_a_file_that_is_another_in_the_second_pass": "Windows has no pwrite(2)",
    "vault/test_vault_backup.py::test_a_backup_brings_back_everything_on_another_machine": _MODES,
    "vault/test_vault_backup.py::test_an_existing_file_is_not_overwritten": _MODES,
    "vault/test_vault_changes.py::test_a_file_that_may_not_grow": _LIMITS,
    "vault/test_vault_changes.py::test_a_first_start_on_a_full_disk": _LIMITS,
    "vault/test_vault_changes.py::test_a_full_disk": _LIMITS,
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
    "client/test_client_exchange.py": _SOCKETS,
    "client/test_client_guards.py": _SOCKETS,
    "client/test_client_paths.py": _SOCKETS,
    "vault/test_vault_faults.py": _LIMITS,
}
"""Files that cannot even be loaded on Windows."""
