"""What helpers read of the tools that start them: git's lines, docker's and cargo's JSON, questions of ssh and git.

Each is served from secrets of a few addresses. Whatever is asked, nothing but a secret of exactly that address comes
back, and nothing but a refusal is raised.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fuzz.engine import Target
from fuzz.text_targets import JSON
from keychain_auth.integrations import askpass, cargo, docker, git
from keychain_auth.integrations.base import Helper, Refusal
from keychain_auth.integrations.keyring_names import decoded, encoded
from keychain_auth.wire.answers import Secret, SecretInfo
from keychain_auth.wire.client import read

_HOSTS = ("forge.example", "forge.example:8443", "example", "other.example")


class Shelf(Helper):
    """A helper whose secrets lie here. Names that the client library refuses are refused as there."""

    def __init__(self) -> None:
        super().__init__("/bin/helper", "git")
        self.secrets = {f"https://alice@{host}": Secret(f"https://alice@{host}", host, {}) for host in _HOSTS}
        self.changed: list[str] = []

    def read(self, targets: Iterable[str], wanted: str) -> dict[str, Secret]:
        names = list(targets)
        read(self.service, names, False, None)
        return {name: self.secrets[name] for name in names if name in self.secrets}

    def search(self, wanted: str) -> list[SecretInfo]:
        return [SecretInfo(secret.target, secret.attributes) for secret in self.secrets.values()]

    def write(self, values: Mapping[str, str], attributes: Mapping[str, str], wanted: str) -> None:
        self.changed += values

    def delete(self, targets: Iterable[str], wanted: str) -> None:
        self.changed += targets


def check_git(data: bytes) -> None:
    """The one who is answered is the one who asked."""
    try:
        described = git.parse(data.decode())
        found = git.look_up(Shelf(), described)
    except (UnicodeDecodeError, Refusal):
        return
    except RuntimeError as error:
        assert "characters" in str(error)  # a name that is too long
        return
    if found is not None:
        _, secret, _ = found
        assert (described["protocol"], described["host"], described["path"]) == ("https", secret.value, "")
        assert described.username in (None, "alice")


def check_askpass(data: bytes) -> None:
    """Only whole questions: whatever is not one gets nothing."""
    shelf = Shelf()
    answers: list[str] = []
    try:
        question = data.decode()
        answers = _answers(shelf, question)
    except (UnicodeDecodeError, Refusal):
        return
    except RuntimeError as error:
        assert "characters" in str(error)
        return
    for answer in answers:
        assert question.startswith(("Username for 'https://", "Password for 'https://"))
        host = question.partition("://")[2].split("'")[0].split("/")[0].rpartition("@")[2]
        assert answer in ("alice\n", f"{host}\n"), answer


def _answers(shelf: Shelf, question: str) -> list[str]:
    said: list[str] = []
    write, askpass.write_output = askpass.write_output, said.append
    try:
        askpass.main(shelf, [question])
    finally:
        askpass.write_output = write
    return said


def check_documents(data: bytes) -> None:
    """JSON of docker and cargo: a document of theirs, or a refusal that shows nothing of it."""
    for parse in (lambda: docker._credentials(data.decode()), lambda: cargo._parsed(data)):
        try:
            parse()
        except UnicodeDecodeError:
            continue
        except Refusal as refusal:
            assert refusal.__context__ is None
            assert refusal.__cause__ is None


def check_names(data: bytes) -> None:
    """No two names of keyring are one name here."""
    name = data.decode("utf-8", "replace")
    assert decoded(encoded(name)) == name
    assert git.decoded(git._coded(name)) == name


_GIT = [
    b"capability[]=authtype\nprotocol=https\nhost=forge.example\n\n",
    b"protocol=https\nhost=forge.example:8443\nusername=alice\npath=a/b.git\npassword=p\npassword_expiry_utc=1\n",
]
_QUESTIONS = [
    b"Enter passphrase for key '/home/a/.ssh/id': ", b"a@h's password: ",
    b"Password for 'https://alice@forge.example': ", b"Username for 'https://forge.example:8443': ",
]  # fmt: skip
_WORDS = [b"\n", b"\r", b"\0", b"=", b"@", b"/", b"%40", b"%2F", b"#", b"?", b":", b"host", b"username", b"alice", b"'"]
_WORDS += [
    b"https://",
    b"other.example",
    b"forge.example",
    b"protocol",
    b"password",
    b"#oauth_refresh_token",
    b"\xc3\xa5",
]
HELPER_TARGETS = [
    Target("git", check_git, _GIT, _WORDS),
    Target("askpass", check_askpass, _QUESTIONS, _WORDS),
    Target(
        "documents",
        check_documents,
        [
            b'{"ServerURL":"r.example","Username":"alice","Secret":"p"}',
            b'{"v":1,"registry":{"index-url":"sparse+https://i.example/"},"kind":"get","operation":"read"}',
        ],
        JSON,
    ),
    Target("names", check_names, [b"a\nb%", b"%:%41", b""], [b"%:", b"%", b"%25", b"%0A", b"\n", b"\x85", b"@"]),
]
