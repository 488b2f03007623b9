"""Which entry is an identity's own, and why an interpreter has none."""

from __future__ import annotations

import json

import msgspec
import pytest

from keychain_auth.errors import PolicyFormatError
from keychain_auth.model import Denial, Entry, Grade, Grant, Identity, Program, Request
from keychain_auth.policy.decide import decide
from keychain_auth.policy.explain import mend
from keychain_auth.policy.interpreters import declared_script, is_interpreter
from keychain_auth.policy.match import match
from keychain_auth.policy.parse import parse_policy

A, B, PY = "a" * 64, "b" * 64, "c" * 64


def policy_of(*entries: dict[str, object]) -> bytes:
    return json.dumps({"registered_binaries": entries}).encode()


def native(path: str, sha256: str) -> Identity:
    return Identity(Program(path, sha256), Grade.USER, pid=1, uid=1)


def script(path: str, sha256: str, interpreter: Program) -> Identity:
    return Identity(interpreter, Grade.DECLARED, pid=1, uid=1, script=Program(path, sha256))


PYTHON = Program("/usr/bin/python3.11", PY)
TOOL = {"path": "/bin/tool", "hash": A}
SCRIPT = {
    "path": "/home/u/app.py",
    "hash": f"sha256:{B}",
    "interpreter": {"path": PYTHON.path, "hash": PY},
    "minimum_grade": "declared",
}


def field_of(policy: bytes, identity: Identity) -> str:
    result = match(parse_policy(policy), identity)
    assert isinstance(result, Denial)
    registered = result.field in ("minimum_grade", "libraries", "executable_memory", "foreign_mounts")
    assert result.reason == ("identity_not_verified" if registered else "unregistered_binary_pending_approval")
    return result.field


def test_path_and_hash_must_both_match() -> None:
    policy = policy_of(TOOL)
    assert isinstance(match(parse_policy(policy), native("/bin/tool", A)), Entry)
    assert field_of(policy, native("/bin/tool", B)) == "hash"
    assert field_of(policy, native("/bin/other", A)) == "path"


def test_an_interpreter_is_never_granted_by_its_own_hash() -> None:
    """Somebody wrote python3 itself into config.json: that would register every script there is."""
    policy = policy_of({"path": PYTHON.path, "hash": PY, "allowed_read_services": ["aws"]})
    naive = parse_policy(policy).by_program.get((PYTHON.path, PY))
    assert naive is not None  # by path and hash alone it would match
    assert field_of(policy, native(PYTHON.path, PY)) == "interpreter"
    assert field_of(policy, script("/home/u/evil.py", B, PYTHON)) == "script"


def test_a_script_needs_its_interpreter_and_its_grade() -> None:
    policy = policy_of(SCRIPT)
    assert isinstance(match(parse_policy(policy), script("/home/u/app.py", B, PYTHON)), Entry)
    assert field_of(policy, script("/home/u/app.py", A, PYTHON)) == "hash"
    assert field_of(policy, script("/home/u/app.py", B, Program(PYTHON.path, A))) == "interpreter"
    assert field_of(policy, script("/home/u/app.py", B, Program("/opt/python", PY))) == "interpreter"
    assert field_of(policy, native("/home/u/app.py", B)) == "interpreter"
    surer = {**SCRIPT, "minimum_grade": "launched"}
    assert field_of(policy_of(surer), script("/home/u/app.py", B, PYTHON)) == "minimum_grade"
    silent = {name: value for name, value in SCRIPT.items() if name != "minimum_grade"}
    assert field_of(policy_of(silent), script("/home/u/app.py", B, PYTHON)) == "minimum_grade"


def test_who_is_registered_but_not_sure_enough_is_not_queued() -> None:
    policy = policy_of({**SCRIPT, "minimum_grade": "launched"})
    denial = match(parse_policy(policy), script("/home/u/app.py", B, PYTHON))
    assert isinstance(denial, Denial)
    assert denial.reason == "identity_not_verified"
    assert mend(denial) == "keychain-auth launch /home/u/app.py"


@pytest.mark.parametrize("minimum", list(Grade))
@pytest.mark.parametrize("grade", list(Grade))
def test_an_entry_is_content_with_its_minimum_grade_and_surer_ones(minimum: Grade, grade: Grade) -> None:
    order = ["declared", "launched", "user", "system", "signed"]
    identity = msgspec.structs.replace(native("/bin/tool", A), grade=grade)
    found = match(parse_policy(policy_of({**TOOL, "minimum_grade": minimum.value})), identity)
    assert isinstance(found, Entry) is (order.index(grade) >= order.index(minimum))


