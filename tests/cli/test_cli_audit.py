"""audit tail, search, report, export: the record as people and other programs read it."""

from __future__ import annotations

import html
import json
import os
import signal
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cli.lab import Terminal
from daemon.requests import PENDING, SUCCESS, denied, read, write
from keychain_auth.audit.summary import summarise
from keychain_auth.cli.commands.auditing import page as pages
from keychain_auth.cli.commands.auditing.page import Chain, page
from support.browser import document_after, picture
from support.world import World

BAIT = "<img src=x onerror=document.title='taken'>"


@pytest.fixture
def busy(running: World) -> World:
    """A world with a record: one program that is served, and refused once, and a stranger."""
    known = running.granted("talker", "aws")
    talker = running.talker(known)
    assert talker.ask(write({"prod:key": "hunter2", "other": "v"})) == SUCCESS
    assert talker.ask(read("prod:key"))["status"] == "success"
    assert talker.ask(read("x", service="gh")) == denied("service_not_allowed")
    stranger = running.build_client("stranger", "other")
    assert running.talker(stranger).ask(read("a")) == denied(PENDING)
    return running


def found(world: World, *words: str) -> list[tuple[Any, Any]]:
    return [(line["action"], line["result"]) for line in world.cli_json("audit", "search", *words)]


def test_search_finds_by_program_service_result_and_time(busy: World) -> None:
    assert found(busy, "--program", "talker", "--service", "aws") == [("write", "GRANTED"), ("read", "GRANTED")]
    assert found(busy, "--denied") == [("read", "DENIED"), ("connect", "DENIED")]
    assert found(busy, "--denied", "--program", busy.path("bin/stranger")) == [("connect", "DENIED")]
    assert found(busy, "--target", "prod:key", "--action", "read", "--since", "5m") == [("read", "GRANTED")]
    assert found(busy, "--denied", "--limit", "1") == [("connect", "DENIED")]
    assert found(busy, "--reason", PENDING, "--since", "2026-05-21") == [("connect", "DENIED")]
    shown = busy.cli("audit", "search", "--denied").stdout
    assert "service_not_allowed" in shown
    assert "hunter2" not in shown


def test_on_a_terminal_that_is_too_narrow_each_event_is_a_line(busy: World, terminal: Callable[..., Terminal]) -> None:
    (line,) = busy.cli_json("audit", "search", "--action", "write")
    shown = terminal("audit", "search", "--action", "write", columns=40)
    assert shown.wait() == 0
    program = busy.path("bin/talker")
    assert shown.screen.split("\r\n") == [f"{line['timestamp']}  write  GRANTED  {program}  aws  prod:key, other", ""]


def test_search_that_finds_nothing_and_a_time_that_is_none(busy: World) -> None:
    assert busy.cli("audit", "search", "--service", "nothing").returncode == 6
    assert busy.cli("audit", "search", "--until", "1w").returncode == 6
    done = busy.cli("audit", "search", "--since", "yesterday")
    assert done.returncode == 2
    assert "30m, 2h and 7d" in done.stderr


def test_tail_follows_and_filters(busy: World) -> None:
    follower = busy.spawn([busy.python, "-m", "keychain_auth", "audit", "tail", "-n", "1", "-f", "--denied", "--json"])
    follower.out.find(lambda line: b"stranger" in line)  # the last line that was there
    talker = busy.talker(busy.path("bin/talker"))
    assert talker.ask(read("prod:key"))["status"] == "success"
    assert talker.ask(read("x", service="new")) == denied("service_not_allowed")
    follower.out.find(lambda line: b'"new"' in line)
    follower.signal(signal.SIGINT)
    assert follower.wait() == 130
    assert [json.loads(line)["result"] for line in follower.out.all()] == ["DENIED", "DENIED"]


def test_a_name_cannot_move_the_terminal_of_who_follows(running: World) -> None:
    evil = running.build_client("evil\x1b[2J\u202e", "evil")
    follower = running.spawn([running.python, "-m", "keychain_auth", "audit", "tail", "-f", "-n", "1"])
    running.talker(evil).ask(read("a"))
    follower.out.find(lambda line: b"evil" in line)
    follower.signal(signal.SIGINT)
    follower.wait()
    assert "evil\\x1b[2J\\u202e" in follower.out.text()
    assert "\x1b" not in follower.out.text()


# --- export -------------------------------------------------------------------------------------


