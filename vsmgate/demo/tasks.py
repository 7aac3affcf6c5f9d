"""Requests, one after another.

As in Brayns, one queue serves all clients: a request runs when those before it have
ended, whoever sent them. It runs in a thread handed in, step by step, so the reactor
stays free for what has priority: ``cancel``, and clients that leave.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Generator
from threading import Event
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from vsmgate.demo.entrypoints import Entrypoint, Outcome, Registry, Reply
from vsmgate.demo.jsonrpc import (
    Frame,
    InternalError,
    InvalidParams,
    Kind,
    Request,
    RequestId,
    RpcError,
    TaskCancelled,
    error_frame,
    parse_request,
    progress_frame,
    reply_frame,
)
from vsmgate.demo.schemas import record

__all__ = ["CANCEL", "Client", "Pool", "TaskQueue"]

# Progress no more often than this, in seconds: the Python client keeps 100 messages.
PROGRESS_PERIOD = 0.2

# The method with priority. Its handler only takes the id out; the queue does the rest.
CANCEL = Entrypoint(
    name="cancel",
    description="Cancel the task started by the request with the given ID",
    handle=lambda params, _: params["id"],
    params=record(
        "CancelParams",
        ("id",),
        id={
            "description": "ID of the request to cancel",
            "oneOf": [{"type": "integer"}, {"type": "string"}],
        },
    ),
)


class Client(Protocol):
    """Who sent a request. ``send`` is called in the reactor thread, and never fails."""

    def send(self, frame: Frame) -> None: ...


class Pool(Protocol):
    """Where the work is done: ``run`` calls in another thread, ``report`` calls back."""

    def run(self, work: Callable[[], Any]) -> Awaitable[Any]: ...

    def report(self, call: Callable[..., object], *arguments: Any) -> None: ...


class _Task:
    def __init__(self, client: Client, request: Request, entrypoint: Entrypoint) -> None:
        self.client = client
        self.request = request
        self.entrypoint = entrypoint
        self.stop = Event()
        self.left = False
        self.reported = float("-inf")


class TaskQueue:
    """Runs what clients ask for. All methods are called in the reactor thread.

    ``versioned``: see `parse_request`.
    """

    _log = Logger()

    def __init__(
        self, registry: Registry, pool: Pool, clock: IReactorTime, versioned: bool = True
    ) -> None:
        self._registry = registry
        self._versioned = versioned
        self._pool = pool
        self._clock = clock
        self._tasks: deque[_Task] = deque()
        self._draining: Deferred[None] | None = None

    def receive(self, client: Client, kind: Kind, data: bytes) -> None:
        """Take a message; what answers it goes to the client."""
        try:
            request = parse_request(kind, data, self._versioned)
        except RpcError as error:
            self._log.info("unreadable request: {error}", error=error.message)
            client.send(error_frame(None, error))
            return
        try:
            entrypoint = self._registry.find(request.method)
            if entrypoint is CANCEL:
                self.cancel(client, self._registry.call(request))
                _answer(client, request, None)
                return
        except RpcError as error:
            self._log.info("refused {method}: {error}", method=request.method, error=error.message)
            _answer(client, request, error)
            return
        self._tasks.append(_Task(client, request, entrypoint))
        if self._draining is None:
            self._draining = Deferred.fromCoroutine(self._drain())
            self._draining.addErrback(lambda failure: self._log.failure("queue", failure))
            self._draining.addBoth(self._drained)

    def cancel(self, client: Client, identity: RequestId) -> None:
        """Cancel the client's own request. Raises `InvalidParams` when that cannot be."""
        tasks = [t for t in self._tasks if t.client is client and t.request.id == identity]
        if not tasks:
            raise InvalidParams(f"No requests found with ID {identity}.")
        for task in tasks:
            if not task.entrypoint.cancellable:
                raise InvalidParams(f"Method '{task.entrypoint.name}' is not cancellable.")
            if task.stop.is_set():
                raise InvalidParams(f"Request {identity} already cancelled")
            task.stop.set()

    def disconnect(self, client: Client) -> None:
        """The client has left: nobody waits for its requests."""
        for task in self._tasks:
            if task.client is client:
                task.left = True
                if task.entrypoint.cancellable:
                    task.stop.set()

    def close(self) -> None:
        """Stop at the next step; nobody is answered any more."""
        for task in self._tasks:
            task.left = True
            task.stop.set()

    def _drained(self, _: object) -> None:
        self._draining = None

    async def _drain(self) -> None:
        while self._tasks:
            try:
                await self._execute(self._tasks[0])
            finally:
                self._tasks.popleft()

    async def _execute(self, task: _Task) -> None:
        if task.left:
            return
        outcome: Outcome
        try:
            if task.stop.is_set():
                raise TaskCancelled
            outcome = await self._pool.run(lambda: self._work(task))
        except RpcError as error:
            outcome = error
        except Exception as error:
            self._log.failure("request {method} failed", method=task.request.method)
            outcome = InternalError(str(error))
        if not task.left:
            _answer(task.client, task.request, outcome)

    def _work(self, task: _Task) -> Outcome:
        """The request's work. Runs in the pool's thread."""
        outcome = self._registry.call(task.request)
        if not isinstance(outcome, Generator):
            return outcome
        while True:
            try:
                amount = next(outcome)
            except StopIteration as end:
                return end.value
            if task.stop.is_set():
                raise TaskCancelled
            if task.entrypoint.cancellable:
                self._pool.report(self._progress, task, amount)

    def _progress(self, task: _Task, amount: float) -> None:
        now = self._clock.seconds()
        if task.left or task.stop.is_set() or task.request.id is None:
            return
        if now - task.reported >= PROGRESS_PERIOD:
            task.reported = now
            operation = f"{task.entrypoint.description} ..."
            task.client.send(progress_frame(task.request, operation, amount))


def _answer(client: Client, request: Request, outcome: Outcome) -> None:
    if request.id is None:
        return
    if isinstance(outcome, RpcError):
        client.send(error_frame(request.id, outcome))
    elif isinstance(outcome, Reply):
        client.send(reply_frame(request.id, outcome.result, outcome.payload))
    else:
        client.send(reply_frame(request.id, outcome))
