"""keychain-auth run: a command with secrets, all of them or none; what it inherits and what it does not."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pytest

from cli.lab import NOT_RUNNING, Terminal, closed_stream
from support.person import WORDS, protect, tell
from support.world import World

BASH = "/bin/bash"
SHOW = "import json, os, sys; json.dump([dict(os.environ), sys.argv[1:]], sys.stdout)"


def shown(world: World, *words: str, env: dict[str, str] | None = None) -> dict[str, str]:
    done = world.cli("run", *words, "--", world.python, "-c", SHOW, env=env)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return dict(json.loads(done.stdout)[0])


# --- what the command gets --------------------------------------------------------------------


def test_references_in_the_environment_are_resolved_and_all_else_stays(stocked: World) -> None:
    env = {"URL": "keychain://app/url", "ODD": "keychain://app/odd/na%20me", "NONE": "keychain://app/empty", "X": "y"}
    seen = shown(stocked, env=env)
    assert seen == {
        **stocked.environment(),
        "URL": "postgres://x",
        "ODD": "zwei\nZeilen \U0001f511",
        "NONE": "",
        "X": "y",
    }


def test_a_dotenv_file_is_resolved_and_comes_first(stocked: World) -> None:
    file = stocked.write("app.env", "# a comment\nURL=keychain://app/url\nexport PLAIN='as it is'\nX=file\n")
    seen = shown(stocked, "--env-file", file, env={"X": "environment"})
    assert (seen["URL"], seen["PLAIN"], seen["X"]) == ("postgres://x", "as it is", "file")
    other = stocked.write("other.env", "X=later\n")
    assert shown(stocked, "--env-file", file, f"--env-file={other}")["X"] == "later"


def test_wait_is_a_variable_of_the_command(running: World) -> None:
    for words in (("--wait", "5m"), ("--wait=5m",)):
        assert shown(running, *words, env={"KEYCHAIN_AUTH_WAIT": "1s"})["KEYCHAIN_AUTH_WAIT"] == "5m"
    done = running.cli("run", "--wait", "2h", "true")
    assert (done.returncode, "--wait 2h: a wait is 0 to 3600 seconds" in done.stderr) == (2, True)


def test_only_takes_what_it_names(stocked: World) -> None:
    file = stocked.write("app.env", "URL=keychain://app/url\nOTHER=keychain://app/missing\nPLAIN=1\n")
    seen = shown(stocked, "--env-file", file, "--only", "URL,PLAIN", env={"REST": "keychain://app/missing"})
    assert (seen["URL"], seen["PLAIN"], seen["REST"]) == ("postgres://x", "1", "keychain://app/missing")
    assert "OTHER" not in seen
    done = stocked.cli("run", "--only", "URL,NO", "--only=NEITHER", "true", env={"URL": "keychain://app/url"})
    assert (done.returncode, done.stdout) == (6, "")
    assert "nothing was started: --only names NO, NEITHER" in done.stderr


def test_words_of_the_command_are_its_own(stocked: World) -> None:
    done = stocked.cli("run", stocked.python, "-c", SHOW, "--env-file", "--", "-s", "--help")
    assert json.loads(done.stdout)[1] == ["--env-file", "--", "-s", "--help"]


def test_a_value_on_a_descriptor_is_in_no_variable(stocked: World) -> None:
    code = (
        "import os; print([os.read(number, 99).decode() for number in (3, 7, 200)], 'URL' in os.environ);"
        "print(sorted(map(int, os.listdir('/proc/self/fd'))), os.pread(3, 99, 0) == b'postgres://x')"
    )
    done = stocked.cli(
        "run", "--fd", "URL:3", "--fd", "keychain://app/odd/na%20me:7", "--fd", "keychain://app/empty:200",
        stocked.python, "-c", code, env={"URL": "keychain://app/url"},
    )  # fmt: skip
    assert done.stdout.splitlines() == [
        f"{['postgres://x', 'zwei' + chr(10) + 'Zeilen ' + chr(0x1F511), '']} False",
        "[0, 1, 2, 3, 4, 7, 200] True",  # 4: the listing itself
    ]


def test_a_value_on_a_descriptor_cannot_be_changed(stocked: World) -> None:
    code = "import os, sys\ntry:\n    os.write(3, b'x')\nexcept PermissionError:\n    print('sealed')\n"
    done = stocked.cli("run", "--fd", "keychain://app/url:3", stocked.python, "-c", code)
    assert (done.returncode, done.stdout) == (0, "sealed\n")


def test_the_command_takes_the_place_of_this_one(stocked: World) -> None:
    code = "import os, signal; print(os.getpid(), flush=True); os.kill(os.getpid(), signal.SIGTERM)"
    words = [stocked.python, "-m", "keychain_auth", "run", stocked.python, "-c", code]
    process = stocked.spawn(words, env={"URL": "keychain://app/url"})
    process.end_input()
    assert process.wait() == -signal.SIGTERM
    assert process.out.text().strip() == str(process.pid)
    assert stocked.cli("run", "sh", "-c", "exit 9").returncode == 9


def test_signals_terminal_and_descriptors_are_as_before(stocked: World) -> None:
    code = (
        "import os, signal; print([int(signal.getsignal(n)) for n in (signal.SIGTERM, signal.SIGHUP)],"
        " sorted(map(int, os.listdir('/proc/self/fd'))));"
        "print([line for line in open('/proc/self/status') if line[:3] == 'Sig' and line[:4] != 'SigQ'])"
    )
    alone = stocked.spawn([stocked.python, "-c", code])
    alone.end_input()
    alone.wait()
    done = stocked.cli("run", stocked.python, "-c", code, env={"URL": "keychain://app/url"})
    assert done.stdout.strip() == alone.out.text().strip()


def test_terminal_and_job_control(stocked: World) -> None:
    shell = Terminal(stocked, "--norc", "--noprofile", "-i", shell=BASH)
    code = "import os; print(os.getpgrp() == os.tcgetpgrp(0), os.environ['URL']); input(); print('went', 'on')"
    try:
        script = stocked.write("bin/tty.py", code)
        shell.type(f"URL=keychain://app/url {stocked.python} -m keychain_auth run {stocked.python} {script}\n")
        shell.expect("True postgres://x")
        shell.type("\x1a")
        shell.expect("Stopped")
        shell.type("fg\n")
        shell.expect("tty.py")
        shell.type("\n")
        shell.expect("went on")
        shell.type("exit\n")
        shell.wait()
    finally:
        shell.close()


# --- masked -----------------------------------------------------------------------------------


def test_masked_the_values_are_not_printed(stocked: World) -> None:
    code = (
        "import os, sys\nprint('url', os.environ['URL'], flush=True)\n"
        "for char in os.environ['URL']:\n    sys.stderr.write(char)\n    sys.stderr.flush()\n"
        "print('post', input(), os.get_terminal_size if os.isatty(1) else 'a pipe')\nsys.exit(9)\n"
    )
    done = stocked.cli("run", "--mask", stocked.python, "-c", code, input="typed", env={"URL": "keychain://app/url"})
    assert (done.returncode, done.stdout, done.stderr) == (9, "url ********\npost typed a pipe\n", "********")


def test_masked_it_ends_as_the_command_ends(stocked: World) -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert stocked.cli("run", "--mask", stocked.python, "-c", code).returncode == -signal.SIGKILL
    code = (
        "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
        "print('ready', flush=True)\nsignal.pause()\n"
    )
    process = stocked.spawn([stocked.python, "-m", "keychain_auth", "run", "--mask", "--", stocked.python, "-c", code])
    process.end_input()
    process.out.find(lambda line: b"ready" in line)
    process.signal(signal.SIGTERM)
    assert process.wait() == 7


def test_masked_a_descriptor_is_handed_over_too(stocked: World) -> None:
    done = stocked.cli("run", "--mask", "--fd", "keychain://app/url:5", "sh", "-c", "cat <&5; cat <&5 | base64")
    assert (done.returncode, done.stdout) == (0, "********")  # what was read is read: base64 has nothing more


# --- all or nothing ---------------------------------------------------------------------------


def test_all_that_is_missing_is_listed_and_nothing_is_started(stocked: World) -> None:
    mark = stocked.path("started")
    env = {"A": "keychain://app/no", "B": "keychain://app/url", "C": "keychain://oth%2Fer/a/b"}
    done = stocked.cli("run", "touch", mark, env=env)
    assert (done.returncode, done.stdout) == (6, "")
    assert done.stderr == (
        "nothing was started: there is no secret for A (keychain://app/no), C (keychain://oth%2Fer/a/b)\n"
        "Next: keychain-auth set app no\n"
    )
    assert not os.path.exists(mark)
    assert {(line["service"], *line["targets"]) for line in stocked.audit() if line["action"] == "admin_read"} == {
        ("app",),
        ("oth/er",),
    }  # asked for, and nothing of it given


@pytest.mark.parametrize(
    ("words", "env", "code", "why"),
    [
        (("run", "touch", "MARK"), {"A": "keychain://app", "B": "keychain:///x", "C": "keychain://a/%4"}, 2, "A: "),
        (("run", "touch", "MARK"), {"A": "keychain://app/%ff"}, 2, "not UTF-8"),
        (("run", "touch", "MARK"), {"A": "keychain://app/x?y"}, 2, "%3F"),
        (("run", "touch", "MARK"), {"A": "keychain://app/a%0Ab"}, 2, ""),
        (("run", "--fd", "A:1", "touch", "MARK"), {"A": "keychain://app/url"}, 2, "3 to 255"),
        (("run", "--fd", "A", "touch", "MARK"), {"A": "keychain://app/url"}, 2, "NAME:NUMBER"),
        (("run", "--fd", "B:3", "touch", "MARK"), {"A": "keychain://app/url"}, 2, "no variable of that name"),
        (("run", "--fd", "A:3", "--fd", "keychain://a/b:3", "touch", "MARK"), {"A": "keychain://app/url"}, 2, "twice"),
        (("run", "--env-file", "/nowhere", "touch", "MARK"), {}, 6, "there is no file"),
        (("run", "no-such-command-anywhere"), {"A": "keychain://app/url"}, 6, "there is no command"),
        (("run", "/etc/passwd"), {"A": "keychain://app/url"}, 1, "cannot be executed"),
        (("run",), {}, 2, ""),
        (("run", "--fancy", "touch", "MARK"), {}, 2, ""),
    ],
)  # fmt: skip
def test_what_is_doubtful_starts_nothing(
    stocked: World, words: tuple[str, ...], env: dict[str, str], code: int, why: str
) -> None:
    mark = stocked.path("started")
    done = stocked.cli(*[mark if word == "MARK" else word for word in words], env=env)
    assert (done.returncode, done.stdout) == (code, "")
    assert why in done.stderr
    assert "Traceback" not in done.stderr
    assert not os.path.exists(mark)
    assert not [line for line in stocked.audit() if line["action"] == "admin_read" and line["targets"]]


def test_every_reference_that_is_none_is_named(stocked: World) -> None:
    done = stocked.cli("run", "true", env={"A": "keychain://app", "B": "keychain:///x"})
    assert "A: keychain://app names no secret" in done.stderr
    assert "B: keychain:///x names no secret" in done.stderr


def test_a_value_that_no_variable_can_hold_goes_on_a_descriptor(stocked: World) -> None:
    stocked.cli("set", "app", "binary", input=b"a\x00b")
    env = {"BLOB": "keychain://app/binary"}
    done = stocked.cli("run", "true", env=env)
    assert done.returncode == 2
    assert "the value of BLOB holds a NUL" in done.stderr
    assert "Next: keychain-auth run --fd BLOB:3" in done.stderr
    done = stocked.cli("run", "--fd", "BLOB:3", "sh", "-c", "wc -c <&3", env=env)
    assert done.stdout.strip() == "3"


def test_an_open_descriptor_is_not_taken(stocked: World) -> None:
    words = [stocked.python, "-m", "keychain_auth", "run", "--fd", "keychain://app/url:5", "true"]
    shell = stocked.spawn(["/bin/sh", "-c", 'exec 5</dev/null; exec "$@"', "sh", *words])
    shell.end_input()
    assert shell.wait() == 2
    assert "descriptor 5 is open already" in shell.err.text()


def test_what_is_too_long_for_the_system_is_said(stocked: World) -> None:
    stocked.cli("set", "app", "long", input="x" * 200_000)
    done = stocked.cli("run", "true", env={"LONG": "keychain://app/long"})
    assert done.returncode == 1
    assert "longer than the system takes" in done.stderr
    assert "Next: hand long values over by --fd" in done.stderr


def test_closed_streams_are_not_mistaken_for_descriptors(stocked: World) -> None:
    done = closed_stream(stocked, 0, "run", stocked.python, "-c", "import os; print(os.readlink('/proc/self/fd/0'))")
    assert done.stdout == b"/dev/null\n"


# --- who asks ---------------------------------------------------------------------------------


def test_without_a_daemon_nothing_is_started(world: World) -> None:
    done = world.cli("run", "echo", "started", env={"URL": "keychain://app/url"})
    assert (done.returncode, done.stdout, done.stderr) == (4, "", NOT_RUNNING)


def test_the_record_has_the_names_the_command_and_the_reason(stocked: World) -> None:
    stocked.cli("run", "--reason", "deploy 7", "echo", "--token=abc", env={"URL": "keychain://app/url"})
    [line] = [line for line in stocked.audit() if line["action"] == "admin_read"]
    assert (line["service"], line["targets"], line["detail"]) == ("app", ["url"], "run echo: deploy 7")
    stocked.assert_nowhere("postgres://x")


def test_with_a_passphrase_it_is_asked_for(stocked: World) -> None:
    protect(stocked, key_file=True)
    env = {"URL": "keychain://app/url"}
    done = stocked.cli("run", "echo", "started", env=env)  # there is no terminal to ask on
    assert (done.returncode, done.stdout) == (5, "")
    assert "--passphrase-fd" in done.stderr
    template = stocked.write("t", "{{ keychain://app/url }}")
    done = tell(stocked, "inject", "-i", template, "-o", stocked.path("out"))
    assert done.returncode == 0, done.stderr


def test_a_canary_is_no_secret_and_tells(stocked: World) -> None:
    assert stocked.cli("canary", "add", "app", "bait").returncode == 0
    done = stocked.cli("run", "echo", "started", env={"A": "keychain://app/url", "B": "keychain://app/bait"})
    assert (done.returncode, done.stdout) == (6, "")
    assert "there is no secret for B (keychain://app/bait)" in done.stderr
    assert [line["targets"] for line in stocked.audit() if line["action"] == "canary"] == [["bait"]]


# --- cost -------------------------------------------------------------------------------------


def test_it_is_light(stocked: World) -> None:
    """It is part of a command's start."""
    code = (
        "import os, sys\nos.execve = lambda *_: sys.exit(print(*sorted(sys.modules), file=sys.stderr))\n"
        "from keychain_auth.cli.main import main\nmain(['run', '--reason', 'x', '--', 'true'])\n"
    )
    done = stocked.spawn([stocked.python, "-c", code], env={"URL": "keychain://app/url"})
    done.end_input()
    done.wait()
    loaded = set(done.err.text().split())
    assert "keychain_auth.client.references" in loaded
    assert not loaded & {"click", "rich", "asyncio", "cryptography", "msgspec", "ctypes", "subprocess", "re", "json"}


