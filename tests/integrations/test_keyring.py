"""The backend of keyring with keyring itself, pip and twine; the command keyring by a helper."""

from __future__ import annotations

import functools
import http.server
import io
import json
import os
import subprocess
import zipfile

from integrations import lab
from integrations.lab import Answer, Plug, basic, packaged, script, server
from support.world import World

DIFFICULT = ("plain", "ål ice", "with\nnewline\t", "%:", "%:%41", "a%20b", "-", "https://x.example/simple/")

USES = """
import json, sys, warnings
warnings.simplefilter("ignore")
import keyring, keyring.errors
def tell(call, *words):
    try:
        found = call(*words)
        return (found.username, found.password) if hasattr(found, "username") else found
    except keyring.errors.KeyringError as error:
        return [type(error).__name__, str(error)]
for line in sys.stdin:
    name, *words = json.loads(line)
    found = str(keyring.get_keyring()) if name == "which" else tell(getattr(keyring, name), *words)
    print(json.dumps(found), flush=True)
"""


@functools.cache
def environment() -> str:
    """A virtual environment with keyring, its command, and a program that does with keyring what it is told."""
    folder = lab.environment("keyring")
    script(folder, "uses", f"#!{folder}/bin/python\n{USES}")
    command(folder, "keyring", "keyring.cli")
    return folder


def command(folder: str, name: str, module: str) -> None:
    """What an installer makes of an entry point."""
    script(folder, name, f"#!{folder}/bin/python\nimport sys\nfrom {module} import main\nsys.exit(main())\n")


class Program(Plug):
    """A program of that environment, as a helper is one."""

    def __init__(self, world: World, name: str, folder: str = "") -> None:
        super().__init__(world, name, folder or environment())

    def launch(self, *words: str, input: str = "", **env: str) -> subprocess.CompletedProcess[str]:  # noqa: A002
        """``keychain-auth launch`` with it."""
        start = (self.world.python, "-m", "keychain_auth.cli.main", "launch", self.path)
        return self.run(*start, *words, input=input, env={**dict(self.world.installation.env), **env})

    def use(self, *calls: tuple[str | None, ...]) -> list[object]:
        """What keyring says to these calls."""
        done = self.launch(input="".join(json.dumps(call) + "\n" for call in calls))
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]


def test_what_keyring_keeps_lies_with_the_daemon(world: World) -> None:
    program = Program(world, "uses")
    program.register()
    program.authorize("s")
    calls = [
        call
        for name in DIFFICULT
        for call in (
            ("get_password", "s", name), ("set_password", "s", name, f"{name}!"), ("get_password", "s", name),
            ("get_credential", "s", None), ("delete_password", "s", name), ("get_password", "s", name),
            ("delete_password", "s", name),
        )
    ]  # fmt: skip
    which, *answers = program.use(("which",), *calls)
    assert "keychain_auth.integrations.keyring_backend.Keyring (priority: 9)" in str(which)
    for at, name in enumerate(DIFFICULT):
        first, _, kept, credential, _, gone, again = answers[7 * at : 7 * at + 7]
        assert (first, kept, credential, gone) == (None, f"{name}!", [name, f"{name}!"], None)
        assert isinstance(again, list)
        assert again[0] == "PasswordDeleteError"
    _, empty, _, bob, nobody, several = program.use(
        ("set_password", "s", "", "p"), ("get_password", "s", ""), ("set_password", "s", "bob", "q"),
        ("get_credential", "s", "bob"), ("get_credential", "s", "nobody"), ("get_credential", "s", None),
    )  # fmt: skip
    assert (empty, bob, nobody) == ("p", ["bob", "q"], None)
    assert program.kept("s", "bob") == "q"  # the same names as on the command line
    assert isinstance(several, list)
    assert several[0] == "KeyringError"
    assert "several users have one: %:, bob" in several[1]