@pytest.fixture
def collector(running: World) -> Iterator[tuple[str, socket.socket]]:
    """A datagram socket where journald or syslog would listen."""
    path = running.path("run/log.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(path)
        running.user.own(path)
        listener.settimeout(60)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024 * 1024)
        yield path, listener


def received(listener: socket.socket, count: int) -> list[bytes]:
    return [listener.recv(1024 * 1024) for _ in range(count)]


def journal_fields(entry: bytes) -> dict[str, str]:
    """What journald would read: each field by its length, never by its newlines."""
    fields = {}
    while entry:
        name, _, rest = entry.partition(b"\n")
        (length,) = struct.unpack("<Q", rest[:8])
        fields[name.decode()] = rest[8 : 8 + length].decode()
        assert rest[8 + length : 9 + length] == b"\n"
        entry = rest[9 + length :]
    return fields


def test_json_and_jsonl_hold_every_line_with_its_chain(busy: World) -> None:
    there = busy.audit()
    assert json.loads(busy.cli("audit", "export", "json").stdout) == there
    assert [json.loads(line) for line in busy.cli("audit", "export", "jsonl").stdout.splitlines()] == there
    file = busy.path("copy.jsonl")
    told = busy.cli_json("audit", "export", "jsonl", file, "--denied")
    assert told == {"exported": 2, "last": there[-1]["seq"]}
    assert os.stat(file).st_mode & 0o777 == 0o600
    assert busy.cli("audit", "export", "json", file).returncode == 2  # it never overwrites
    busy.assert_nowhere("hunter2")


def test_no_line_comes_twice_when_the_last_number_is_given(busy: World) -> None:
    last = busy.cli_json("audit", "export", "jsonl", busy.path("one"))["last"]
    assert busy.cli_json("audit", "export", "jsonl", busy.path("two"), "--after", str(last))["exported"] == 0
    busy.talker(busy.path("bin/talker")).ask(read("prod:key"))
    assert busy.cli_json("audit", "export", "jsonl", busy.path("three"), "--after", str(last))["exported"] == 2


def test_the_journal_gets_fields_that_no_name_can_forge(running: World, collector: tuple[str, socket.socket]) -> None:
    path, listener = collector
    evil = running.build_client("x\nPRIORITY=0\nMESSAGE=all is well", "evil")
    running.talker(evil).ask(read("a"))
    told = running.cli_json("audit", "export", "journald", "--log-socket", path, "--denied")
    [entry] = [journal_fields(one) for one in received(listener, told["exported"])]
    assert entry["PRIORITY"] == "4"
    assert entry["SYSLOG_IDENTIFIER"] == "keychain-auth"
    assert entry["KEYCHAIN_AUTH_BINARY_PATH"] == evil
    assert entry["KEYCHAIN_AUTH_REASON"] == PENDING
    assert entry["MESSAGE"].startswith("DENIED connect to ")
    assert running.audit()[-1]["chain"] == entry["KEYCHAIN_AUTH_CHAIN"]
    # Written as lines, the name would have been two fields of its own, and the entry an emergency.
    naive = f"MESSAGE=DENIED connect to {evil}\nPRIORITY=4\n"
    assert "PRIORITY=0" in naive.splitlines()


def test_syslog_gets_one_line_for_each_and_follows(running: World, collector: tuple[str, socket.socket]) -> None:
    path, listener = collector
    last = running.audit()[-1]["seq"]
    words = ["audit", "export", "syslog", "--log-socket", path, "-f", "--after", str(last)]
    exporter = running.spawn([running.python, "-m", "keychain_auth", *words, "--json"])
    evil = running.build_client("x\n<0>all is well", "evil")
    running.talker(evil).ask(read("a"))
    [datagram] = received(listener, 1)
    exporter.signal(signal.SIGINT)
    assert exporter.wait() == 0
    assert json.loads(exporter.out.text()) == {"exported": 1, "last": running.audit()[-1]["seq"]}
    assert datagram.startswith(b"<84>")  # authpriv, warning
    assert b"\n" not in datagram
    assert json.loads(datagram.partition(b"]: ")[2])["binary_path"] == evil


def test_a_line_that_no_datagram_holds_is_sent_with_fewer_targets(
    running: World, collector: tuple[str, socket.socket]
) -> None:
    path, listener = collector
    names = [f"{number:04}" + "n" * 990 for number in range(900)]
    talker = running.talker(running.granted("talker", "aws"))
    assert talker.ask(write(dict.fromkeys(names, "v")))["status"] == "success"
    told = running.cli_json("audit", "export", "journald", "--log-socket", path, "--action", "write")
    [entry] = [journal_fields(one) for one in received(listener, told["exported"])]
    assert json.loads(entry["KEYCHAIN_AUTH_TARGETS"]) == names[:20]
    assert entry["KEYCHAIN_AUTH_TARGETS_IN_ALL"] == "900"


