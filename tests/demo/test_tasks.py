from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Generator
from typing import Any

import pytest
from twisted.internet.defer import Deferred, execute
from twisted.internet.task import Clock

from vsmgate.demo.entrypoints import Entrypoint, Registry, Reply
from vsmgate.demo.jsonrpc import Frame, InvalidParams, Kind, TaskCancelled
from vsmgate.demo.schemas import number, record
from vsmgate.demo.tasks import CANCEL, TaskQueue


class Client:
    def __init__(self) -> None:
        self.frames: list[Frame] = []

    def send(self, frame: Frame) -> None:
        self.frames.append(frame)

    @property
    def messages(self) -> list[Any]:
        return [json.loads(frame.data) for frame in self.frames if not frame.binary]


class HeldPool:
    """Work that begins when the test says so, in the test's own thread."""

    def __init__(self) -> None:
        self._held: list[tuple[Deferred[None], Callable[[], Any]]] = []

    def run(self, work: Callable[[], Any]) -> Awaitable[Any]:
        start: Deferred[None] = Deferred()
        self._held.append((start, work))
        return start.addCallback(lambda _: execute(work))

    def report(self, call: Callable[..., object], *arguments: Any) -> None:
        call(*arguments)

    def go(self) -> None:
        """Let what is held run to its end."""
        self._held.pop(0)[0].callback(None)

    @property
    def held(self) -> int:
        return len(self._held)


class Bench:
    def __init__(self) -> None:
        self.pool, self.clock, self.registry = HeldPool(), Clock(), Registry()
        self.queue = TaskQueue(self.registry, self.pool, self.clock)
        self.between: Callable[[], None] = lambda: None
        self.ended = 0
        self.registry.add(
            CANCEL,
            Entrypoint(
                "double",
                "Double",
                lambda params, payload: Reply(2 * params["value"], payload),
                params=record("P", value=number("", "integer", minimum=0, default=21)),
            ),
            Entrypoint("slow", "Slow", self.slow, cancellable=True),
            Entrypoint("broken", "Broken", self.broken),
        )

    def slow(self, *_: object) -> Generator[float, None, str]:
        for step in range(4):
            yield step / 4
            self.clock.advance(0.15)
            self.between()
        self.ended += 1
        return "done"

    def broken(self, *_: object) -> None:
        raise RuntimeError("oh")

    def send(self, client: Client, method: str, id: int | None = 1, params: Any = None) -> None:
        message = {"jsonrpc": "2.0", "method": method, "id": id, "params": params}
        self.queue.receive(client, Kind.TEXT, json.dumps(message).encode())


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_request_is_answered(bench: Bench) -> None:
    client = Client()
    bench.send(client, "double", 7, {"value": 4})
    bench.pool.go()
    assert client.messages == [{"jsonrpc": "2.0", "id": 7, "result": 8}]
    bench.send(client, "double", 8)
    bench.pool.go()
    assert client.messages[1]["result"] == 42


def test_a_payload_comes_back_in_a_binary_frame(bench: Bench) -> None:
    client = Client()
    text = b'{"jsonrpc":"2.0","method":"double","id":1}'
    bench.queue.receive(client, Kind.BINARY, len(text).to_bytes(4, "little") + text + b"\x01\x02")
    bench.pool.go()
    (frame,) = client.frames
    assert frame.binary
    assert frame.data.endswith(b"}\x01\x02")


def test_requests_run_one_after_another_whoever_sent_them(bench: Bench) -> None:
    one, two = Client(), Client()
    bench.send(one, "slow")
    bench.send(two, "double")
    assert bench.pool.held == 1
    bench.pool.go()
    assert two.messages == []
    assert bench.pool.held == 1
    bench.pool.go()
    assert two.messages[0]["result"] == 42


