"""How scripts are started, and which variables they must not have."""

from __future__ import annotations

import ast
import base64
import shlex
import zlib

import pytest

from keychain_auth.errors import UsageError
from keychain_auth.model import Entry, Launch, Program
from keychain_auth.policy.environment import allowed, forbidden_names, is_forbidden
from keychain_auth.policy.launching import Preludes, as_typed, pack, plan

PRELUDES = Preludes("# python\n", "// node\n")
LISTING = {"": "folder", "a.py": "file " + "d" * 64, "b\udc80": "link a.py", "pipe": "other"}


def entry(interpreter: str, script: str = "/home/u/app.py", **launch: object) -> Entry:
    return Entry(
        Program(script, "a" * 64), frozenset(), frozenset(), False, "",
        interpreter=Program(interpreter, "b" * 64) if interpreter else None,
        launch=Launch(**launch),  # type: ignore[arg-type]
    )  # fmt: skip


def test_a_person_is_shown_the_script_and_its_arguments() -> None:
    argv = plan(entry("/usr/bin/python3.11"), PRELUDES, {}).argv
    line = shlex.join((*argv, "get", "a b"))
    assert as_typed(line) == "/home/u/app.py get 'a b'"
    others = ("python3 -c 'import os' /home/u/app.py", "./tool --x", "", line[:60], "f=open('/proc/self/fd/3','rb') x")
    for other in others:
        assert as_typed(other) == other


def test_python_is_isolated_and_reads_as_much_as_the_prelude_has() -> None:
    tree = Program("/home/u/lib", "c" * 64)
    what = plan(
        entry("/usr/bin/python3.11", prefix="/home/u/v", imports=("/home/u/lib",), trees=(tree,)),
        PRELUDES,
        {tree.path: pack(LISTING)},
    )
    program, isolated, bare, command, code, script = what.argv
    assert (program, isolated, bare, command, script) == ("/usr/bin/python3.11", "-I", "-S", "-c", "/home/u/app.py")
    assert f"f.read({len(what.prelude)})" in code
    call = ast.parse(what.prelude.decode()).body[-1]
    assert isinstance(call, ast.Expr)
    assert isinstance(call.value, ast.Call)
    words = [ast.literal_eval(word) for word in call.value.args[1:]]
    packed = words.pop().pop("/home/u/lib")
    assert words == ["/home/u/app.py", "/home/u/v", ("/home/u/lib",)]
    told = zlib.decompress(base64.b64decode(packed)).decode("utf-8", "surrogateescape").split("\0")
    assert told == ["a.py", LISTING["a.py"], "b\udc80", "link a.py"]
    assert what.variables == {"KEYCHAIN_AUTH_SCRIPT": "/home/u/app.py"}


def test_names_cannot_end_the_prelude() -> None:
    script = "/home/u/\"'); import evil\n#\\é\udc80.py"
    what = plan(entry("/usr/bin/python3", script), PRELUDES, {})
    call = ast.parse(what.prelude.decode("ascii")).body[-1]
    assert isinstance(call, ast.Expr)
    assert isinstance(call.value, ast.Call)
    assert ast.literal_eval(call.value.args[1]) == script
    script = '/home/u/");evil("`${x}\u2028.js'
    last = plan(entry("/usr/bin/node", script), PRELUDES, {}).prelude.decode("ascii").splitlines()[-1]
    assert last == r'launch("/home/u/\");evil(\"`${x}\u2028.js", {});'


def test_bytecode_of_a_library_that_is_a_tree_is_not_read() -> None:
    tree = Program("/home/u/python/lib/python3.11", "c" * 64)
    what = plan(entry("/home/u/python/bin/python3.11", trees=(tree,)), PRELUDES, {tree.path: pack(LISTING)})
    assert what.argv[3:5] == ("-X", "pycache_prefix=/dev/null")


@pytest.mark.parametrize(
    ("interpreter", "argv"),
    [
        ("/bin/sh", ("/bin/sh", "/proc/self/fd/3")),
        ("/bin/bash", ("/bin/bash", "-p", "/proc/self/fd/3")),
        ("/usr/bin/perl", ("/usr/bin/perl", "/proc/self/fd/3")),
        ("/usr/bin/ruby3.1", ("/usr/bin/ruby3.1", "--disable-gems", "/proc/self/fd/3")),
        ("/usr/bin/zsh", ("/usr/bin/zsh", "-f", "/proc/self/fd/3")),
        ("/usr/bin/ksh", ("/usr/bin/ksh", "/proc/self/fd/3")),
        ("/usr/bin/fish", ("/usr/bin/fish", "--no-config", "/proc/self/fd/3")),
    ],
)
def test_other_interpreters_read_the_memory_file(interpreter: str, argv: tuple[str, ...]) -> None:
    what = plan(entry(interpreter, "/home/u/app"), PRELUDES, {})
    assert (what.argv, what.prelude) == (argv, b"")


def test_what_cannot_be_launched() -> None:
    with pytest.raises(UsageError, match="a program of its own"):
        plan(entry(""), PRELUDES, {})
    with pytest.raises(UsageError, match="ES module"):
        plan(entry("/usr/bin/node", "/home/u/app.mjs"), PRELUDES, {})


@pytest.mark.parametrize(
    "name",
    [
        "LD_PRELOAD",
        "LD_AUDIT",
        "LD_LIBRARY_PATH",
        "GCONV_PATH",
        "GLIBC_TUNABLES",
        "MALLOC_TRACE",
        "PYTHONPATH",
        "PYTHONSTARTUP",
        "PYTHONHOME",
        "_PYTHON_SYSCONFIGDATA_NAME",
        "NODE_OPTIONS",
        "NODE_PATH",
        "PERL5OPT",
        "PERL5LIB",
        "PERLLIB",
        "RUBYOPT",
        "RUBYLIB",
        "BASH_ENV",
        "ENV",
        "SHELLOPTS",
        "BASHOPTS",
        "BASH_FUNC_ls%%",
        "PS4",
        "LUA_INIT",
        "LUA_PATH_5_4",
        "JAVA_TOOL_OPTIONS",
        "_JAVA_OPTIONS",
        "CLASSPATH",
        "OPENSSL_CONF",
        "OPENSSL_MODULES",
        "GTK_MODULES",
        "QT_PLUGIN_PATH",
        "KRB5_CONFIG",
    ],
)
def test_variables_that_name_code(name: str) -> None:
    assert is_forbidden(name)


def test_other_variables_stay() -> None:
    names = ["HOME", "PATH", "LANG", "LC_ALL", "TERM", "DISPLAY", "AWS_PROFILE", "KEYCHAIN_AUTH_SOCKET", "XLD_PRELOAD",
             "ENVIRONMENT", "VIRTUAL_ENV", "R", "SSH_AUTH_SOCK"]  # fmt: skip
    assert allowed([*names, "LD_PRELOAD"]) == names


def test_forbidden_names_in_an_environment_as_the_kernel_shows_it() -> None:
    block = b"HOME=/x\0LD_PRELOAD=/evil.so\0A=LD_AUDIT=1\0PYTHONPATH\0\xff\xfe=1\0ENV=\0"
    assert forbidden_names(block) == ("LD_PRELOAD", "PYTHONPATH", "ENV")
