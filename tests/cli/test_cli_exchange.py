"""export and import: out and in again, nothing overwritten unasked, all on record, no value where it should not be."""

from __future__ import annotations

import json
import os
from collections.abc import Callable

from support.world import World

ENV = 'DATABASE_URL="postgres://a:b@c/d"\nTOKEN=abc # comment\n'


def test_out_and_in_again_on_another_machine(worlds: Callable[[], World]) -> None:
    here, there = worlds(), worlds()
    here.start()
    for service, target, value in (("aws", "a", "1"), ("aws", "b", "two\nlines"), ("gcp", "ünï", "x" * 9000)):
        assert here.cli("set", service, target, input=value).returncode == 0
    done = here.cli("export", "--format", "json", here.path("out.json"))
    assert done.returncode == 0
    assert "in the clear" in done.stderr
    assert os.stat(here.path("out.json")).st_mode & 0o777 == 0o600
    text = here.cli("export", "--format", "json", "-").stdout
    there.start()
    assert there.cli_json("import", "--format", "json", "-", input=text)["new"] == ["aws a", "aws b", "gcp ünï"]
    assert there.cli("get", "gcp", "ünï").stdout == "x" * 9000
    assert there.cli("export", "--format", "json", "-").stdout == text
    assert [line["targets"] for line in here.audit() if line["action"] == "admin_export"][:2] == [["a", "b"], []]
    assert ["a", "b"] in [line["targets"] for line in there.audit() if line["action"] == "admin_import"]


def test_a_dry_run_stores_nothing_and_what_is_there_is_kept(running: World) -> None:
    path = running.write("app.env", ENV)
    words = ("import", "--format", "dotenv", "--service", "app", path)
    done = running.cli(*words, "--dry-run")
    assert done.stdout.splitlines()[:2] == ["new      app DATABASE_URL", "new      app TOKEN"]
    assert running.cli_json("list-secrets") == []
    assert running.cli_json(*words)["new"] == ["app DATABASE_URL", "app TOKEN"]
    assert running.cli("get", "app", "DATABASE_URL").stdout == "postgres://a:b@c/d"
    assert running.cli_json(*words)["same"] == ["app DATABASE_URL", "app TOKEN"]  # it can be repeated
    running.write("app.env", ENV.replace("abc", "new"))
    done = running.cli(*words)
    assert "1 kept" in done.stdout
    assert "--replace" in done.stderr
    assert running.cli("get", "app", "TOKEN").stdout == "abc"
    assert running.cli_json(*words, "--replace")["replaced"] == ["app TOKEN"]
    assert running.cli("get", "app", "TOKEN").stdout == "new"
    assert running.cli("restore-value", "app", "TOKEN").returncode == 0  # and even that can be undone
    assert running.cli("export", "--format", "dotenv", "--service", "app", "-").stdout == (
        'DATABASE_URL="postgres://a:b@c/d"\nTOKEN="abc"\n'
    )


def test_hundreds_of_one_password_manager(running: World) -> None:
    rows = "".join(f"site {number},https://{number},ann,pw {number},\n" for number in range(300))
    path = running.write("p.csv", "name,url,username,password,note\n" + rows)
    assert len(running.cli_json("import", "--format", "chrome", "--service", "web", path)["new"]) == 300
    out = running.cli("export", "--format", "chrome", "--service", "web", "-").stdout
    assert sorted(out.splitlines()[1:]) == sorted(rows.splitlines())
    found = json.loads(running.cli("list-secrets", "web", "--json").stdout)
    assert found[0]["attributes"]["username"] == "ann"


def test_what_is_wrong_stores_nothing(running: World) -> None:
    path = running.write("bad.env", "A=1\nnot a line\n")
    done = running.cli("import", "--format", "dotenv", "--service", "app", path)
    assert (done.returncode, "line 2" in done.stderr) == (2, True)
    done = running.cli("import", "--format", "dotenv", running.write("a.env", "A=1\n"))
    assert (done.returncode, "--service" in done.stderr) == (2, True)
    assert running.cli("import", "--format", "json", running.path("missing")).returncode == 6
    done = running.cli("import", "--format", "json", "--service", "app", "-", input=b'{"a\\u0001b":"v"}')
    assert done.returncode == 2
    assert running.cli_json("list-secrets") == []
    assert running.cli("set", "aws", "a", input="v").returncode == 0
    assert running.cli("export", "--format", "json", path).returncode == 2
    assert running.cli("export", "--format", "dotenv", "-").returncode == 2
    assert running.cli("export", "--format", "dotenv", "--service", "nothing", "-").returncode == 6