def test_denied_and_locked_raise(world: World) -> None:
    program = Program(world, "uses")
    program.register()
    program.authorize("s", "--read")
    authorize = f"Next: keychain-auth authorize {program.path}"
    got, put, searched, gone = program.use(
        ("get_password", "other", "u"), ("set_password", "s", "u", "never-said"), ("get_credential", "s", None),
        ("delete_password", "other", "u"),
    )  # fmt: skip
    for said, kind, what in (
        (got, "KeyringError", "wanted the password of u for other. Why not: it may not read the service other"),
        (put, "PasswordSetError", "wanted to keep the password of u for s. Why not: it may not write to the service s"),
        (searched, "KeyringError", "it may not search the service s"),
        (gone, "PasswordDeleteError", "wanted to forget the password of u for other"),
    ):
        assert isinstance(said, list)
        assert said[0] == kind
        assert what in said[1]
        assert authorize in said[1]
        assert "never-said" not in said[1]


def test_the_command_of_keyring_itself(world: World) -> None:
    program = Program(world, "keyring")
    program.register("--allow-declared")
    program.authorize("s")
    assert program.run(program.path, "set", "s", "alice", input="p w").returncode == 0
    assert program.run(program.path, "get", "s", "alice").stdout == "p w\n"  # as anybody starts it: declared
    assert program.launch("get", "s", "alice").stdout == "p w\n"
    assert program.kept("s", "alice") == "p w"


