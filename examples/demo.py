"""The main job, shown with real processes in a throwaway home: ``make demo``.

Every line comes from what happened: from a command's output, a client's answer, or the audit log. A step that does not
turn out as it should ends the demo with exit code 1.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import IO, NoReturn

HERE = os.path.dirname(os.path.abspath(__file__))
COMMAND = [sys.executable, "-m", "keychain_auth"]
SERVICE = "AgentSecrets"
ENVIRONMENTS = {
    "development": "postgres://dev:dev@localhost/app",
    "staging": "postgres://app:s3cr3t@staging.example/app",
    "production": "postgres://app:pr0d@db.example/app",
}


class Home:
    """A home folder of its own, with a daemon in it."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.env = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "HOME": folder,
            "XDG_RUNTIME_DIR": os.path.join(folder, "run"),
        }
        for name in ("run", "bin", ".config/keychain-auth"):
            os.makedirs(os.path.join(folder, name), mode=0o700)
        self._allow_container_filesystem()

    def _allow_container_filesystem(self) -> None:
        """In a container or on a tmpfs the daemon identifies no program until it is told to trust that filesystem."""
        kind = subprocess.run(
            ["stat", "--file-system", "--format=%T", self.folder], capture_output=True, text=True, check=True
        ).stdout.strip()
        name = {"overlayfs": "overlay", "tmpfs": "tmpfs"}.get(kind)
        if name:
            say(f"this folder lies on {name}, which the daemon trusts only when told to: writing daemon.toml")
            settings = os.path.join(self.folder, ".config/keychain-auth/daemon.toml")
            with open(os.open(settings, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
                file.write(f'filesystems = ["{name}"]\n')

    @contextmanager
    def daemon(self) -> Iterator[None]:
        """``keychain-auth start``, from its first line of log to its end."""
        show("keychain-auth start")
        with subprocess.Popen(
            [*COMMAND, "start", "--log-json"], env=self.env, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                for line in process.stderr or ():
                    event = json.loads(line)
                    if event["event"] == "listening":
                        say(f"daemon {event['pid']} listens on {event['socket']}")
                        break
                else:
                    fail("the daemon did not start")
                yield
            finally:
                process.send_signal(signal.SIGTERM)
                process.communicate(timeout=10)
        say(f"the daemon ended with exit code {process.returncode}")

    def build(self, name: str, *flags: str) -> str:
        """Compile the small C client under a name of its own; other flags make other bytes, so another program."""
        path = os.path.join(self.folder, "bin", name)
        subprocess.run(["gcc", "-O2", "-o", path, *flags, os.path.join(HERE, "c", "dbtool.c")], check=True)
        return path

    def cli(self, *words: str, expected: int = 0) -> str:
        """One keychain-auth command, shown with what it printed."""
        show("keychain-auth " + " ".join(words))
        return self.run([*COMMAND, *words], expected)

    def client(self, *words: str, stdin: str = "", expected: int = 0) -> str:
        """One run of a client program, shown with what it printed."""
        show(" ".join(words) + (f"   # with {len(stdin.splitlines())} lines on stdin" if stdin else ""))
        return self.run(words, expected, stdin)

    def run(self, words: Sequence[str], expected: int, stdin: str = "", quiet: bool = False) -> str:
        done = subprocess.run(words, env=self.env, input=stdin, capture_output=True, text=True, check=False)
        if not quiet:
            for line in (done.stdout + done.stderr).splitlines():
                say(line)
        if done.returncode != expected:
            fail(f"exit code {done.returncode}, expected {expected}")
        return done.stdout


def main() -> None:
    """The whole story."""
    with ExitStack() as undo:
        folder = tempfile.mkdtemp(prefix="kca-demo-")
        undo.callback(shutil.rmtree, folder)
        home = Home(folder)
        undo.enter_context(home.daemon())
        tool = home.build("dbtool")

        title("1. A person registers a program and says what it may have")
        home.cli("register", tool)
        home.cli("authorize", tool, SERVICE)

        title("2. The program stores three secrets in one batch, and reads those of one environment")
        pairs = "".join(f"proj_123:{name}:DATABASE_URL={url}\n" for name, url in ENVIRONMENTS.items())
        home.client(tool, "write", SERVICE, stdin=pairs)
        answer = json.loads(home.client(tool, "read", SERVICE, "proj_123:staging:"))
        if [item["value"] for item in answer["results"]] != [ENVIRONMENTS["staging"]]:
            fail("the prefix read did not give exactly the staging URL")

        title("3. Another program asks for the same, and is refused and queued")
        stranger = home.build("postinstall", "-O1")
        home.client(stranger, "read", SERVICE, "proj_123:production:", expected=3)
        home.cli("list-pending")
        [waiting] = json.loads(home.run([*COMMAND, "list-pending", "--json"], 0, quiet=True))

        title("4. Approved, it may still do nothing until a person says what")
        home.cli("approve", waiting["hash"].removeprefix("sha256:")[:12])
        home.client(stranger, "read", SERVICE, "proj_123:production:", expected=3)

        title("5. The first program is revoked while it is connected")
        revoke_while_connected(home, tool)

        title("6. The audit log has all of it, and no value")
        home.cli("audit", "tail", "-n", "30")
        home.cli("audit", "verify")
        with open(os.path.join(folder, ".local/share/keychain-auth/audit.log")) as log:
            if any(url in log.read() for url in ENVIRONMENTS.values()):
                fail("a value stands in the audit log")


def revoke_while_connected(home: Home, tool: str) -> None:
    """One connection, one request before and one after ``revoke``."""
    words = [tool, "session", SERVICE, "proj_123:staging:"]
    show(" ".join(words))
    with subprocess.Popen(words, env=home.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as session:
        if session.stdin is None or session.stdout is None:
            fail("the session has no pipes")
        before = ask(session.stdin, session.stdout)
        home.cli("revoke", tool, SERVICE)
        after = ask(session.stdin, session.stdout)
        session.stdin.close()
    if before["status"] != "success" or after.get("reason") != "service_not_allowed":
        fail("the revocation did not reach the open connection")


def ask(requests: IO[str], answers: IO[str]) -> dict[str, str]:
    """One request over the open connection."""
    requests.write("\n")
    requests.flush()
    line = answers.readline()
    say(line.rstrip())
    answer: dict[str, str] = json.loads(line)
    return answer


def title(text: str) -> None:
    """A headline."""
    print(f"\n{text}", flush=True)


def show(command: str) -> None:
    """What is run next."""
    print("  $ " + command, flush=True)


def say(line: str) -> None:
    """What it printed."""
    print("    " + line, flush=True)


def fail(why: str) -> NoReturn:
    """End the demo."""
    raise SystemExit(f"demo failed: {why}")


if __name__ == "__main__":
    main()