def test_what_a_program_loads_must_be_allowed_by_its_entry() -> None:
    library, other = Program("/home/u/lib.so", B), Program("/home/u/lib.so", A)
    loaded = msgspec.structs.replace(native("/bin/tool", A), libraries=frozenset((library,)))
    allowed = policy_of({**TOOL, "libraries": [{"path": library.path, "hash": B}]})
    assert isinstance(match(parse_policy(allowed), loaded), Entry)
    assert isinstance(match(parse_policy(allowed), native("/bin/tool", A)), Entry)
    assert field_of(policy_of(TOOL), loaded) == "libraries"
    assert field_of(allowed, msgspec.structs.replace(loaded, libraries=frozenset((other,)))) == "libraries"


@pytest.mark.parametrize("what", ["executable_memory", "foreign_mounts"])
def test_what_a_program_does_otherwise_must_be_allowed_by_its_entry(what: str) -> None:
    odd = msgspec.structs.replace(native("/bin/tool", A), **{what: True})
    assert field_of(policy_of(TOOL), odd) == what
    assert isinstance(match(parse_policy(policy_of({**TOOL, what: True})), odd), Entry)


def test_a_service_withholds_itself_from_weaker_grades() -> None:
    document = {
        "registered_binaries": [{**TOOL, "allowed_read_services": ["aws", "prod"]}],
        "services": [{"service": "prod", "minimum_grade": "system"}],
    }
    policy = parse_policy(json.dumps(document).encode())
    weak = match(policy, native("/bin/tool", A))
    strong = match(policy, msgspec.structs.replace(native("/bin/tool", A), grade=Grade.SYSTEM))
    assert isinstance(weak, Entry) and isinstance(strong, Entry)
    for entry, service, allowed in ((weak, "aws", True), (weak, "prod", False), (strong, "prod", True)):
        decision = decide(entry, Request("read", service, targets=("x",)))
        assert isinstance(decision, Grant) is allowed
        if isinstance(decision, Denial):
            assert (decision.reason, decision.wanted) == ("identity_not_verified", "grade system")


def test_an_entry_for_a_program_is_not_one_for_a_script_of_that_path() -> None:
    assert field_of(policy_of(TOOL), script("/bin/tool", A, PYTHON)) == "interpreter"


@pytest.mark.parametrize(
    "name",
    [
        "python3", "python3.11", "python", "pypy3", "node", "nodejs", "deno", "bash", "sh", "dash", "zsh", "perl",
        "perl5.36.0", "ruby3.1", "php8.2", "lua5.4", "java", "busybox", "ld-linux-x86-64.so.2", "env", "gdb", "Rscript",
        "qemu-x86_64", "tclsh8.6", "gawk", "pwsh", "python3.13t",
        "perl5.36-x86_64-linux-gnu", "jshell", "lli-14", "make", "sqlite3", "openssl", "ld.bfd", "socat", "guile-3.0",
        "gpg-connect-agent", "electron28", "kitty", "blender",
        "luajit-2.1.0-beta3", "php-cgi8.2", "original-awk", "gdb-multiarch", "nc.openbsd",
    ],
)  # fmt: skip
def test_interpreters_are_known(name: str) -> None:
    assert is_interpreter(f"/usr/bin/{name}")


@pytest.mark.parametrize("name", ["git", "docker", "mytool", "pythonista", "nodeos", "bashful", "sshd", "ssh", "aws"])
def test_other_programs_are_not(name: str) -> None:
    assert not is_interpreter(f"/usr/bin/{name}")


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (("python3", "app.py"), "app.py"),
        (("python3", "-I", "-B", "/x/app.py", "--flag"), "/x/app.py"),
        (("anything", "app.py"), "app.py"),
        (("python3",), None),
        (("python3", "-"), None),
        (("python3", ""), None),
        (("python3", "-c", "evil", "app.py"), None),
        (("python3", "-m", "app"), None),
        (("python3", "-i", "app.py"), None),
        (("python3", "-W", "app.py"), None),
        (("python3", "-X", "importtime", "app.py"), None),
        (("python3", "-Ic", "evil"), None),
        (("python3", "--", "app.py"), None),
    ],
)
def test_only_the_plain_form_declares_a_script(argv: tuple[str, ...], expected: str | None) -> None:
    assert declared_script("/usr/bin/python3.11", argv) == expected


