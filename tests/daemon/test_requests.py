"""What a registered program gets: the contract, end to end, over the real socket."""

from __future__ import annotations

import json

from daemon.requests import PENDING, SUCCESS, denied, failed, read, request, results, write
from support.world import World

URLS = {f"proj_123:{name}:DATABASE_URL": f"postgres://{name}/app" for name in ("development", "staging", "production")}


def test_a_batch_is_written_and_one_environment_read(world: World) -> None:
    world.granted("talker", "aws")
    world.start()
    talker = world.talker(world.path("bin/talker"))
    assert talker.ask(write(URLS, attributes={"kind": "url"})) == SUCCESS
    target = "proj_123:staging:DATABASE_URL"
    item = {"target": target, "value": URLS[target], "attributes": {"kind": "url"}}
    assert talker.ask(read("proj_123:staging:", match="prefix")) == results(item)
    assert talker.ask(read(target)) == results(item)


def test_read_rules(world: World) -> None:
    world.granted("talker", "aws")
    world.start()
    talker = world.talker(world.path("bin/talker"))
    talker.ask(write({"b": "2", "a": "", "c/d": "\u0000\n\U0001f600"}))
    in_order = [{"target": "c/d", "value": "\u0000\n\U0001f600"}, {"target": "a", "value": ""}]
    assert talker.ask(read("c/d", "missing", "a")) == results(*in_order)
    assert talker.ask(read("missing")) == results()
    assert talker.ask(read("a", "c/d", "a", "a")) == results(*reversed(in_order))
    by_prefix = talker.ask(read("b", "a", "c", "c/", match="prefix"))
    assert [item["target"] for item in by_prefix["results"]] == ["a", "b", "c/d"]


def test_attributes_filter_what_is_read_searched_and_deleted(world: World) -> None:
    world.granted("talker", "aws")
    world.start()
    talker = world.talker(world.path("bin/talker"))
    talker.ask(write({"a": "1", "b": "2"}, attributes={"env": "staging", "team": "x"}))
    talker.ask(write({"c": "3"}, attributes={"env": "production"}))
    assert [i["target"] for i in talker.ask(request("search", attributes={"env": "staging"}))["results"]] == ["a", "b"]
    assert talker.ask(read("a", "c", attributes={"env": "production"}))["results"][0]["target"] == "c"
    assert talker.ask(read("a", attributes={"env": "staging", "team": "y"})) == results()
    talker.ask(request("delete", targets=["a", "c"], attributes={"env": "production"}))
    assert [i["target"] for i in talker.ask(request("search"))["results"]] == ["a", "b"]


def test_no_entry_allows_the_empty_prefix_and_a_search_without_targets_is_the_whole_service(world: World) -> None:
    world.granted("talker", "aws")
    world.start()
    talker = world.talker(world.path("bin/talker"))
    talker.ask(write({"a": "1", "b": "2"}))
    for fields in ({"targets": [""], "match": "prefix"}, {"targets": [""]}, {"targets": ["a", ""], "match": "prefix"}):
        for action in ("read", "delete"):
            assert talker.ask(request(action, **fields)) == failed("malformed_request")
    assert [item["target"] for item in talker.ask(request("search"))["results"]] == ["a", "b"]


def test_a_search_never_returns_a_value(world: World) -> None:
    world.granted("talker", "aws")
    world.start()
    talker = world.talker(world.path("bin/talker"))
    talker.ask(write({"a": "needle"}))
    talker.send(request("search"))
    assert b"needle" not in talker.readline()


def test_delete_exact_and_by_prefix(world: World) -> None:
    world.granted("talker", "aws")
    world.start()
    talker = world.talker(world.path("bin/talker"))
    talker.ask(write({"p:1": "", "p:2": "", "q:1": ""}))
    assert talker.ask(request("delete", targets=["p:1", "never there"])) == SUCCESS
    assert talker.ask(request("delete", targets=["p:"], match="prefix")) == SUCCESS
    assert [item["target"] for item in talker.ask(request("search"))["results"]] == ["q:1"]
    removed = [line["targets"] for line in world.audit() if line["action"] == "delete"]
    assert removed == [["p:1", "never there"], ["p:2"]]


def test_pipelined_requests_are_answered_in_order(world: World) -> None:
    world.granted("talker", "aws")
    world.start()
    talker = world.talker(world.path("bin/talker"))
    asked = []
    for number in range(100):  # writes wait for the disk, reads do not: the order must hold all the same
        asked += [write({"n": str(number)}), read("n"), read("n", "x" * 300)]
    talker.send(*asked)
    for number in range(100):
        assert talker.answer() == SUCCESS
        for _ in range(2):
            assert talker.answer() == results({"target": "n", "value": str(number)})


