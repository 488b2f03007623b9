"""keychain-auth inject: a file with secrets in it, whole or not at all."""

from __future__ import annotations

import os
import stat

from support.world import World


def test_a_template_is_filled_into_a_private_file(stocked: World) -> None:
    text = "url={{ keychain://app/url }}\n{{keychain://app/odd/na%20me}}|{{ other }}|{{ keychain://app/url }}\n"
    template = stocked.write("app.tmpl", text, 0o644)
    out = stocked.write("app.conf", "old\n", 0o644)
    assert stocked.cli_json("inject", "--in", template, "--out", out)["secrets"] == 2
    with open(out, encoding="utf-8") as file:
        assert file.read() == "url=postgres://x\nzwei\nZeilen \U0001f511|{{ other }}|postgres://x\n"
    assert stat.S_IMODE(os.stat(out).st_mode) == 0o600
    done = stocked.cli("inject", "-i", "-", "-o", "-", input="<{{ keychain://app/url }}>")
    assert (done.returncode, done.stdout) == (0, "<postgres://x>")


def test_a_template_is_filled_whole_or_not_at_all(stocked: World) -> None:
    out = stocked.write("app.conf", "old\n")
    for text, code, why in (
        ("{{ keychain://app/url }} {{ keychain://app/no }} {{ keychain://app/nor }}", 6, "app/nor"),
        ("{{ keychain://app }} {{ keychain://app/url }}", 2, "names no secret"),
        ("nothing here", 2, "holds no {{ keychain://"),
    ):
        done = stocked.cli("inject", "-i", stocked.write("t", text), "-o", out)
        assert (done.returncode, done.stdout) == (code, "")
        assert "nothing was written" in done.stderr
        assert why in done.stderr
    with open(out, encoding="utf-8") as file:
        assert file.read() == "old\n"
    assert sorted(name for name in os.listdir(stocked.home) if "conf" in name) == [".config", "app.conf"]


def test_what_is_no_file_is_not_written_over(stocked: World) -> None:
    template = stocked.write("t", "{{ keychain://app/url }}")
    os.symlink(stocked.path("elsewhere"), stocked.path("link"))
    for out in (stocked.path("link"), stocked.path("bin")):
        done = stocked.cli("inject", "-i", template, "-o", out)
        assert done.returncode == 2
        assert "no regular file" in done.stderr
    assert not os.path.exists(stocked.path("elsewhere"))