# --- the passphrase -----------------------------------------------------------------------------

# What a command does that wants the passphrase: whatever it was started with, from its beginning.
SNOOP = """
import os
print("looked")
for name in os.listdir("/proc/self/fd"):
    try:
        print(os.pread(int(name), 100, 0))
    except OSError:
        pass
"""


@pytest.mark.parametrize("mask", [(), ("--mask",)], ids=["plain", "mask"])
def test_the_command_does_not_get_the_descriptor_of_the_passphrase(world: World, mask: tuple[str, ...]) -> None:
    """A file is at its second line once it was read, and can be read again from its first."""
    world.write_settings("[lock]\npassphrase_seconds = 0.001\n")
    world.start()
    protect(world)
    assert tell(world, "set", "app", "key", stdin="hunter2").returncode == 0
    words = world.write("words", WORDS + "\n", 0o600)
    run = 'exec "$@" 3<"$WORDS_FILE"'
    env = {"WORDS_FILE": words, "KEY": "keychain://app/key"}
    command = [world.python, "-c", SNOOP]
    won = subprocess.run(
        [BASH, "-c", 'exec 3<"$WORDS_FILE"; read -r line <&3; exec "$@"', "bash", *command],
        env=world.environment(env), capture_output=True, text=True, check=True, cwd="/", **world.user.popen(),
    )  # fmt: skip
    assert WORDS in won.stdout
    done = world.cli(
        "run", "--passphrase-fd", "3", *mask, "--", *command, env=env, before=(BASH, "-c", run, "bash")
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert WORDS not in done.stdout
    assert "looked" in done.stdout
    refused = world.cli(
        "run", "--passphrase-fd", "0", *mask, "--", *command, env=env,
        before=(BASH, "-c", 'exec "$@" <"$WORDS_FILE"', "bash"),
    )  # fmt: skip
    assert refused.returncode == 2
    assert WORDS not in refused.stdout + refused.stderr