def test_no_id_no_reply(bench: Bench) -> None:
    client = Client()
    bench.send(client, "double", None)
    bench.pool.go()
    bench.send(client, "nowhere", None)
    assert client.messages == []


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("nowhere", None, -32601),
        ("double", {"value": -1}, -32602),
        ("double", [1], -32602),
        ("slow", {"unexpected": 1}, -32602),
    ],
)
def test_what_cannot_be_done_is_an_error(bench: Bench, method: str, params: Any, code: int) -> None:
    client = Client()
    bench.send(client, method, 5, params)
    if bench.pool.held:
        bench.pool.go()
    assert client.messages[0]["id"] == 5
    assert client.messages[0]["error"]["code"] == code


def test_an_unreadable_request_is_an_error_without_id(bench: Bench) -> None:
    client = Client()
    bench.queue.receive(client, Kind.OTHER, b"{}")
    assert client.messages[0]["id"] is None
    assert client.messages[0]["error"]["code"] == -32600


def test_a_fault_of_ours_is_logged_and_told(bench: Bench, flush_logged: Any) -> None:
    client = Client()
    bench.send(client, "broken")
    bench.pool.go()
    assert client.messages[0]["error"] == {"code": -32603, "message": "oh"}
    assert len(flush_logged(RuntimeError)) == 1
    bench.send(client, "double")
    bench.pool.go()
    assert client.messages[1]["result"] == 42


def test_progress_comes_at_intervals_and_names_the_request(bench: Bench) -> None:
    client = Client()
    bench.send(client, "slow", 3)
    bench.pool.go()
    *progress, reply = client.messages
    # Steps at 0, 0.15, 0.3 and 0.45 s, and 0.2 s between two messages.
    assert [message["params"]["amount"] for message in progress] == [0.0, 0.5]
    assert {message["params"]["id"] for message in progress} == {3}
    assert all("id" not in message for message in progress)
    assert reply["result"] == "done"


def test_cancel_has_priority_and_stops_at_the_next_step(bench: Bench) -> None:
    client = Client()
    bench.between = lambda: bench.send(client, "cancel", None, {"id": 3})
    bench.send(client, "slow", 3)
    bench.pool.go()
    assert bench.ended == 0
    assert client.messages[-1]["error"] == {"code": 20, "message": str(TaskCancelled())}


def test_what_waits_can_be_cancelled_too(bench: Bench) -> None:
    client = Client()
    bench.send(client, "double", 1)
    bench.send(client, "slow", 2)
    bench.send(client, "cancel", 3, {"id": 2})
    assert client.messages == [{"jsonrpc": "2.0", "id": 3, "result": None}]
    bench.pool.go()
    assert [message["id"] for message in client.messages] == [3, 1, 2]
    assert client.messages[2]["error"]["code"] == 20


def test_only_ones_own_running_cancellable_request_can_be_cancelled(bench: Bench) -> None:
    client, other = Client(), Client()
    bench.send(client, "slow", 1)
    bench.send(client, "double", 2)
    with pytest.raises(InvalidParams, match="No requests"):
        bench.queue.cancel(other, 1)
    with pytest.raises(InvalidParams, match="not cancellable"):
        bench.queue.cancel(client, 2)
    bench.queue.cancel(client, 1)
    with pytest.raises(InvalidParams, match="already"):
        bench.queue.cancel(client, 1)


def test_who_leaves_is_not_worked_for(bench: Bench) -> None:
    gone, other = Client(), Client()
    bench.between = lambda: bench.queue.disconnect(gone)
    bench.send(gone, "slow", 1)
    bench.send(gone, "double", 2)
    bench.send(other, "double", 3)
    bench.pool.go()
    bench.pool.go()
    assert bench.ended == 0
    assert [message for message in gone.messages if "id" in message] == []
    assert other.messages[0]["id"] == 3
    assert bench.pool.held == 0


def test_closing_stops_at_the_next_step(bench: Bench) -> None:
    client = Client()
    bench.between = bench.queue.close
    bench.send(client, "slow", 1)
    bench.pool.go()
    assert bench.ended == 0
    assert [message for message in client.messages if "id" in message] == []
