"""What the reader of a page has before it begins: files, programs, what was typed already."""

from __future__ import annotations

import os

from attacks.lab import build
from docs.pages import Reader, Shown
from docs.test_docs import ROOT


def running(reader: Reader) -> None:
    reader.has("keychain-auth start")


# --- the first pages ----------------------------------------------------------------------------


def readme(reader: Reader) -> None:
    reader.environment()
    reader.helpers()
    reader.has("git init -q --bare origin.git")


def run(reader: Reader) -> None:
    running(reader)
    for target in ("app DATABASE_URL", "app signing-key", "openai key"):
        reader.has(f"printf value | keychain-auth set {target}")
    for name in ("manage.py", "report", "worker", "sign"):
        reader.file(name, "#!/bin/sh\nexit 0\n", 0o755)
    lines = "DATABASE_URL=keychain://app/DATABASE_URL\nAPI_KEY=keychain://openai/key\nLOG_LEVEL=info\n"
    reader.file("app.env", lines)
    reader.file("app.conf.tmpl", "url = {{ keychain://app/DATABASE_URL }}\n")
    reader.file("bin/ssh", '#!/bin/sh\n[ "$1" = host ] && shift && exec sh -c "$*"\n', 0o755)  # another machine


def operations(reader: Reader) -> None:
    running(reader)
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


def fleet(reader: Reader) -> None:
    running(reader)
    reader.has("gcc -O2 -o mytool examples/c/dbtool.c")


PUBLIC = '"$(openssl pkey -in signing-key.pem -pubout -outform DER | base64 -w0)"'


# --- helpers of tools ---------------------------------------------------------------------------


def helpers(reader: Reader) -> None:
    running(reader)
    reader.helpers()


def git_is_served(reader: Reader) -> None:
    """As the page says: the first time it is refused and waits, then it has what was stored."""
    asks = "printf 'protocol=https\\nhost=forge.example\\n\\n' | GIT_TERMINAL_PROMPT=0 git credential fill"
    reader.has(f"! {asks}", "keychain-auth approve ID")
    reader.do(Shown(asks, 0, "protocol=https\nhost=forge.example\nusername=alice\npassword=y"))


def integrations(reader: Reader) -> None:
    helpers(reader)
    for name in ("git-credential-keychain-auth", "keychain-auth-password", "keychain-auth-run"):
        reader.has(f'keychain-auth register --app "$(command -v {name})"')
    tool = build(reader.world, "starter", variant="tool")
    reader.has(f"! {tool} /bin/bash -c 'keychain-auth-password restic backup; exit $?'")  # it waits for approval


def keyring(reader: Reader) -> None:
    helpers(reader)
    reader.has("python3 -m venv --without-pip .local/twine", "mkdir dist && touch dist/package.whl")
    twine = "import os, sys\nassert os.path.basename(sys.argv[-1]) == 'package.whl'\n"
    reader.file(".local/twine/bin/twine", f"#!{reader.home('.local/twine/bin/python')}\n{twine}", 0o755)
    reader.file("bin/pip", '#!/bin/sh\nexec python3 -m pip "$@"\n', 0o755)


def agents(reader: Reader) -> None:
    helpers(reader)
    agent = build(reader.world, "starter", variant="agent")  # a native program that runs commands
    reader.has(f"ln {agent} .local/bin/agent || (mkdir -p .local/bin && cp {agent} .local/bin/agent)")
    reader.has("printf s3cret | keychain-auth set github token")
    reader.has('keychain-auth register --app "$(command -v keychain-auth-run)"')
    other = build(reader.world, "starter", variant="another")
    line = "GITHUB_TOKEN=keychain://github/token keychain-auth-run -- true"
    reader.has(f"! {other} /bin/bash -c '{line}; exit $?'")  # it waits
    reader.file("bin/gh", '#!/bin/sh\n[ "$GITHUB_TOKEN" = s3cret ] && echo "$*"\n', 0o755)


def an_agent_asks(reader: Reader) -> None:
    """Its command, started by the agent through a shell as agents do, has the token; typed by others it has none."""
    line = "GITHUB_TOKEN=keychain://github/token keychain-auth-run -- gh pr list"
    reader.do(Shown(f"~/.local/bin/agent /bin/bash -c '{line}; exit $?'", 0, "pr list"))


# --- clients and developers ---------------------------------------------------------------------


def protocol(reader: Reader) -> None:
    """Its probe is registered, as the command says when it is typed first."""
    running(reader)
    asks = 'keychain-auth conformance --socket "$XDG_RUNTIME_DIR/keychain-auth/agent.sock"'
    reader.do(Shown(f"{asks} >/dev/null", 3, ""))
    probe = "~/.cache/keychain-auth-conformance/probe"
    reader.has(f"keychain-auth register {probe} && keychain-auth authorize {probe} conformance")


def clients(reader: Reader) -> None:
    running(reader)
    reader.has(
        "gcc -O2 -o mytool examples/c/dbtool.c",
        f"mkdir -p node_modules/client && cp {ROOT}/clients/node/index.js node_modules/client/"
        f" || echo 'exports.x = 1' > node_modules/client/index.js",
        "printf s3cret | keychain-auth set aws default",
    )
    reader.file("app.js", "#!/usr/bin/env node\nrequire('client');\nconsole.log('started');\n", 0o755)
    with open(os.path.join(ROOT, "clients/shell/keychain-auth-ask"), encoding="utf-8") as file:
        reader.file("keychain-auth-ask", file.read(), 0o755)


def developer(reader: Reader) -> None:
    """``make`` says what it would do, and does nothing (make(1), MAKEFLAGS): what it does takes minutes, and this is
    one of those things. A target that is not there is an error all the same."""
    with open(os.path.join(ROOT, "Makefile"), encoding="utf-8") as file:
        reader.file("Makefile", file.read())
    for name in ("requirements/dev.txt", "pyproject.toml"):
        reader.file(name, "")
    reader.has("export MAKEFLAGS=n")
