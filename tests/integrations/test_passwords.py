"""keychain-auth-password and what is like it, with restic, mbsync and Ansible themselves; pnpm's token helper."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import socket
import threading

from integrations.lab import Answer, Plug, packaged, server, tool
from support.world import World

PASSWORD = "s3cret"


def test_a_secret_and_a_newline(world: World) -> None:
    plug = Plug(world, "keychain-auth-password")
    plug.grant("mail", "--read")
    plug.keep("mail", "alice@mail.example", "two\nlines, ålso")
    done = plug.ask("mail", "alice@mail.example")
    assert (done.returncode, done.stdout, done.stderr) == (0, "two\nlines, ålso\n", "")
    done = plug.ask("mail", "bob")
    assert (done.returncode, done.stdout) == (6, "")
    assert done.stderr == (
        "keychain-auth-password: wanted bob of mail\nWhy not: there is no bob in the service mail\n"
        "Next: keychain-auth set mail bob\n"
    )
    done = plug.ask("other service", "it's")
    assert (done.returncode, done.stdout) == (3, "")
    assert f"Next: keychain-auth authorize {plug.path} 'other service' --read\n" in done.stderr
    assert plug.ask("mail").returncode == 2
    assert plug.ask("mail", "").returncode == 2


def test_restic_has_its_password(world: World) -> None:
    restic = tool("restic", "apt-get install restic")
    plug = Plug(world, "keychain-auth-password")
    plug.grant("restic", "--read")
    plug.keep("restic", "backup", PASSWORD)
    env = {
        "RESTIC_REPOSITORY": world.path("repository"), "RESTIC_CACHE_DIR": world.path(".cache/restic"),
        "RESTIC_PASSWORD_COMMAND": "keychain-auth-password restic backup",
    }  # fmt: skip
    assert plug.run(restic, "init", env=env).returncode == 0
    plug.keep("restic", "backup", "another")
    done = plug.run(restic, "snapshots", env=env)
    assert (done.returncode, "wrong password" in done.stderr) == (1, True)
    assert world.cli("revoke", plug.path, "restic").returncode == 0
    assert f"Next: keychain-auth authorize {plug.path} restic --read" in plug.run(restic, "snapshots", env=env).stderr


def test_mbsync_has_its_password(world: World) -> None:
    mbsync = tool("mbsync", "apt-get install isync")
    plug = Plug(world, "keychain-auth-password")
    plug.grant("mail", "--read")
    plug.keep("mail", "alice", PASSWORD)
    said: list[str] = []
    listening = socket.create_server(("127.0.0.1", 0))

    world.write("mail/inbox/cur/README", "")

    def serve() -> None:
        connection = listening.accept()[0]
        with contextlib.suppress(OSError), connection, connection.makefile("rw", newline="\r\n") as stream:
            stream.write("* OK IMAP4rev1 hello\n")
            stream.flush()
            for line in stream:
                said.append(line)
                tag, _, rest = line.partition(" ")
                if rest.startswith("CAPABILITY"):
                    stream.write("* CAPABILITY IMAP4rev1\n")
                    stream.write(f"{tag} OK\n")
                elif rest.startswith("LOGIN"):
                    stream.write(f"{tag} NO that is all I wanted to know\n")
                else:
                    stream.write(f"{tag} BAD\n")
                stream.flush()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        config = world.write("mbsyncrc", (
            f"IMAPAccount a\nHost 127.0.0.1\nPort {listening.getsockname()[1]}\nUser alice\nSSLType None\n"
            'AuthMechs LOGIN\nPassCmd "keychain-auth-password mail alice"\n\nIMAPStore r\nAccount a\n\n'
            f"MaildirStore l\nPath {world.path('mail')}/\nInbox {world.path('mail')}/inbox\n\n"
            "Channel c\nFar :r:\nNear :l:\n"
        ))  # fmt: skip
        done = plug.run(mbsync, "-c", config, "c")
        thread.join(60)
    finally:
        listening.close()
    assert any(f'LOGIN "alice" "{PASSWORD}"' in line for line in said), (said, done.stderr)


def test_ansible_has_its_vault_password(world: World) -> None:
    folder = packaged("ansible-core", world.user)
    plug = Plug(world, "keychain-auth-ansible-client")
    plug.grant("ansible", "--read")
    plug.keep("ansible", "prod", PASSWORD)
    world.write("plain.yml", "hello: alice\n")
    env = {"PYTHONPATH": folder, "ANSIBLE_HOME": world.path("ansible"), "ANSIBLE_LOCAL_TEMP": world.path("tmp")}
    vault = (world.installation.interpreter, os.path.join(folder, "bin", "ansible-vault"))
    identity = ("--vault-id", f"prod@{plug.path}", "plain.yml")
    done = plug.run(*vault, "encrypt", *identity, env=env)
    assert done.returncode == 0, done.stderr
    with open(world.path("plain.yml"), encoding="utf-8") as file:
        assert file.readline() == "$ANSIBLE_VAULT;1.2;AES256;prod\n"
    assert plug.run(*vault, "view", *identity, env=env).stdout == "hello: alice\n"
    play = {"hosts": "localhost", "gather_facts": False, "vars_files": ["plain.yml"]}
    world.write("site.yml", json.dumps([{**play, "tasks": [{"debug": {"var": "hello"}}]}]))
    playbook = (world.installation.interpreter, os.path.join(folder, "bin", "ansible-playbook"))
    done = plug.run(*playbook, "--vault-id", f"prod@{plug.path}", "site.yml", env=env)
    assert (done.returncode, '"hello": "alice"' in done.stdout) == (0, True), done.stdout + done.stderr
    plug.keep("ansible", "prod", "another")
    assert plug.run(*vault, "view", *identity, env=env).returncode != 0
    plug.keep("ansible", "default", "d")
    assert (plug.ask().stdout, plug.ask("--vault-id", "default").stdout) == ("d\n", "d\n")
    assert plug.ask("odd").returncode == 2


def test_pnpm_has_its_token(world: World) -> None:
    node = tool("node", "apt-get install nodejs")
    pnpm = os.path.join(packaged("pnpm", world.user), "node_modules", "pnpm", "bin", "pnpm.cjs")
    plug = Plug(world, "keychain-auth-npm-token")
    plug.grant("npm", "--read")
    plug.keep("npm", "default", "tok")
    plug.keep("npm", "other", "tok2")
    seen: list[str | None] = []

    def registry(request: http.server.BaseHTTPRequestHandler, _: bytes) -> Answer:
        seen.append(request.headers.get("Authorization"))
        return 404, {}, b"{}"

    link = world.path("bin/keychain-auth-npm-token@other")
    os.symlink(plug.path, link)
    world.write("project/package.json", '{"name":"p","version":"1.0.0"}')
    with server(registry) as address:
        for helper in (plug.path, link):
            config = f"registry=http://{address}/\n//{address}/:tokenHelper={helper}\nfetch-retries=0\n"
            world.write(".npmrc", config)
            env = {"npm_config_manage_package_manager_versions": "false", "NO_UPDATE_NOTIFIER": "1"}
            plug.run(node, pnpm, "add", "thing", cwd=world.path("project"), env=env)
    assert list(dict.fromkeys(seen)) == ["Bearer tok", "Bearer tok2"]
