"""Who loads the daemon: writers that each own a service and know what it holds, watchers, and a stranger.

Contract: every answer is compared with what the model says it must be, field by field. An error is accepted only while
the weather (``weather.Weather``) gives a reason for it.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from typing import Any

from soak.client import Client, Gone
from soak.model import Change, Lost, Model
from soak.weather import Weather
from support.world import World

SUCCESS = {"type": "RESPONSE", "status": "success"}
UNAVAILABLE = ("audit_unavailable", "internal_error")
GROUP = [f"group:{number}" for number in range(5)]  # always written together: they never differ
TARGETS = [f"t{number:02}" for number in range(20)]
_STILL_UNDER_WAY = 2.0  # seconds
_LONG = 6000  # characters: such a value lies on the disk only


class Worker(threading.Thread):
    """A thread with a client. ``failure`` is what ended it too soon."""

    def __init__(self, world: World, weather: Weather, number: int, program: str, seed: int) -> None:
        super().__init__(name=f"{type(self).__name__.lower()}-{number}", daemon=True)
        self.client = Client(world, program)
        self.counts: Counter[str] = Counter()
        self.failure: BaseException | None = None
        self.world = world
        self.weather = weather
        self.chance = random.Random(f"{seed} {self.name}")
        self.trail: deque[str] = deque(maxlen=60)  # what happened last, for whoever has to find out
        self.lives = -1  # of the daemon, when this connection was made

    def run(self) -> None:
        try:
            while not self.weather.over:
                try:
                    self.meet()
                    while not self.weather.over:
                        self.work()
                except Gone as gone:
                    self.trail.append(f"gone: {gone}")
                    self.counts["connections lost"] += 1
        except BaseException as failure:  # noqa: BLE001 - told at the end, and ends the run
            self.failure = failure
            for step in self.trail:
                print(f"{self.name}: {re.sub('x{9,}', 'x…', step)}"[:300])
            self.weather.stop()
        finally:
            self.client.close()

    def meet(self) -> None:
        """Connect, as soon as that is possible."""
        deadline = time.monotonic() + 90
        while True:
            self.lives = self.weather.lives
            try:
                self.client.connect()
                if self.lives != self.weather.lives:
                    continue  # it is not known to which of them
                self.trail.append(f"connected in life {self.lives}")
                return
            except Gone:
                assert time.monotonic() < deadline, "the daemon does not come back"
                if self.weather.over:
                    raise
                self.weather.changed(0.02)

    def work(self) -> None:
        raise NotImplementedError

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """One request, one answer."""
        self.client.send([request])
        self.counts["requests"] += 1
        answer = self.client.answer()
        self.counts["answers"] += 1
        return answer

    def accept(self, answer: Mapping[str, Any], expected: Mapping[str, Any], began: float) -> bool:
        """True if it is what it must be, False if it is an error that has its reason. Raises Lost."""
        if answer == expected:
            return True
        if answer.get("status") == "error" and answer.get("reason") in UNAVAILABLE and self.weather.bad_since(began):
            self.counts[str(answer["reason"])] += 1
            return False
        raise Lost(f"{self.name}: answered {shortened(answer)}, expected {shortened(expected)}")


class Writer(Worker):
    """Owns a service: nobody else changes it."""

    def __init__(self, world: World, weather: Weather, number: int, program: str, seed: int) -> None:
        super().__init__(world, weather, number, program, seed)
        self.service = f"service-{number}"
        self.model = Model()
        self._round = 0
        self._seen_lives = 0

    def meet(self) -> None:
        super().meet()
        if len(self.model.possible) > 1 and self.lives == self._seen_lives:
            # The client died, not the daemon: what it had sent is still read from its socket and carried out.
            self.weather.changed(_STILL_UNDER_WAY)
        while not self._look():
            self.weather.changed(0.05)

    def work(self) -> None:
        kind = self.chance.choices((self._changes, self._reads, self._look, self._revoked), (50, 45, 4, 1))[0]
        kind()

    def _look(self) -> bool:
        """Read everything: after a lost connection that says what happened. False while nothing can be read."""
        began = time.monotonic()
        answer = self.ask(self._request("read", match="prefix", targets=["t", "group:"]))
        if answer.get("status") != "success":
            return self.accept(answer, SUCCESS, began)
        found = {item["target"]: item["value"] for item in answer["results"]}
        assert [item["target"] for item in answer["results"]] == sorted(found), "not sorted, or one twice"
        self.model.seen(found, self.lives != self._seen_lives)
        self._seen_lives = self.lives
        self.counts["looks at a whole service"] += 1
        return True

    def _changes(self) -> None:
        """Several changes in one go: their answers come in their order."""
        changes = [self._change() for _ in range(self.chance.choice((1, 1, 2, 5)))]
        began = time.monotonic()
        try:
            self.client.send([self._as_request(change) for change in changes])
        except Gone:
            self.model.unanswered(changes)
            raise
        self.counts["requests"] += len(changes)
        for number, change in enumerate(changes):
            try:
                answer = self.client.answer()
            except Gone:
                self.trail.append(f"unanswered: {changes[number:]}")
                self.model.unanswered(changes[number:])
                raise
            self.counts["answers"] += 1
            self.trail.append(f"{number + 1} of {len(changes)}: {change}: {answer}")
            if self.accept(answer, SUCCESS, began):
                self.model.done(change)
                self.counts["changes acknowledged"] += 1
            else:
                self.model.refused(change)

    def _change(self) -> Change:
        self._round += 1
        value = f"{self.service} {self._round}"
        match self.chance.randrange(10):
            case 0:
                return Change(targets=tuple(self.chance.sample(TARGETS, 3)))
            case 1:
                return Change(targets=tuple(GROUP))
            case 2:
                return Change({self.chance.choice(TARGETS): value + "x" * _LONG})
            case 3 | 4 | 5:
                return Change(dict.fromkeys(GROUP, value))
            case _:
                return Change(dict.fromkeys(self.chance.sample(TARGETS, self.chance.randrange(1, 12)), value))

    def _reads(self) -> None:
        began = time.monotonic()
        targets = self.chance.sample([*TARGETS, *GROUP, "missing"], self.chance.randrange(1, 8))
        content = self.model.content
        found = [{"target": target, "value": content[target]} for target in targets if target in content]
        self.accept(self.ask(self._request("read", targets=targets)), {**SUCCESS, "results": found}, began)
        began = time.monotonic()
        names = [{"target": target} for target in sorted(content) if target.startswith("group:")]
        self.accept(self.ask(self._request("search", targets=["group:"])), {**SUCCESS, "results": names}, began)
        began = time.monotonic()
        refused = {"type": "RESPONSE", "status": "denied", "reason": "service_not_allowed"}
        request = {**self._request("read", targets=["t01"]), "service": "somebody-elses"}
        self.accept(self.ask(request), refused, began)
        self.counts["refusals"] += 1

    def _revoked(self) -> None:
        """Somebody edits the policy: the very next request is judged by it."""
        refused = {"type": "RESPONSE", "status": "denied", "reason": "service_not_allowed"}
        with self.weather.policy(self.client.program, [], []):
            began = time.monotonic()
            self.accept(self.ask(self._request("read", targets=["t01"])), refused, began)
            change = self._change()
            began = time.monotonic()
            try:
                answer = self.ask(self._as_request(change))
            except Gone:  # it may still lie in the socket, and be judged by the policy that comes next
                self.model.unanswered([change])
                raise
            self.trail.append(f"while revoked: {change}: {answer}")
            self.accept(answer, refused, began)
        self.counts["policy edits"] += 1

    def _request(self, action: str, **fields: Any) -> dict[str, Any]:
        return {"type": "REQUEST", "action": action, "service": self.service, **fields}

    def _as_request(self, change: Change) -> dict[str, Any]:
        if change.values:
            return self._request("write", targets=list(change.values), values=list(change.values.values()))
        return self._request("delete", targets=list(change.targets))


class Watcher(Worker):
    """Reads what others write: batches are whole at every moment."""

    def __init__(self, services: list[str], *words: Any) -> None:
        super().__init__(*words)
        self._services = services

    def work(self) -> None:
        began = time.monotonic()
        service = self.chance.choice(self._services)
        request = {"type": "REQUEST", "action": "read", "service": service, "match": "prefix", "targets": ["group:"]}
        answer = self.ask(request)
        if answer.get("status") != "success":
            self.accept(answer, SUCCESS, began)
            return
        values = [item["value"] for item in answer["results"]]
        if len(values) not in (0, len(GROUP)) or len(set(values)) > 1:
            raise Lost(f"{self.name}: half a batch of {service}: {shortened(answer)}")
        self.counts["batches seen whole"] += 1


class Stranger(Worker):
    """Is not registered, and is told so."""

    def work(self) -> None:
        answer = self.client.answer() if self.chance.random() < 0.5 else self.ask({"type": "REQUEST"})
        assert answer["status"] != "success", shortened(answer)
        if self.weather.calm:
            allowed = ("unregistered_binary_pending_approval", "rate_limited", *UNAVAILABLE)
            assert answer["reason"] in allowed, shortened(answer)
        self.counts["strangers refused"] += 1
        self.weather.changed(0.3)
        raise Gone("its one answer")


def shortened(answer: Mapping[str, Any]) -> str:
    """An answer without what would fill a screen."""
    text = re.sub("x{9,}", "x…", str(answer))
    return text if len(text) < 600 else f"{text[:600]}… ({len(text)} characters)"