@pytest.mark.parametrize(
    ("interpreter", "argv"),
    [
        ("/usr/bin/bash", ("bash", "+e", "evil.sh")),  # an option to bash, and a link named +e to the registered script
        ("/usr/bin/python3.11", ("python3", "/proc/self/cwd/app.py")),  # another folder to whoever looks
        ("/usr/bin/python3.11", ("python3", "//./proc/self/fd/3")),
        ("/usr/bin/python3.11", ("python3", "/dev/stdin")),
        ("/usr/bin/deno", ("deno", "run", "evil.ts")),  # the first word is a command of its own
        ("/usr/bin/java", ("java", "Evil")),
        ("/usr/bin/mawk", ("awk", "BEGIN{}", "data")),
    ],
)
def test_what_an_interpreter_reads_otherwise_declares_nothing(interpreter: str, argv: tuple[str, ...]) -> None:
    assert declared_script(interpreter, argv) is None


def test_flags_of_one_interpreter_are_not_those_of_another() -> None:
    assert declared_script("/usr/bin/node", ("node", "-I", "app.js")) is None
    assert declared_script("/usr/bin/node", ("node", "--require", "evil.js", "app.js")) is None
    assert declared_script("/usr/bin/node", ("node", "app.js")) == "app.js"
    app = r"C:\app.py"
    for name in ("python.exe", "pythonw.exe", "Python3.13.exe"):
        assert declared_script(rf"C:\Python\{name}", (name, "-I", app)) == app
        assert declared_script(rf"C:\Python\{name}", (name, "-m", app)) is None
    assert declared_script(r"C:\Windows\py.exe", ("py", app)) is None  # which starts another
    assert declared_script("/usr/bin/python", ("python", "app.py")) is None
    assert declared_script("/usr/bin/dash", ("sh", "-e", "run.sh")) == "run.sh"
    assert declared_script("/usr/bin/dash", ("sh", "-c", "evil", "run.sh")) is None


def test_a_publisher_that_is_asked_for_must_have_signed_the_code() -> None:
    policy = policy_of({**TOOL, "publisher": "ABCDE12345"})
    tool = native("/bin/tool", A)
    assert isinstance(match(parse_policy(policy), msgspec.structs.replace(tool, publisher="ABCDE12345")), Entry)
    for publisher, found in (
        ("", "nobody that this system vouches for"),
        ("ABCDE1234", "ABCDE1234"),
        ("abcde12345",) * 2,
    ):
        denial = match(parse_policy(policy), msgspec.structs.replace(tool, publisher=publisher))
        assert isinstance(denial, Denial)
        assert (denial.reason, denial.field) == ("identity_not_verified", "publisher")
        assert (denial.wanted, denial.found) == ("ABCDE12345", found)
        assert mend(denial) == "install what ABCDE12345 signed, or: keychain-auth register /bin/tool --no-publisher"
    certificate = f"sha256:{A}"
    by_certificate = parse_policy(policy_of({**TOOL, "publisher": certificate}))
    renewed = msgspec.structs.replace(tool, publisher="CN=Contoso", certificate=f"sha256:{B}")
    assert isinstance(match(by_certificate, msgspec.structs.replace(renewed, certificate=certificate)), Entry)
    denial = match(by_certificate, renewed)
    assert isinstance(denial, Denial)
    assert (denial.wanted, denial.found) == (certificate, f"CN=Contoso sha256:{B}")
    signed_by_somebody = msgspec.structs.replace(tool, publisher="ABCDE12345")
    assert isinstance(match(parse_policy(policy_of(TOOL)), signed_by_somebody), Entry)  # nobody was asked for


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({**TOOL, "publisher": ""}, "publisher"),
        ({**TOOL, "publisher": "A\n"}, "publisher"),
        ({**SCRIPT, "publisher": "ABCDE12345"}, "a script has no publisher"),
    ],
)
def test_a_publisher_that_cannot_be(entry: dict[str, object], problem: str) -> None:
    with pytest.raises(PolicyFormatError, match=problem):
        parse_policy(policy_of(entry))