def test_a_denied_batch_touches_nothing(world: World) -> None:
    world.granted("talker", "aws", allowed_targets=["mine:"])
    world.start()
    talker = world.talker(world.path("bin/talker"))
    assert talker.ask(write({"mine:a": "1", "yours:b": "2"})) == denied("target_not_allowed")
    assert talker.ask(request("search")) == results()
    assert talker.ask(read("mine:a", "yours:b")) == denied("target_not_allowed")
    assert talker.ask(read("mine:a", service="gcp")) == denied("service_not_allowed")


def test_a_malformed_request_leaves_the_connection_open(world: World) -> None:
    world.granted("talker", "aws")
    world.start()
    talker = world.talker(world.path("bin/talker"))
    for line in (
        b"\n",
        b"hello\n",
        b"\xff\xfe\n",
        b'{"type":"REQUEST"}\n',
        json.dumps(read("a", x=1)).encode() + b"\n",
    ):
        talker.send_raw(line)
        assert talker.answer() == failed("malformed_request")
    assert talker.ask(read("a")) == results()


def test_a_last_line_without_newline_is_never_executed(world: World) -> None:
    world.granted("talker", "aws")
    world.start()
    talker = world.talker(world.path("bin/talker"))
    talker.send_raw(json.dumps(write({"a": "1"})).encode())
    talker.order("half-close")
    assert talker.eof()
    assert talker.answers() == []
    talker.reconnect()
    assert talker.ask(read("a")) == results()


def test_what_was_asked_before_the_end_of_input_is_answered(world: World) -> None:
    world.granted("talker", "aws")
    world.start()
    talker = world.talker(world.path("bin/talker"))
    talker.send(write({"a": "1"}), read("a"))
    talker.order("half-close")
    assert talker.answer() == SUCCESS
    assert talker.answer() == results({"target": "a", "value": "1"})
    assert talker.eof()


def test_check_is_about_oneself(world: World) -> None:
    world.granted("talker", "aws")
    world.start()
    talker = world.talker(world.path("bin/talker"))
    assert talker.ask(request("check")) == SUCCESS
    assert talker.ask(request("check", "gcp")) == denied("service_not_allowed")
    assert talker.ask(request("check", targets=["/usr/bin/git"])) == denied("action_not_in_policy")


def test_large_answers_arrive_whole(world: World) -> None:
    world.granted("talker", "aws")
    world.start()
    talker = world.talker(world.path("bin/talker"))
    value = "x" * 200_000
    for number in range(30):
        assert talker.ask(write({f"big:{number:02}": value})) == SUCCESS
    answer = talker.ask(read("big:", match="prefix"))
    assert [len(item["value"]) for item in answer["results"]] == [200_000] * 30


def test_the_audit_log_has_every_attempt_and_no_value(world: World) -> None:
    program = world.granted("talker", "aws")
    world.start()
    talker = world.talker(program)
    talker.ask(write({"a": "hunter2-value"}))
    talker.ask(read("a"))
    talker.ask(read("a", service="gcp"))
    talker.ask(request("search"))
    talker.send_raw(b'{"hunter2-noise"\n')
    talker.answer()
    lines = [line for line in world.audit() if line["pid"] == talker.pid]
    told = [(line["action"], line["service"], line["targets"], line["result"], line["reason"]) for line in lines]
    assert told == [
        ("connect", "", [], "GRANTED", ""),
        ("write", "aws", ["a"], "GRANTED", ""),
        ("read", "aws", ["a"], "GRANTED", ""),
        ("read", "gcp", ["a"], "DENIED", "service_not_allowed"),
        ("search", "aws", ["a"], "GRANTED", ""),
        ("request", "", [], "ERROR", "malformed_request"),
    ]
    assert {line["binary_path"] for line in lines} == {program}
    world.assert_nowhere("hunter2-value", "hunter2-noise")


def test_secrets_outlive_the_daemon(world: World) -> None:
    world.granted("talker", "aws")
    daemon = world.start()
    assert world.talker(world.path("bin/talker")).ask(write(URLS)) == SUCCESS
    assert daemon.stop() == 0
    world.start()
    talker = world.talker(world.path("bin/talker"))
    assert len(talker.ask(read("proj_123:", match="prefix"))["results"]) == 3


def test_a_stranger_is_told_and_queued(world: World) -> None:
    world.start()
    talker = world.talker()
    assert talker.ask(read("a")) == denied(PENDING)
    assert talker.eof()
    [entry] = world.pending()
    assert entry["path"] == world.path("bin/talker")
    assert entry["pid"] == talker.pid
    assert entry["user"] == world.user.name
    assert world.path("bin/talker") in entry["command_line"]