def test_where_nobody_takes_lines(busy: World) -> None:
    done = busy.cli("audit", "export", "journald", "--log-socket", busy.path("nowhere"))
    assert done.returncode == 1
    assert "nobody takes lines at" in done.stderr
    assert busy.cli("audit", "export", "json", "--follow").returncode == 2
    assert busy.cli("audit", "export", "syslog", "FILE").returncode == 2


# --- report -------------------------------------------------------------------------------------


def test_a_report_says_who_asked_for_what_and_that_the_record_is_whole(busy: World) -> None:
    file = busy.path("report.html")
    told = busy.cli_json("audit", "report", "--html", file)
    assert told["chain"]["state"] == "calm"
    assert told["counts"] == {"granted": 2, "denied": 2, "failed": 0}
    assert {one["program"] for one in told["programs"]} == {busy.path("bin/talker"), busy.path("bin/stranger")}
    with open(file, encoding="utf-8") as stream:
        text = stream.read()
    assert os.stat(file).st_mode & 0o777 == 0o600
    for name in (busy.path("bin/talker"), busy.path("bin/stranger"), PENDING, "The record is whole"):
        assert name in text
    assert "http" not in text.replace("http-equiv", "")  # nothing is loaded from anywhere
    assert "hunter2" not in text
    assert busy.cli("audit", "report").stdout.startswith("The record is whole")


def test_a_report_of_a_damaged_record_says_so_on_top(busy: World) -> None:
    path = os.path.join(busy.data_dir, "audit.log")
    with open(path, "r+b") as file:
        content = file.read()
        file.seek(content.index(b'"GRANTED"', 300))
        file.write(b'"GRANTEd"')
    told = busy.cli_json("audit", "report")
    assert told["chain"]["state"] == "alarm"
    assert "does not fit" in told["chain"]["says"]


def evil_page() -> str:
    """A page about programs, services, targets and reasons that are all HTML."""
    line = {
        "timestamp": "2026-05-21T11:00:00.000000Z", "action": "read", "pid": 4, "binary_path": f"/bin/{BAIT}",
        "binary_hash": f"sha256:{BAIT}", "service": f'"><b>{BAIT}', "targets": [f"'{BAIT}", "</code></td>" + BAIT],
        "result": "DENIED", "reason": f"<script>document.title='taken'</script>{BAIT}",
    }  # fmt: skip
    summary = summarise([line, {**line, "action": "canary"}, {**line, "timestamp": f"<b>{BAIT}"}])
    chain = Chain("alarm", f"does not fit: {BAIT}")
    return page(summary, chain, title=f"who {BAIT}", made=BAIT, period=BAIT)


def test_a_program_called_script_runs_nothing_in_a_real_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    """The attack wins against a page that only puts texts together, and loses to each of our two walls alone."""
    ours = document_after(evil_page())
    assert "<title>who &lt;img" in ours
    assert "<img" not in ours and "<script" not in ours
    monkeypatch.setattr(pages, "_text", str)
    only_policy = document_after(evil_page())
    assert "<img src=" in only_policy  # it is in the page, and may do nothing
    assert "<title>taken</title>" not in only_policy
    monkeypatch.setattr(pages, "_POLICY", "")
    assert "<title>taken</title>" in document_after(evil_page())


def test_escaping_alone_keeps_every_text_a_text() -> None:
    text = evil_page()
    assert BAIT not in text and "<script" not in text
    assert html.escape(BAIT) in text


def test_the_page_fits_narrow_and_wide_windows_light_and_dark(busy: World) -> None:
    file = busy.path("report.html")
    assert busy.cli("audit", "report", "--html", file).returncode == 0
    with open(file, encoding="utf-8") as stream:
        text = stream.read()
    # Nothing may be wider than the window: the document itself measures it, with a script that only this test allows.
    measured = text.replace(html.escape(pages._POLICY, quote=False), "").replace(
        "</body>", "<script>document.title = document.documentElement.scrollWidth <= innerWidth</script></body>"
    )
    assert "<title>true</title>" in document_after(measured)
    sizes = {len(picture(text, width=width, height=900, dark=dark)) for width in (500, 1300) for dark in (True, False)}
    assert len(sizes) == 4  # four different pictures, and none of them empty
    assert min(sizes) > 8000
