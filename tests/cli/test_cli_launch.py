"""keychain-auth launch as a person meets it: the terminal, signals, exit codes, what is refused and how."""

from __future__ import annotations

import os
import signal

import pytest

from cli.lab import NOT_RUNNING, Terminal, modules_after, script
from support.world import World

BASH = "/bin/bash"


def launchable(world: World, text: str, name: str = "app.py") -> str:
    path = script(world, name, text)
    world.cli_json("register", "--script", path, "--interpreter", world.installation.interpreter)
    return path


def test_a_script_has_its_arguments_streams_and_exit_code(running: World) -> None:
    path = launchable(
        running,
        "import sys\nprint(__file__, __name__, sys.argv, input())\nprint('oops', file=sys.stderr)\nsys.exit(7)\n",
    )
    done = running.cli("launch", "--", path, "--json", "-s", "", input="a line\n")
    assert done.returncode == 7
    assert done.stdout == f"{path} __main__ {[path, '--json', '-s', '']} a line\n"
    assert done.stderr == "oops\n"


def test_a_traceback_is_the_scripts_own(running: World) -> None:
    path = launchable(running, "def f():\n    raise ValueError('x')\nf()\n")
    done = running.cli("launch", path)
    assert done.returncode == 1
    assert done.stderr == (
        f'Traceback (most recent call last):\n  File "{path}", line 3, in <module>\n    f()\n'
        f"  File \"{path}\", line 2, in f\n    raise ValueError('x')\nValueError: x\n"
    )


def test_nothing_of_the_front_is_left(running: World) -> None:
    text = (
        "import os, resource, signal\nprint(sorted(n for n in os.listdir('/proc/self/fd')), 'LD_PRELOAD' in os.environ,"
        " os.environ['KEPT'], os.environ['KEYCHAIN_AUTH_SCRIPT'] == __file__,"
        " resource.getrlimit(resource.RLIMIT_CORE), os.environ.get('PYTHONSTARTUP'))\n"
        "print(open('/proc/self/status').read())\n"
    )
    path = launchable(running, text)
    done = running.cli("launch", path, env={"KEPT": "kept", "PYTHONSTARTUP": "/nowhere"})
    first, _, status = done.stdout.partition("\n")
    assert first == "['0', '1', '2', '3'] False kept True (0, 0) None"  # 3: the listing itself
    plain = running.spawn([running.installation.interpreter, "-I", path], env={"KEYCHAIN_AUTH_SCRIPT": "", "KEPT": ""})
    plain.wait()
    fields = ("SigIgn", "SigBlk", "SigCgt", "TracerPid", "Threads")
    assert [line for line in status.splitlines() if line.startswith(fields)] == [
        line for line in plain.out.text().splitlines() if line.startswith(fields)
    ]


ECHOING = """
import os, select, signal

woken, wake = os.pipe()
os.set_blocking(wake, False)
signal.set_wakeup_fd(wake)

def line():  # not input(): a signal that comes just before its read(2) would wait for the next line
    while True:
        ready, _, _ = select.select([0, woken], [], [])
        if woken in ready:
            os.read(woken, 64)
        if 0 in ready:
            return os.read(0, 4096).decode().rstrip() or "end"

def say(*words):  # not print: a signal may come in the middle of it
    os.write(1, " ".join(map(str, words)).encode() + bytes([10]))

signal.signal(signal.SIGINT, lambda *_: say("interrupted"))
signal.signal(signal.SIGCONT, lambda *_: say("continued"))
say("foreground", os.tcgetpgrp(0) == os.getpgrp(), os.isatty(0), os.isatty(1))
while (typed := line()) != "end":
    say("got", typed)
raise SystemExit(9)
"""


@pytest.mark.skipif(not os.path.exists(BASH), reason=f"there is no {BASH}, a shell with job control")
def test_terminal_signals_and_job_control_are_the_scripts_own(running: World) -> None:
    path = launchable(running, ECHOING)
    shown = Terminal(running, "--norc", "--noprofile", "-i", shell=BASH)
    try:
        shown.type(f"{running.python} -m keychain_auth launch {path}\n")
        shown.expect("foreground True True True")
        shown.type("hello\n")
        shown.expect("got hello")
        shown.type("\x03")  # Ctrl-C
        shown.expect("interrupted")
        shown.type("\x1a")  # Ctrl-Z
        shown.expect("Stopped")
        shown.type("fg\n")
        shown.expect("continued")
        shown.type("again\n")
        shown.expect("got again")
        shown.type("end\n")
        shown.type("echo its exit code was $?\n")
        shown.expect("its exit code was 9")
        shown.type("exit\n")
        shown.wait()
    finally:
        shown.close()


def test_a_signal_ends_it_as_any_program(running: World) -> None:
    path = launchable(running, "import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n")
    assert running.cli("launch", path).returncode == -signal.SIGTERM


@pytest.mark.parametrize("interpreter", ["/bin/sh", "/bin/bash", "/usr/bin/perl"])
def test_other_interpreters(running: World, interpreter: str) -> None:
    if not os.path.exists(interpreter):
        pytest.skip(f"there is no {interpreter}")
    text = 'echo "$1" "$KEYCHAIN_AUTH_SCRIPT"\nexit 4\n'
    if interpreter.endswith("perl"):
        text = 'print "$ARGV[0] $ENV{KEYCHAIN_AUTH_SCRIPT}\\n"; exit 4;\n'
    path = script(running, "app", text)
    running.cli_json("register", "--script", path, "--interpreter", interpreter)
    done = running.cli("launch", path, "word")
    assert (done.returncode, done.stdout, done.stderr) == (4, f"word {path}\n", "")


def test_a_launch_that_is_refused_says_why(running: World) -> None:
    path = script(running)
    done = running.cli("launch", path)
    assert (done.returncode, done.stdout) == (6, "")
    assert done.stderr == f"{path} is not registered\nNext: keychain-auth register --script {path}\n"
    launchable(running, "print(1)\n")
    script(running, text="print(2)\n")
    done = running.cli("launch", path)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == f"{path} is not what was registered\nNext: keychain-auth upgrade {path}\n"
    gone = running.cli("launch", running.path("nothing"))
    assert gone.stderr == f"{running.path('nothing')} does not exist\nNext: keychain-auth launch --help\n"
    assert running.cli("launch", "--no-such", path).stderr.startswith("No such option '--no-such'.\n")
    program = running.granted()
    assert "is a program of its own: start it as it is" in running.cli("launch", program).stderr


def test_without_a_daemon(world: World) -> None:
    done = world.cli("launch", script(world))
    assert (done.returncode, done.stderr) == (4, NOT_RUNNING)


def test_help_and_wrong_usage(world: World) -> None:
    assert "before its first instruction" in world.cli("launch", "--help").stdout
    assert world.cli("launch").returncode == 2


def test_it_is_light(running: World) -> None:
    """The front is part of a program's start."""
    path = script(running)
    code = (
        "import os, sys\nos.execve = lambda *_: sys.exit(print(*sorted(sys.modules), file=sys.stderr))\n"
        f"from keychain_auth.cli.main import main\nmain(['launch', {path!r}])\n"
    )
    launchable(running, "print(1)\n")
    done = running.spawn([running.python, "-c", code])
    done.end_input()
    done.wait()
    loaded = set(done.err.text().split())
    assert "keychain_auth.client.launch" in loaded
    assert not loaded & {"click", "rich", "asyncio", "cryptography", "msgspec", "ctypes", "subprocess", "typing"}
    assert "click" in modules_after(running, ("status",))
