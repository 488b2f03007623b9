"""What the reader of each page has, and the few lines that are run somewhere else (see ``docs.elsewhere``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from docs import readers
from docs.elsewhere import Elsewhere
from docs.pages import Reader


class Plan(NamedTuple):
    """``has``: what the reader has before the page begins. ``instead``: parts of commands that are somebody's own, and
    what they are here. ``elsewhere``: lines that are not typed. ``then``: what must be so at the end."""

    has: Callable[[Reader], None] = lambda reader: None
    instead: tuple[tuple[str, str], ...] = ()
    elsewhere: tuple[Elsewhere, ...] = ()
    then: Callable[[Reader], None] = lambda reader: None


_INSTALLED = "it installs the package from the network"
_WHEEL = "tests/release/test_release.py::test_pip_installs_the_wheel_into_a_fresh_environment"
_MANAGER = "the machine's service manager"
_SYSTEM = "root, and the machine's service manager"
_TERMINAL = "a terminal to be asked on"
_ENDLESS = "it goes on until it is ended"
_DESKTOP = "a desktop keyring"
_SECRETS = "tests/keychains/test_daemon_keychains.py::test_a_service_moves_into_the_vault"
_LOCKING = "tests/cli/test_cli_locking.py"
_CHIP = "tests/protectors/test_tpm2.py"

PLANS = {
    "README.md": Plan(
        readers.readme,
        instead=(
            # That one is empty; all that follows is typed where a checkout's files are.
            (
                "git clone URL-OF-THIS-REPOSITORY keychain-auth && cd keychain-auth",
                "git clone -q origin.git keychain-auth",
            ),
        ),
        elsewhere=(
            Elsewhere(r"make (demo|test)", ".ci/run", "an environment for developers"),
            Elsewhere(r"python3 -m venv .*", _WHEEL, _INSTALLED),
            Elsewhere(r"\S*/pip install .*", _WHEEL, _INSTALLED),
            Elsewhere(r"keychain-auth migrate .*", _SECRETS, _DESKTOP),
        ),
    ),
    "docs/quickstart.md": Plan(),
    "docs/concepts.md": Plan(),
    "docs/coming-from.md": Plan(),
    "docs/run.md": Plan(readers.run),
    "docs/operations.md": Plan(
        readers.operations,
        instead=(
            ("/usr/local/bin/mytool", "./mytool"),
            ("~/.local/keychain-auth/bin/git-cred", "$HELPERS/git-cred"),
            ("BASE64", readers.PUBLIC),
            (
                "register PATH --signer",
                f"trust AgentSecrets {readers.PUBLIC} && keychain-auth register build/mytool --signer",
            ),
            ("PATH", "build/mytool"),
        ),
        elsewhere=(
            Elsewhere(
                r"keychain-auth install.*", "tests/cli/test_cli_install.py::test_check_says_what_is_there", _MANAGER
            ),
            Elsewhere(
                r"keychain-auth uninstall.*",
                "tests/cli/test_cli_install.py::test_purge_asks_and_removes_what_it_names",
                _MANAGER,
            ),
            Elsewhere(
                r"systemd-socket-activate .*",
                "tests/daemon/test_activation.py::test_what_was_sent_while_the_daemon_starts_is_answered",
                "a daemon that nobody else started",
            ),
            Elsewhere(
                r"man .*",
                "tests/docs/test_manual.py::test_man_shows_the_pages_without_a_complaint",
                "pages that were installed",
            ),
            Elsewhere(
                r"sudo .*install --system.*",
                "tests/daemon/test_systemd_machine.py::test_a_daemon_for_all_users_by_its_units",
                _SYSTEM,
            ),
            Elsewhere(
                r"sudo .*--system (register|authorize) .*",
                "tests/daemon/test_systemd_machine.py::test_a_daemon_for_all_users_by_its_units",
                _SYSTEM,
            ),
            Elsewhere(r".*(python3 -m venv|/pip install) .*", _WHEEL, _INSTALLED),
            Elsewhere(
                r"keychain-auth restart",
                "tests/daemon/test_activation.py::test_a_restart_keeps_the_sockets_and_the_pid",
                "it is typed to a daemon that stays the reader's own process",
            ),
            Elsewhere(
                r"keychain-auth get .* --clip",
                "tests/cli/test_cli_comfort.py::test_the_clipboard_holds_it_for_a_time",
                "a desktop",
            ),
            Elsewhere(
                r"keychain-auth edit .*",
                "tests/cli/test_cli_comfort.py::test_a_value_is_changed_in_an_editor",
                _TERMINAL,
            ),
            Elsewhere(
                r"keychain-auth rm .*",
                "tests/cli/test_cli_comfort.py::test_rm_by_prefix_shows_asks_and_removes_all_at_once",
                _TERMINAL,
            ),
            Elsewhere(
                r"keychain-auth (backup|restore) .*",
                "tests/cli/test_cli_backup.py::test_a_backup_made_while_it_runs_opens_on_another_machine",
                _TERMINAL,
            ),
            Elsewhere(
                r"keychain-auth protect add passphrase",
                f"{_LOCKING}::test_a_first_passphrase_is_typed_twice",
                _TERMINAL,
            ),
            Elsewhere(
                r"keychain-auth protect add recovery", f"{_LOCKING}::test_the_recovery_code_is_shown_once", _TERMINAL
            ),
            Elsewhere(
                r"keychain-auth protect remove 1",
                "tests/daemon/test_locking.py::test_slots_are_listed_and_the_last_one_stays",
                "another slot",
            ),
            Elsewhere(
                r"keychain-auth policy seal",
                "tests/daemon/test_policy_seal.py::test_a_person_accepts_an_edit_after_seeing_it",
                _TERMINAL,
            ),
            Elsewhere(
                r"keychain-auth protect (add tpm2.*|reseal .*)",
                f"{_CHIP}::test_an_update_changes_the_pcrs_and_reseal_mends_it",
                "a TPM",
            ),
            Elsewhere(
                r"keychain-auth audit tail -f.*", "tests/cli/test_cli_audit.py::test_tail_follows_and_filters", _ENDLESS
            ),
            Elsewhere(
                r"keychain-auth audit export journald .*",
                "tests/cli/test_cli_audit.py::test_the_journal_gets_fields_that_no_name_can_forge",
                "a journal",
            ),
            Elsewhere(
                r"keychain-auth audit export syslog .*",
                "tests/cli/test_cli_audit.py::test_syslog_gets_one_line_for_each_and_follows",
                "a system's log",
            ),
            Elsewhere(
                r"keychain-auth watch",
                "tests/cli/test_cli_watch.py::test_a_key_answers_the_program_that_waits",
                _TERMINAL,
            ),
            Elsewhere(
                r"keychain-auth approve --interactive",
                "tests/cli/test_cli_watch_lines.py::test_the_same_in_plain_lines",
                _TERMINAL,
            ),
            Elsewhere(
                r"keychain-auth canary release .*",
                "tests/daemon/test_canaries.py::test_status_and_doctor_name_who_is_held_until_a_person_releases_it",
                "a program that is held",
            ),
            Elsewhere(
                r"keychain-auth doctor.*",
                "tests/cli/test_cli_doctor.py::test_a_healthy_installation_is_called_healthy",
                "an installation that has nothing wrong with it",
            ),
        ),
    ),
    "docs/integrations.md": Plan(readers.integrations),
    "docs/integrations/askpass.md": Plan(readers.helpers),
    "docs/integrations/aws.md": Plan(
        readers.helpers,
        elsewhere=(
            Elsewhere(
                r"aws configure .*",
                "tests/integrations/test_clouds.py::test_botocore_has_its_keys",
                "its command line; it writes the line that this test writes",
            ),
        ),
    ),
    "docs/integrations/cargo.md": Plan(readers.helpers),
    "docs/integrations/docker.md": Plan(readers.helpers),
    "docs/integrations/git.md": Plan(readers.helpers, then=readers.git_is_served),
    "docs/integrations/keyring.md": Plan(readers.keyring),
    "docs/integrations/kubernetes.md": Plan(
        readers.helpers,
        elsewhere=(
            Elsewhere(r"kubectl .*", "tests/integrations/test_clouds.py::test_kubectl_has_its_token", "a kubectl"),
        ),
    ),
    "docs/integrations/passwords.md": Plan(
        readers.helpers,
        elsewhere=(
            Elsewhere(
                r"ansible-playbook .*",
                "tests/integrations/test_passwords.py::test_ansible_has_its_vault_password",
                "Ansible",
            ),
        ),
    ),
    "docs/integrations/pnpm.md": Plan(readers.helpers),
    "docs/integrations/terraform.md": Plan(readers.helpers),
    "docs/agents.md": Plan(
        readers.agents,
        then=readers.an_agent_asks,
        elsewhere=(
            Elsewhere(
                r"GITHUB_TOKEN=.*",
                "tests/integrations/test_run.py::test_exactly_one_token_for_ten_minutes_three_times",
                "it is the agent who types that: see the end of the page",
            ),
        ),
    ),
    "docs/keychains.md": Plan(
        elsewhere=(
            Elsewhere(r"keychain-auth list-secrets --keychain .*", _SECRETS, _DESKTOP),
            Elsewhere(r"keychain-auth migrate .*", _SECRETS, _DESKTOP),
            Elsewhere(r"pip install .*", _WHEEL, _INSTALLED),
        )
    ),
    "docs/fleet.md": Plan(readers.fleet, instead=(("/usr/local/bin/mytool", "./mytool"),)),
    "docs/protocol.md": Plan(
        readers.protocol, instead=(("~/.cache/keychain-auth-test", "$XDG_RUNTIME_DIR/keychain-auth"),)
    ),
    "docs/releasing.md": Plan(readers.developer),
    "CONTRIBUTING.md": Plan(readers.developer),
    "clients/README.md": Plan(
        readers.clients,
        instead=(
            # Behind this reader's shell stand the tests, which nobody approves.
            ("ask aws --read", "ask aws --read && keychain-auth behalf ./keychain-auth-ask --anyone"),
        ),
    ),
}
