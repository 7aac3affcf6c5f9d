"""What machines ask: is it alive, is it ready, how is it doing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from vsmgate.api.call import Call
from vsmgate.api.metrics import CONTENT_TYPE, Metrics
from vsmgate.api.reply import Reply, json_reply
from vsmgate.api.route import Route
from vsmgate.errors import (
    AuthenticatorUnavailable,
    Problem,
    TooManyFailures,
    Unauthenticated,
    Unavailable,
)

__all__ = ["Probes"]


class Health(Struct, frozen=True):
    """All is well."""

    status: str


class NotReady(Unavailable):
    """The gateway runs, and should be sent no new work."""

    code = "not_ready"
    title = "The gateway is not ready"


class Probes:
    """``problems``: why the gateway is not ready, a sentence each."""

    def __init__(
        self, problems: Callable[[], Sequence[str]], metrics: Metrics, *, open_metrics: bool
    ) -> None:
        self._problems = problems
        self._metrics = metrics
        self._open_metrics = open_metrics

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("GET", "/healthz", self.health, "Is it alive", {200: Health}, open=True),
            Route(
                "GET", "/readyz", self.ready, "Is it ready", {200: Health}, (NotReady,), open=True
            ),
            Route(
                "GET",
                "/metrics",
                self.metrics,
                "Numbers for Prometheus",
                {200: CONTENT_TYPE.decode("ascii")},
                ()
                if self._open_metrics
                else (Unauthenticated, TooManyFailures, AuthenticatorUnavailable),
                open=self._open_metrics,
            ),
        ]

    async def health(self, call: Call) -> Reply:
        """Answer."""
        return json_reply(200, Health("ok"))

    async def ready(self, call: Call) -> Reply:
        """Answer, or fail with everything that is missing."""
        problems = self._problems()
        if problems:
            raise NotReady(" ".join(problems), problems=[Problem("", text) for text in problems])
        return json_reply(200, Health("ready"))

    async def metrics(self, call: Call) -> Reply:
        """Show the numbers."""
        return Reply(200, self._metrics.render(), CONTENT_TYPE)
