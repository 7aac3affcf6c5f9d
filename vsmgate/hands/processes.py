"""Starts processes that go on without us."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorProcess
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

__all__ = ["Companion", "spawn"]


class Companion(ProcessProtocol):
    """A process that says by closing its standard output that it is on its way.

    ``settled`` fires with None then, and also when the process ends before. ``on_exit`` is
    called when it has ended and was reaped, if this process still lives to see it.
    """

    def __init__(self, on_exit: Callable[[], None]) -> None:
        self.settled: Deferred[None] = Deferred(lambda _: None)
        self._on_exit = on_exit

    def childConnectionLost(self, childFD: int) -> None:
        """Notice that the standard output was closed."""
        if childFD == 1 and not self.settled.called:
            self.settled.callback(None)

    def processEnded(self, reason: Failure) -> None:
        """Notice the end; its status is of no interest, because the process tells itself."""
        self._on_exit()


def spawn(
    reactor: IReactorProcess,
    argv: Sequence[str],
    environment: Mapping[str, str],
    descriptors: Mapping[int, int],
    on_exit: Callable[[], None],
) -> Companion:
    """Start ``argv`` with ``descriptors`` (the child's number -> ours) and nothing else open.

    ``argv[0]`` is a path. The child's descriptor 1 is not to be among ``descriptors``: it
    is what `Companion` waits on. Raises `OSError`.
    """
    companion = Companion(on_exit)
    reactor.spawnProcess(
        companion, argv[0], argv, dict(environment), childFDs={1: "r", **descriptors}
    )
    return companion
