"""What the reader of each page has, and the few lines that are run somewhere else (see ``docs.elsewhere``)."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

from attacks.lab import build
from docs.elsewhere import Elsewhere
from docs.pages import Reader, Shown
from docs.test_docs import ROOT


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


def _running(reader: Reader) -> None:
    reader.has("keychain-auth start")


# --- the first pages ----------------------------------------------------------------------------


def _readme(reader: Reader) -> None:
    reader.environment()
    reader.helpers()
    reader.has("git init -q --bare origin.git")


def _run(reader: Reader) -> None:
    _running(reader)
    for target in ("app DATABASE_URL", "app signing-key", "openai key"):
        reader.has(f"printf value | keychain-auth set {target}")
    for name in ("manage.py", "report", "worker", "sign"):
        reader.file(name, "#!/bin/sh\nexit 0\n", 0o755)
    lines = "DATABASE_URL=keychain://app/DATABASE_URL\nAPI_KEY=keychain://openai/key\nLOG_LEVEL=info\n"
    reader.file("app.env", lines)
    reader.file("app.conf.tmpl", "url = {{ keychain://app/DATABASE_URL }}\n")
    reader.file("bin/ssh", '#!/bin/sh\n[ "$1" = host ] && shift && exec sh -c "$*"\n', 0o755)  # another machine


def _operations(reader: Reader) -> None:
    _running(reader)
    reader.helpers()
    reader.has(
        "printf 1 | keychain-auth set aws DATABASE_URL",
        "printf 2 | keychain-auth set aws DATABASE_URL",
        "gcc -O2 -o dbtool examples/c/dbtool.c && cp dbtool deploy && mkdir build && cp dbtool build/mytool",
        "printf 'int f(void) { return 1; }' | gcc -shared -fPIC -x c -o libdb.so -",
        "keychain-auth register ./dbtool && keychain-auth register ./deploy && keychain-auth authorize ./dbtool aws",
        "cp dbtool mytool && keychain-auth register ./mytool && ! ./mytool read aws key",
        "keychain-auth authorize ./mytool aws",
        'keychain-auth register --app "$(command -v git-credential-keychain-auth)"',
        "! (cp dbtool other && echo >> other && ./other read aws key)",
        "python3 -m venv --without-pip venv && mkdir lib && touch lib/module.py",
    )
    reader.file("venv/bin/tool", f"#!{reader.home('venv/bin/python')}\nprint('a tool')\n", 0o755)
    reader.file(".env", "DATABASE_URL=postgres://x\n")
    header = "folder,favorite,type,name,notes,fields,reprompt,login_uri,login_username,login_password,login_totp\n"
    reader.file("bitwarden.csv", f"{header},,login,site,,,0,https://example.org,ann,pw,\n")
    reader.file("report.py", "print('a report')\n")
    reader.file("key.pem", "-----BEGIN PRIVATE KEY-----\n")


def _fleet(reader: Reader) -> None:
    _running(reader)
    reader.has("gcc -O2 -o mytool examples/c/dbtool.c")


_PUBLIC = '"$(openssl pkey -in signing-key.pem -pubout -outform DER | base64 -w0)"'


# --- helpers of tools ---------------------------------------------------------------------------


def _helpers(reader: Reader) -> None:
    _running(reader)
    reader.helpers()


def _git_is_served(reader: Reader) -> None:
    """As the page says: the first time it is refused and waits, then it has what was stored."""
    asks = "printf 'protocol=https\\nhost=forge.example\\n\\n' | GIT_TERMINAL_PROMPT=0 git credential fill"
    reader.has(f"! {asks}", "keychain-auth approve ID")
    reader.do(Shown(asks, 0, "protocol=https\nhost=forge.example\nusername=alice\npassword=y"))


def _integrations(reader: Reader) -> None:
    _helpers(reader)
    for name in ("git-credential-keychain-auth", "keychain-auth-password", "keychain-auth-run"):
        reader.has(f'keychain-auth register --app "$(command -v {name})"')
    tool = build(reader.world, "starter", variant="tool")
    reader.has(f"! {tool} /bin/bash -c 'keychain-auth-password restic backup; exit $?'")  # it waits for approval


def _keyring(reader: Reader) -> None:
    _helpers(reader)
    reader.has("python3 -m venv --without-pip .local/twine", "mkdir dist && touch dist/package.whl")
    twine = "import os, sys\nassert os.path.basename(sys.argv[-1]) == 'package.whl'\n"
    reader.file(".local/twine/bin/twine", f"#!{reader.home('.local/twine/bin/python')}\n{twine}", 0o755)
    reader.file("bin/pip", '#!/bin/sh\nexec python3 -m pip "$@"\n', 0o755)


def _agents(reader: Reader) -> None:
    _helpers(reader)
    agent = build(reader.world, "starter", variant="agent")  # a native program that runs commands
    reader.has(f"ln {agent} .local/bin/agent || (mkdir -p .local/bin && cp {agent} .local/bin/agent)")
    reader.has("printf s3cret | keychain-auth set github token")
    reader.has('keychain-auth register --app "$(command -v keychain-auth-run)"')
    other = build(reader.world, "starter", variant="another")
    line = "GITHUB_TOKEN=keychain://github/token keychain-auth-run -- true"
    reader.has(f"! {other} /bin/bash -c '{line}; exit $?'")  # it waits
    reader.file("bin/gh", '#!/bin/sh\n[ "$GITHUB_TOKEN" = s3cret ] && echo "$*"\n', 0o755)


def _an_agent_asks(reader: Reader) -> None:
    """Its command, started by the agent through a shell as agents do, has the token; typed by others it has none."""
    line = "GITHUB_TOKEN=keychain://github/token keychain-auth-run -- gh pr list"
    reader.do(Shown(f"~/.local/bin/agent /bin/bash -c '{line}; exit $?'", 0, "pr list"))


# --- clients and developers ---------------------------------------------------------------------


def _protocol(reader: Reader) -> None:
    """Its probe is registered, as the command says when it is typed first."""
    _running(reader)
    asks = 'keychain-auth conformance --socket "$XDG_RUNTIME_DIR/keychain-auth/agent.sock"'
    reader.do(Shown(f"{asks} >/dev/null", 3, ""))
    probe = "~/.cache/keychain-auth-conformance/probe"
    reader.has(f"keychain-auth register {probe} && keychain-auth authorize {probe} conformance")


def _clients(reader: Reader) -> None:
    _running(reader)
    reader.has(
        "gcc -O2 -o mytool examples/c/dbtool.c",
        f"mkdir -p node_modules/client && cp {ROOT}/clients/node/index.js node_modules/client/"
        f" || echo 'exports.x = 1' > node_modules/client/index.js",
        "printf s3cret | keychain-auth set aws default",
    )
    reader.file("app.js", "#!/usr/bin/env node\nrequire('client');\nconsole.log('started');\n", 0o755)
    with open(os.path.join(ROOT, "clients/shell/keychain-auth-ask"), encoding="utf-8") as file:
        reader.file("keychain-auth-ask", file.read(), 0o755)


def _developer(reader: Reader) -> None:
    """``make`` says what it would do, and does nothing (make(1), MAKEFLAGS): what it does takes minutes, and this is
    one of those things. A target that is not there is an error all the same."""
    with open(os.path.join(ROOT, "Makefile"), encoding="utf-8") as file:
        reader.file("Makefile", file.read())
    for name in ("requirements/dev.txt", "pyproject.toml"):
        reader.file(name, "")
    reader.has("export MAKEFLAGS=n")


PLANS = {
    "README.md": Plan(
        _readme,
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
    "docs/run.md": Plan(_run),
    "docs/operations.md": Plan(
        _operations,
        instead=(
            ("/usr/local/bin/mytool", "./mytool"),
            ("~/.local/keychain-auth/bin/git-cred", "$HELPERS/git-cred"),
            ("BASE64", _PUBLIC),
            ("register PATH --signer", f"trust AgentSecrets {_PUBLIC} && keychain-auth register build/mytool --signer"),
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
    "docs/integrations.md": Plan(_integrations),
    "docs/integrations/askpass.md": Plan(_helpers),
    "docs/integrations/aws.md": Plan(
        _helpers,
        elsewhere=(
            Elsewhere(
                r"aws configure .*",
                "tests/integrations/test_clouds.py::test_botocore_has_its_keys",
                "its command line; it writes the line that this test writes",
            ),
        ),
    ),
    "docs/integrations/cargo.md": Plan(_helpers),
    "docs/integrations/docker.md": Plan(_helpers),
    "docs/integrations/git.md": Plan(_helpers, then=_git_is_served),
    "docs/integrations/keyring.md": Plan(_keyring),
    "docs/integrations/kubernetes.md": Plan(
        _helpers,
        elsewhere=(
            Elsewhere(r"kubectl .*", "tests/integrations/test_clouds.py::test_kubectl_has_its_token", "a kubectl"),
        ),
    ),
    "docs/integrations/passwords.md": Plan(
        _helpers,
        elsewhere=(
            Elsewhere(
                r"ansible-playbook .*",
                "tests/integrations/test_passwords.py::test_ansible_has_its_vault_password",
                "Ansible",
            ),
        ),
    ),
    "docs/integrations/pnpm.md": Plan(_helpers),
    "docs/integrations/terraform.md": Plan(_helpers),
    "docs/agents.md": Plan(
        _agents,
        then=_an_agent_asks,
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
    "docs/fleet.md": Plan(_fleet, instead=(("/usr/local/bin/mytool", "./mytool"),)),
    "docs/protocol.md": Plan(_protocol, instead=(("~/.cache/keychain-auth-test", "$XDG_RUNTIME_DIR/keychain-auth"),)),
    "docs/releasing.md": Plan(_developer),
    "CONTRIBUTING.md": Plan(_developer),
    "clients/README.md": Plan(
        _clients,
        instead=(
            # Behind this reader's shell stand the tests, which nobody approves.
            ("ask aws --read", "ask aws --read && keychain-auth behalf ./keychain-auth-ask --anyone"),
        ),
    ),
}