def wheel(name: str) -> bytes:
    """A package with nothing in it."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        about = f"{name}-1.0.dist-info"
        archive.writestr(f"{name}.py", "")
        archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: us\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{about}/RECORD", "")
    return data.getvalue()


def index(request: http.server.BaseHTTPRequestHandler, _: bytes) -> Answer:
    """An index with one package, for alice alone."""
    if request.headers.get("Authorization") != basic("alice", "p w"):
        return 401, {"WWW-Authenticate": 'Basic realm="index"'}, b""
    if request.path == "/simple/thing/":
        page = b'<!DOCTYPE html><html><body><a href="/thing-1.0-py3-none-any.whl">x</a></body></html>'
        return 200, {"Content-Type": "text/html"}, page
    return (200, {}, wheel("thing")) if request.path.endswith(".whl") else (404, {}, b"")


PIP = ("--disable-pip-version-check", "--isolated", "download", "-q", "--no-deps", "--no-cache-dir")


def test_pip_asks_the_helper_that_is_called_keyring(world: World) -> None:
    """pip of another environment, which has no keyring."""
    plug = Plug(world, "keychain-auth-keyring")
    os.symlink(plug.path, world.path("bin/keyring"))
    other = lab.environment("pip")
    env = {"PATH": f"{world.path('bin')}:/usr/bin:/bin"}
    plug.register()
    with server(index) as address:
        named = f"http://alice@{address}/simple/"
        for where in (named, f"http://{address}/simple/"):  # as pip names the index, before 23.1 and since
            plug.authorize(where, "--read")
            plug.keep(where, "alice", "p w")
        words = (f"{other}/bin/python", "-m", "pip", *PIP, "--index-url", named, "-d", world.path("got"), "thing")
        done = plug.run(*words, env=env)
        assert done.returncode == 0, done.stderr
    assert os.listdir(world.path("got")) == ["thing-1.0-py3-none-any.whl"]


def test_uv_and_the_newest_pip_ask_it_too_once_they_are_approved(world: World) -> None:
    plug = Plug(world, "keychain-auth-keyring")
    os.symlink(plug.path, world.path("bin/keyring"))
    pip = packaged("pip", world.user)
    env = {"PATH": f"{world.path('bin')}:/usr/bin:/bin", "PYTHONPATH": pip}
    uv = os.path.join(packaged("uv", world.user), "bin", "uv")
    plug.register(anyone=False)
    with server(index) as address:
        where = f"http://{address}/simple/"
        plug.authorize(where, "--read")
        plug.keep(where, "alice", "p w")
        named = ("--index-url", f"http://alice@{address}/simple/", "--keyring-provider", "subprocess")
        python = world.installation.interpreter
        target = ("--target", world.path("uv"), "--python", python, "--no-cache", "--no-config")
        by_uv = (uv, "pip", "install", *target, "--no-deps", *named, "thing")
        # As an installer writes the command: a script of the environment. (`python -m pip` names none.)
        start = world.write("scripts/pip", "import sys\nfrom pip._internal.cli.main import main\nsys.exit(main())\n")
        by_pip = (python, start, *PIP, *named, "-d", world.path("got"), "thing")
        for words, name in ((by_uv, "uv"), (by_pip, "pip")):
            assert plug.run(*words, env=env).returncode != 0
            [waiting] = world.cli_json("list-pending")
            assert os.path.basename(waiting["path"]) == name
            world.cli_json("approve", waiting["id"])
            done = plug.run(*words, env=env)
            assert done.returncode == 0, done.stderr
        module = (python, "-m", "pip", *PIP, *named, "-d", world.path("other"), "thing")
        assert plug.run(*module, env=env).returncode != 0
        assert world.cli_json("list-pending") == []
    assert os.path.exists(world.path("uv/thing.py"))
    assert os.listdir(world.path("got")) == ["thing-1.0-py3-none-any.whl"]


def test_pip_with_the_library(world: World) -> None:
    folder = lab.environment("keyring", "pip")
    command(folder, "pip", "pip._internal.cli.main")
    program = Program(world, "pip", folder)
    program.register()
    with server(index) as address:
        where = f"http://{address}/simple/"
        program.authorize(where)
        program.keep(where, "alice", "p w")
        done = program.launch(*PIP, "--index-url", where, "-d", world.path("got"), "thing")
        assert done.returncode == 0, done.stderr
    assert os.listdir(world.path("got")) == ["thing-1.0-py3-none-any.whl"]


def test_twine_has_its_token(world: World) -> None:
    twine = packaged("twine", world.user)
    folder = lab.environment("keyring", "jeepney")  # one of its own: it imports what the others do not
    lab.with_packages(folder, twine)
    command(folder, "twine", "twine.__main__")
    program = Program(world, "twine", folder)
    program.register("--allow-declared")
    seen: list[str | None] = []

    def upload(request: http.server.BaseHTTPRequestHandler, _: bytes) -> Answer:
        seen.append(request.headers.get("Authorization"))
        return 200, {}, b""

    package = world.write("thing-1.0-py3-none-any.whl", wheel("thing"))
    with server(upload) as address:
        where = f"http://{address}/legacy/"
        words = (
            "upload",
            "--non-interactive",
            "--disable-progress-bar",
            "--repository-url",
            where,
            "-u",
            "__token__",
            package,
        )
        program.authorize(where, "--read")
        program.keep(where, "__token__", "a-token")
        for done in (program.launch(*words), program.run(program.path, *words)):
            assert done.returncode == 0, done.stdout + done.stderr
    assert seen == [basic("__token__", "a-token")] * 2


def test_the_helper_answers_as_keyring_does(world: World) -> None:
    plug = Plug(world, "keychain-auth-keyring")
    plug.grant("s")
    assert plug.ask("get", "s", "alice").returncode == 1
    assert plug.ask("set", "s", "alice", input="p w\n").returncode == 0
    for words, answer in (
        (("get", "s", "alice"), "p w\n"),
        (("get", "--mode", "creds", "s", "alice"), "alice\np w\n"),
        (("--mode=creds", "--output", "json", "get", "s"), '{"username": "alice", "password": "p w"}\n'),
    ):
        done = plug.ask(*words)
        assert (done.returncode, done.stdout, done.stderr) == (0, answer, ""), words
    assert plug.ask("del", "s", "alice").returncode == 0
    assert plug.ask("--mode", "creds", "get", "s").returncode == 1
    assert plug.ask("del", "s", "alice").returncode == 6
    for wrong in ((), ("get", "s"), ("diagnose",), ("--mode", "odd", "get", "s", "u"), ("get", "s", "u", "more")):
        assert plug.ask(*wrong).returncode == 2, wrong
    assert f"keychain-auth authorize {plug.path} t --read" in plug.ask("get", "t", "u").stderr


def test_a_user_whose_name_is_two_lines_does_not_bring_his_own_password(world: World) -> None:
    """Who may write a service may name a user; pip and uv take the second line for the password."""
    plug = Plug(world, "keychain-auth-keyring")
    plug.grant("s")
    assert plug.ask("set", "s", "alice\nforged", input="p w\n").returncode == 0
    naive = "\n".join(("alice\nforged", "p w"))
    assert naive.split("\n")[:2] == ["alice", "forged"]
    done = plug.ask("--mode", "creds", "get", "s")
    assert (done.returncode, done.stdout) == (1, "")
    assert "control characters" in done.stderr
    done = plug.ask("--mode", "creds", "--output", "json", "get", "s")
    assert json.loads(done.stdout) == {"username": "alice\nforged", "password": "p w"}
