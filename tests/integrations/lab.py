"""What the tests of helpers share: an installation as a user has it, and tools that run in his name.

The helpers are those that the package ships, in the bin folder of a virtual environment, registered and granted by
the three lines of docs/integrations.
"""

from __future__ import annotations

import atexit
import base64
import functools
import http.server
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

import keychain_auth
from support.installation import copy_with_needs
from support.programs import ROOT
from support.users import Account
from support.world import World, sha256_of

SCRIPTS = os.path.join(ROOT, "scripts")
_PLACES = "/usr/local/bin:/usr/bin:/bin"


@functools.lru_cache(maxsize=4)
def environment(*distributions: str) -> str:
    """A virtual environment that everybody can read, with this package, its scripts and what else is named."""
    folder = tempfile.mkdtemp(prefix="ka-env-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.chmod(folder, 0o755)
    base = os.path.realpath(sys._base_executable)  # type: ignore[attr-defined]
    subprocess.run([base, "-m", "venv", "--without-pip", folder], check=True)
    packages = packages_of(folder)
    source = os.path.dirname(os.path.abspath(keychain_auth.__file__))
    shutil.copytree(source, os.path.join(packages, "keychain_auth"), ignore=shutil.ignore_patterns("__pycache__"))
    for name in distributions:
        copy_with_needs(name, packages)
    with open(os.path.join(ROOT, "pyproject.toml"), "rb") as file:
        project = tomllib.load(file)["project"]
    _describe(packages, project)
    for name in os.listdir(SCRIPTS):
        with open(os.path.join(SCRIPTS, name), encoding="utf-8") as file:
            text = file.read()
        assert text.startswith("#!python\n"), name  # what an installer replaces (wheel format, "shared-scripts")
        script(folder, name, text.replace("#!python", f"#!{folder}/bin/python", 1))
    return folder


def packages_of(folder: str) -> str:
    """Where a virtual environment has its packages."""
    return os.path.join(folder, "lib", f"python{sys.version_info.major}.{sys.version_info.minor}", "site-packages")


def _describe(packages: str, project: dict[str, Any]) -> None:
    """What an installer leaves of a wheel's metadata: by it keyring finds its backends."""
    folder = os.path.join(packages, f"keychain_auth-{project['version']}.dist-info")
    os.mkdir(folder)
    lines = [f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"]
    points = project.get("entry-points", {})
    for name, text in (
        ("METADATA", "".join(lines)),
        ("entry_points.txt", "".join(
            f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in found.items())
            for group, found in points.items()
        )),
    ):  # fmt: skip
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            file.write(text)


def with_packages(folder: str, *packaged_tools: str) -> None:
    """Let the virtual environment import what ``make tools`` installed."""
    with open(os.path.join(packages_of(folder), "tools.pth"), "w", encoding="utf-8") as file:
        file.write("".join(f"{each}\n" for each in packaged_tools))


def packaged(name: str, account: Account) -> str:
    """The folder of a tool that ``make tools`` installed. Skips the test where it is not."""
    folder = os.path.join(ROOT, "build", "tools", name)
    if not os.path.isdir(folder) or not os.listdir(folder):  # empty: it could not be fetched
        pytest.skip(f"no {name} here: make tools")
    seen = subprocess.run(["/bin/ls", folder], capture_output=True, check=False, cwd="/", **account.popen())
    if seen.returncode:
        pytest.skip(f"{account.name} cannot enter {folder}")
    return folder


def script(folder: str, name: str, text: str) -> str:
    """An executable file in the bin folder of a virtual environment."""
    path = os.path.join(folder, "bin", name)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(path, 0o755)
    return path


_ENTRIES: dict[str, dict[str, Any]] = {}  # by environment: what `register --app` makes of a helper in it


class Plug:
    """A world whose daemon runs, and a helper in it."""

    def __init__(self, world: World, name: str, folder: str = "", *, start: bool = True) -> None:
        self.world = world
        self.folder = folder or environment()
        self.path = os.path.join(self.folder, "bin", name)
        self._first = True
        if start:
            world.start()

    def beside(self, name: str, folder: str = "") -> Plug:
        """Another helper of the same world."""
        return Plug(self.world, name, folder or self.folder, start=False)

    def grant(self, service: str, *options: str) -> None:
        """Known, and allowed to use ``service``: what the lines of the documents come to."""
        self.register()
        if self._first:
            self.authorize(service, *options)
            return
        entry = self._entry()
        for option, field in (("--read", "allowed_read_services"), ("--write", "allowed_write_services")):
            if not options or option in options:
                entry[field] = [*entry.get(field, ()), service]
        entry["can_search"] = not options or "--search" in options
        self._replace(entry)

    def register(self, *options: str, anyone: bool = True) -> None:
        """Make the helper known. ``anyone``: whoever starts it is answered, and not only whom a person approved.

        By the command for the first helper of an environment, and where there are options; the others get the same
        entry by hand, because commands take time.
        """
        self._first = bool(options) or not anyone or self.folder not in _ENTRIES
        if self._first:
            done = self.world.cli("register", "--app", self.path, *options)
            assert done.returncode == 0, done.stderr
            if anyone:
                done = self.world.cli("behalf", self.path, "--anyone")
                assert done.returncode == 0, done.stderr
                if not options:
                    _ENTRIES[self.folder] = self._entry()
            return
        self._replace({**_ENTRIES[self.folder], "path": self.path, "hash": sha256_of(self.path)})

    def _entry(self) -> dict[str, Any]:
        entries = self.world.read_policy()["registered_binaries"]
        return dict(next(entry for entry in entries if entry["path"] == self.path))

    def _replace(self, entry: dict[str, Any]) -> None:
        policy = self.world.read_policy()
        others = [each for each in policy["registered_binaries"] if each["path"] != self.path]
        self.world.write_policy({**policy, "registered_binaries": [*others, entry]})

    def authorize(self, service: str, *options: str) -> None:
        """Let it use ``service``."""
        done = self.world.cli("authorize", self.path, service, *options)
        assert done.returncode == 0, done.stderr

    def keep(self, service: str, target: str, value: str) -> None:
        """What a person does: ``keychain-auth set``."""
        done = self.world.cli("set", service, target, input=value)
        assert done.returncode == 0, done.stderr

    def kept(self, service: str, target: str) -> str | None:
        """The value as a person reads it; None if there is none."""
        done = self.world.cli("get", service, target)
        assert done.returncode in (0, 6), done.stderr
        return done.stdout if done.returncode == 0 else None

    def environment(self, **changes: str) -> dict[str, str]:
        """The variables of a tool, with the helpers on its PATH."""
        path = f"{self.folder}/bin:{_PLACES}"
        return self.world.environment({"PATH": path, "KEYCHAIN_AUTH_SOCKET": self.world.socket, **changes})

    def run(
        self,
        *words: str,
        input: str | bytes = "",  # noqa: A002 - the name that subprocess.run has for it
        env: Mapping[str, str] | None = None,
        cwd: str = "",
    ) -> subprocess.CompletedProcess[str]:
        """Run a tool to its end, in the user's name, without a terminal."""
        data = input.encode() if isinstance(input, str) else input
        done = subprocess.run(
            words, input=data, capture_output=True, check=False, timeout=60, cwd=cwd or self.world.home,
            env=self.environment(**(env or {})), start_new_session=True, **self.world.user.popen(),
        )  # fmt: skip
        out, err = (stream.decode("utf-8", "backslashreplace") for stream in (done.stdout, done.stderr))
        return subprocess.CompletedProcess(done.args, done.returncode, out, err)

    def ask(self, *arguments: str, input: str | bytes = "", **env: str) -> subprocess.CompletedProcess[str]:  # noqa: A002
        """Call the helper as the tool does."""
        return self.run(self.path, *arguments, input=input, env=env)


def tool(name: str, package: str) -> str:
    """The path of a program that everybody can run. Skips the test where there is none, saying how to get it."""
    found = shutil.which(name, path=_PLACES)
    if found is None:
        pytest.skip(f"no {name} on this machine: {package}")
    return found


Answer = tuple[int, dict[str, str], bytes]


@contextmanager
def server(
    answer: Callable[[http.server.BaseHTTPRequestHandler, bytes], Answer], certificate: str = ""
) -> Iterator[str]:
    """A server on this machine; yields its address (``127.0.0.1:PORT``).

    It speaks HTTP, or with ``certificate`` (a file of ``certificate``) HTTPS.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, headers, content = answer(self, body)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = _serve

        def log_message(self, *_: Any) -> None:
            pass

    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listening.daemon_threads = True
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        listening.socket = context.wrap_socket(listening.socket, server_side=True)
    thread = threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{listening.server_address[1]}"
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()


def basic(user: str, password: str) -> str:
    """The header by which a client says who it is (RFC 7617)."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def certificate(world: World) -> str:
    """A file with a key and a certificate for ``localhost`` and ``127.0.0.1`` that vouches for itself."""
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    text = key.private_bytes(serialization.Encoding.PEM, *form) + signed.public_bytes(serialization.Encoding.PEM)
    return world.write("server.pem", text)


ALICE = "s3cret-of-alice"


@contextmanager
def forge(plug: Plug) -> Iterator[str]:
    """A server with one git repository, for alice alone; yields its address."""
    git = tool("git", "apt-get install git")
    home = plug.world.path("forge")
    plug.world.write("forge/README", "hello\n")
    for words in (
        ("init", "-q", "-b", "main"), ("add", "README"),
        ("-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-qm", "x"), ("update-server-info",),
    ):  # fmt: skip
        done = plug.run(git, *words, cwd=home)
        assert done.returncode == 0, done.stderr

    def answer(request: http.server.BaseHTTPRequestHandler, _: bytes) -> Answer:
        if request.headers.get("Authorization") != basic("alice", ALICE):
            return 401, {"WWW-Authenticate": 'Basic realm="forge"'}, b""
        path = os.path.join(home, ".git", request.path.split("?")[0].removeprefix("/repo.git/"))
        if not os.path.isfile(path):
            return 404, {}, b""
        with open(path, "rb") as file:
            return 200, {}, file.read()

    with server(answer) as address:
        yield address


def clone(plug: Plug, address: str, name: str = "copy", **env: str) -> subprocess.CompletedProcess[str]:
    """``git clone`` from the forge, by the credential helper unless ``env`` has another way to ask."""
    helper = () if "GIT_ASKPASS" in env else ("-c", "credential.helper=keychain-auth")
    env = {"GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "", "SSH_ASKPASS": "", **env}
    return plug.run("git", *helper, "clone", "-q", f"http://{address}/repo.git", name, env=env)
