"""Free ports for the services of local jobs."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from vsmgate.errors import EngineRefused
from vsmgate.model import Service

__all__ = ["Ports"]


class Ports:
    """Knows which ports live jobs were given, and finds others.

    A port is found free by binding it. Between that and the moment when the service binds
    it, only the memory here keeps it from being given to another job.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._given: dict[str, frozenset[int]] = {}

    def note(self, job_id: str, ports: frozenset[int]) -> None:
        """Remember the ports of a job that lives."""
        self._given[job_id] = ports

    def release(self, job_id: str) -> None:
        """Forget the ports of a job."""
        self._given.pop(job_id, None)

    @contextmanager
    def reserved(self, job_id: str, services: Mapping[str, Service]) -> Iterator[dict[str, int]]:
        """Give the ports of a job's services, and note them; kept bound inside of the block.

        Fails with `EngineRefused`, code ``port_busy``, for a fixed port that is in use.
        """
        taken = frozenset().union(*self._given.values())
        ports: dict[str, int] = {}
        with ExitStack() as sockets:
            for name, service in services.items():
                found = self._bound(name, service.port, taken, sockets)
                ports[name] = found
            self.note(job_id, frozenset(ports.values()))
            yield ports

    def _bound(self, name: str, port: int | None, taken: frozenset[int], sockets: ExitStack) -> int:
        if port in taken:
            raise self._busy(name, port, "another job has it")
        while True:
            bound = sockets.enter_context(socket.socket(self._family, socket.SOCK_STREAM))
            if port is not None:
                # As servers do: connections of an earlier server that linger do not count.
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                bound.bind((self._address, port or 0))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise self._busy(name, port, "something listens there") from None
                raise EngineRefused(
                    f"Port {port} of service {name} cannot be used on {self._address}: "
                    f"{os.strerror(error.errno or 0)}.",
                    code="port_unusable",
                ) from None
            found: int = bound.getsockname()[1]
            if found not in taken:  # else it stays bound, so that another one is found
                return found

    def _busy(self, name: str, port: int | None, why: str) -> EngineRefused:
        return EngineRefused(
            f"Port {port} of service {name} is in use on {self._address}: {why}. End that, or "
            f"leave the port out of the use case to get a free one.",
            code="port_busy",
        )
