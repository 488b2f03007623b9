"""What a release is made of: packages that are the same for everybody, what is in them, and the notes about it."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from importlib import metadata

import pytest

from release import build, changelog, sbom

ROOT = build.ROOT
VERSION = metadata.version("keychain-auth")
WHEEL = f"keychain_auth-{VERSION}-py3-none-any.whl"
SDIST = f"keychain_auth-{VERSION}.tar.gz"


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """What ``make dist`` makes: built twice, and equal."""
    out = tmp_path_factory.mktemp("dist")
    assert build.main([str(out)]) == 0
    return out


def run(*words: str | pathlib.Path, **env: str) -> str:
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "KEYCHAIN_AUTH_SOCKET")}
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, check=False, timeout=300, cwd="/",
        env={**kept, **env},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr or done.stdout
    return done.stdout


# --- the packages ---------------------------------------------------------------------------------


def test_two_builds_are_the_same_bytes(dist: pathlib.Path) -> None:
    assert sorted(os.listdir(dist)) == [WHEEL, SDIST]


def test_a_build_that_differs_is_noticed(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "build", lambda folder, epoch, odd: {"x.whl": b"1" if odd else b"2"})
    assert build.main([str(tmp_path)]) == 1
    assert os.listdir(tmp_path) == []


def test_the_time_in_them_is_the_one_that_was_asked_for(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = build.build(str(tmp_path), "1600000000", odd=False)
    (tmp_path / "x.whl").write_bytes(made[WHEEL])
    with zipfile.ZipFile(tmp_path / "x.whl") as wheel:
        assert {each.date_time[:3] for each in wheel.infolist()} == {(2020, 9, 13)}
    assert build.epoch_of("## [0.2.0] - 2026-05-21\n## [0.1.0] - 2020-01-01\n") == 1779321600
    assert build.epoch_of("## [0.1.0] - unreleased\n") == 1767225600


def test_the_wheel_holds_the_package_and_nothing_else(dist: pathlib.Path) -> None:
    with zipfile.ZipFile(dist / WHEEL) as wheel:
        names = wheel.namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"keychain_auth", f"keychain_auth-{VERSION}.dist-info", f"keychain_auth-{VERSION}.data"}
    in_source = {
        os.path.relpath(os.path.join(folder, name), os.path.join(ROOT, "src"))
        for folder, _, files in os.walk(os.path.join(ROOT, "src"))
        for name in files
        if not name.endswith((".pyc", ".egg-info")) and "__pycache__" not in folder
    }
    kit = {f"keychain_auth/conformance/files/{name}" for name in ("talker.c", "requests.json")}
    assert {name for name in names if name.startswith("keychain_auth/")} == in_source | kit
    assert "keychain_auth/platform/linux/guarded.c" in names


def test_the_sdist_can_be_tested_and_built_again(dist: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with tarfile.open(dist / SDIST) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
        sdist.extractall(tmp_path)  # noqa: S202 - made by this test
    assert {"Makefile", "LICENSE", "SECURITY.md", "tests/conftest.py", "release/build.py", "docs/protocol.md"} <= names
    assert not [name for name in names if "__pycache__" in name or name.startswith((".venv", "build/"))]
    [folder] = os.listdir(tmp_path)
    out = tmp_path / "again"
    words = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    epoch = str(build.epoch_of((tmp_path / folder / "CHANGELOG.md").read_text("utf-8")))
    subprocess.run(words, cwd=tmp_path / folder, check=True, capture_output=True,
                   env={**os.environ, "SOURCE_DATE_EPOCH": epoch})  # fmt: skip
    assert (out / WHEEL).read_bytes() == (dist / WHEEL).read_bytes()


# --- installed ------------------------------------------------------------------------------------


def works(program: pathlib.Path, folder: pathlib.Path) -> None:
    """The installed command runs, by itself and from nowhere near a checkout."""
    assert run(program, "--version").strip().endswith(VERSION)
    assert "Usage: keychain-auth" in run(program, "--help")
    env = {"HOME": str(folder), "XDG_RUNTIME_DIR": str(folder)}
    done = subprocess.run([program, "get", "a", "b"], capture_output=True, text=True, check=False, cwd="/", env=env)
    assert done.returncode == 4
    assert "daemon is not running" in done.stderr


def test_pip_installs_the_wheel_into_a_fresh_environment(dist: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Without a network: what the package needs is lent to it by this environment."""
    fresh = tmp_path / "fresh"
    run(sys.executable, "-m", "venv", "--without-pip", fresh)
    for words in (["install"], ["install", "--upgrade"]):
        run(sys.executable, "-m", "pip", "--python", fresh / "bin" / "python", *words, "--no-deps", "--no-index",
            "--disable-pip-version-check", dist / WHEEL)  # fmt: skip
    [site] = fresh.glob("lib/python3.*/site-packages")
    (site / "lent.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    where = run(fresh / "bin" / "python", "-c", "import keychain_auth; print(keychain_auth.__file__)").strip()
    assert where.startswith(str(site))
    works(fresh / "bin" / "keychain-auth", tmp_path)
    with open(fresh / "bin" / "keychain-auth", encoding="utf-8") as script:
        assert script.readline().startswith(f"#!{fresh}/bin/python")


def index_variables() -> dict[str, str]:
    """Where pip looks here, for uv, which reads no configuration of pip's."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    settings = dict(re.findall(r"^(?:global|user|site|:env:)\.([a-z-]+)='(.*)'$", listed.stdout, re.MULTILINE))
    found = {}
    if "index-url" in settings:
        found["UV_DEFAULT_INDEX"] = settings["index-url"]
    if "extra-index-url" in settings:
        found["UV_INDEX"] = " ".join(settings["extra-index-url"].replace("\\n", " ").split())
    if "find-links" in settings:
        found["UV_FIND_LINKS"] = ",".join(settings["find-links"].replace("\\n", " ").split())
    if "cert" in settings:
        found["SSL_CERT_FILE"] = settings["cert"]
    return found


@pytest.mark.skipif(not shutil.which("uv"), reason="uv is not here: make packages fetches it")
def test_uv_installs_it_as_a_tool(dist: pathlib.Path, tmp_path: pathlib.Path) -> None:
    folders = {"UV_TOOL_DIR": str(tmp_path / "tools"), "UV_TOOL_BIN_DIR": str(tmp_path / "bin"),
               "UV_CACHE_DIR": str(tmp_path / "cache"), "UV_PYTHON_DOWNLOADS": "never"}  # fmt: skip
    run("uv", "tool", "install", "--python", sys.executable, dist / WHEEL, **folders, **index_variables())
    works(tmp_path / "bin" / "keychain-auth", tmp_path)


@pytest.mark.skipif(not shutil.which("pipx"), reason="pipx is not here: make packages fetches it")
def test_pipx_installs_it(dist: pathlib.Path, tmp_path: pathlib.Path) -> None:
    folders = {"PIPX_HOME": str(tmp_path / "pipx"), "PIPX_BIN_DIR": str(tmp_path / "bin")}
    run("pipx", "install", "--python", sys.executable, dist / WHEEL, **folders)
    works(tmp_path / "bin" / "keychain-auth", tmp_path)


# --- the bill of materials ------------------------------------------------------------------------


def test_the_bill_of_materials_is_what_is_locked() -> None:
    with open(sbom.LOCK, encoding="utf-8") as file:
        lock = file.read()
    made = sbom.document(VERSION, lock)
    names = {component["name"] for component in made["components"]}
    with open(os.path.join(ROOT, "pyproject.toml"), "rb") as file:
        needs = tomllib.load(file)["project"]["dependencies"]
    assert {re.split(r"[^a-z0-9-]", need)[0] for need in needs} <= names
    assert sum(len(component["externalReferences"]) for component in made["components"]) == lock.count("--hash=sha256:")
    for component in made["components"]:
        assert component["purl"] == f"pkg:pypi/{component['name']}@{component['version']}"
    assert made["dependencies"][0]["dependsOn"] == [component["bom-ref"] for component in made["components"]]
    assert json.dumps(sbom.document(VERSION, lock)) == json.dumps(made)
    assert sbom.document("9.9.9", lock)["serialNumber"] != made["serialNumber"]


def test_it_says_from_nowhere_where_a_package_came_from() -> None:
    with open(sbom.LOCK, encoding="utf-8") as file:
        text = json.dumps(sbom.document(VERSION, file.read()))
    assert set(re.findall(r"https?://([^/\"]+)", text)) == {"cyclonedx.org"}


@pytest.mark.parametrize("line", ["--index-url https://example.org", "click>=8", "-e .", "click==8.1 \\\nrich==13 \\"])
def test_a_lock_file_that_is_not_understood_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="hash"):
        sbom.packages(line)


# --- the changelog --------------------------------------------------------------------------------


def fragments(folder: pathlib.Path, **texts: str) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "README.md").write_text("about")
    for name, text in texts.items():
        (folder / f"{name.replace('__', '.').replace('_', '-')}.md").write_text(text)
    return str(folder)


def test_fragments_become_a_section(tmp_path: pathlib.Path) -> None:
    folder = fragments(
        tmp_path, b__fixed="It no longer\nforgets.", a_new__added="A thing. " * 30 + "End.", c__added="C."
    )
    text = changelog.inserted(
        "# Changelog\n\n## [0.1.0] - 2026-01-01\n\nold\n", "0.2.0", "2026-05-21", changelog.read(folder)
    )
    assert text.startswith("# Changelog\n\n## [0.2.0] - 2026-05-21\n\n### Added\n\n- A thing.")
    assert text.index("- C.") < text.index("### Fixed\n\n- It no longer forgets.\n") < text.index("## [0.1.0]")
    assert max(map(len, text.splitlines())) <= 118
    assert text.endswith("\n\nold\n")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x__improved", "A."),
        ("X__fixed", "A."),
        ("x", "A."),
        ("x__fixed", "no end"),
        ("x__fixed", "- A."),
        ("x__fixed", ""),
    ],
)
def test_a_fragment_of_another_form_is_refused(tmp_path: pathlib.Path, name: str, text: str) -> None:
    with pytest.raises(changelog.Doubtful):
        changelog.read(fragments(tmp_path, **{name: text}))


@pytest.mark.parametrize(("version", "date"), [("0.1.0", "2026-05-21"), ("1", "2026-05-21"), ("0.2.0", "today")])
def test_a_doubtful_release_is_refused(version: str, date: str) -> None:
    with pytest.raises(changelog.Doubtful):
        changelog.inserted("## [0.1.0] - unreleased\n", version, date, {"added": ["A."]})
    with pytest.raises(changelog.Doubtful):
        changelog.inserted("## [0.1.0] - unreleased\n", "0.2.0", "2026-05-21", {})


def test_the_fragments_that_are_here_are_in_order() -> None:
    changelog.read(os.path.join(ROOT, "changes"))


# --- the workflow ---------------------------------------------------------------------------------


def test_every_action_of_every_workflow_is_pinned_by_its_commit() -> None:
    folder = pathlib.Path(ROOT, ".github", "workflows")
    used = []
    for path in folder.glob("*.yml"):
        used += re.findall(r"^\s*(?:- )?uses: (.+)$", path.read_text("utf-8"), re.MULTILINE)
    assert used
    for action in used:
        assert re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action


def test_a_release_has_no_more_rights_than_each_of_its_steps_needs() -> None:
    text = pathlib.Path(ROOT, ".github", "workflows", "release.yml").read_text("utf-8")
    assert "\npermissions: {}\n" in text
    assert "secrets." not in text
    build_job, rest = text[text.index("  build:") :].split("\n  attest:")
    assert "write" not in build_job  # whatever a dependency does while it is tested, it can sign and publish nothing
    attest_job, publish_job = rest.split("\n  publish:")
    assert "run:" not in attest_job
    assert "attestations: write" in attest_job
    assert "environment: release" in publish_job
