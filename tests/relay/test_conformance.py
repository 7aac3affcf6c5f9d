"""The Autobahn test suite (as `kosoku`): through the relay as without it, case by case (C-5).

The server is Autobahn's, as strict as it can be. What counts is the suite's two verdicts
on each case. The close code may differ in one way only: where the server just drops the
connection of a client that broke the protocol, the relay says why.

The cases of 9 (limits), 12 and 13 (compression) take minutes: they need ``--conformance``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytest_twisted
from twisted.internet.endpoints import TCP4ClientEndpoint, wrapClientTLS
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import Certificate, optionsForClientTLS
from twisted.internet.threads import deferToThread

from tests.certificates import Authority
from tests.relay.rig import JOB, TOKEN
from tests.relay.test_loopback import echo_factory, served
from vsmgate.config import TlsConfig
from vsmgate.hands.certificates import Certificates

#: What a relay may add to a dropped connection.
EXPLAINS = {1002, 1007}

ENGINES = ["transports", "sockets"]


class Verdict(NamedTuple):
    """What the suite says of a case."""

    behaviour: str
    close: str
    code: int | None


Verdicts = dict[str, Verdict]

#: What the suite said without a relay: it is asked once for all engines.
DIRECT: dict[tuple[str, ...], Verdicts] = {}


def suite(url: str, folder: Path, cases: list[str]) -> Verdicts:
    """Run cases against a server, and wait for the verdicts."""
    command = [Path(sys.executable).parent / "kosoku", "-p", "4", "-o", folder, *cases, url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1500, check=False)
    index = folder / "index.json"
    assert index.exists(), done.stdout + done.stderr
    (agent,) = json.loads(index.read_text()).values()
    return {
        case: Verdict(said["behavior"], said["behaviorClose"], said["remoteCloseCode"])
        for case, said in agent.items()
    }


def strict() -> Any:
    """An echo server that fails whatever it may, and says so in the closing handshake."""
    factory = echo_factory()
    factory.setProtocolOptions(failByDrop=False, utf8validateIncoming=True)
    factory.protocol = type(
        "Plain", (factory.protocol,), {"onMessage": lambda self, *it: self.sendMessage(*it)}
    )
    return factory


@asynccontextmanager
async def listening(factory: Any) -> AsyncIterator[str]:
    from twisted.internet import reactor

    port: Any = reactor.listenTCP(0, factory, interface="127.0.0.1")  # type: ignore[attr-defined]
    try:
        yield f"ws://127.0.0.1:{port.getHost().port}/"
    finally:
        await port.stopListening()


async def compared(folder: Path, engine: str, *cases: str, least: int) -> None:
    """Run the cases both ways; fail with every difference."""
    async with served(strict(), engine=engine) as (relay, _):
        url = f"ws://127.0.0.1:{relay.port}/{JOB}/renderer?token={TOKEN}"
        relayed = await deferToThread(suite, url, folder / "relayed", list(cases))
    await differ_not(folder, list(cases), relayed, least)


async def differ_not(folder: Path, cases: list[str], relayed: Verdicts, least: int) -> None:
    """Compare with the verdicts without a relay."""
    key = tuple(cases)
    if key not in DIRECT:
        async with listening(strict()) as url:
            DIRECT[key] = await deferToThread(suite, url, folder / "direct", cases)
    direct = DIRECT[key]
    assert relayed.keys() == direct.keys()
    assert len(direct) >= least
    assert not {case: said for case, said in direct.items() if said.behaviour == "FAILED"}
    assert {
        case: (direct[case], said) for case, said in relayed.items() if not same(direct[case], said)
    } == {}


def same(direct: Verdict, relayed: Verdict) -> bool:
    if direct[:2] != relayed[:2]:
        return False
    return direct.code == relayed.code or (direct.code is None and relayed.code in EXPLAINS)


@pytest.mark.criterion("C-5")
@pytest.mark.parametrize("engine", ENGINES)
@pytest_twisted.ensureDeferred
async def test_protocol(engine: str, tmp_path: Path) -> None:
    await compared(tmp_path, engine, "-x", "9.*", "-x", "12.*", "-x", "13.*", least=240)


class Half(Protocol):
    """One side of `Wrapper`'s two connections."""

    other: Half | None = None

    @property
    def tcp(self) -> Any:
        return self.transport

    def dataReceived(self, data: bytes) -> None:
        assert self.other is not None
        self.other.tcp.write(data)

    def connectionLost(self, reason: Any = None) -> None:
        if self.other is not None:
            self.other.tcp.loseConnection()


class Wrapper(Half):
    """Takes a plain connection on by TLS, which the suite's program does not speak."""

    def connectionMade(self) -> None:
        self.tcp.pauseProducing()
        dialling = self.factory.endpoint.connect(Factory.forProtocol(Half))
        dialling.addCallbacks(self._join, lambda failure: self.tcp.abortConnection())

    def _join(self, far: Half) -> None:
        self.other, far.other = far, self
        self.tcp.resumeProducing()


@pytest.mark.criterion("C-5")
@pytest_twisted.ensureDeferred
async def test_protocol_over_tls(tmp_path: Path) -> None:
    from twisted.internet import reactor

    authority = Authority(tmp_path)
    certificate, key = authority.issue("localhost")
    config = TlsConfig(certificate_file=str(certificate), key_file=str(key))
    trusted = optionsForClientTLS("localhost", Certificate.loadPEM(authority.ca.read_bytes()))
    cases = ["-x", "9.*", "-x", "12.*", "-x", "13.*"]
    async with served(strict(), certificates=Certificates(config, "relay.tls")) as (relay, _):
        wrapper: Any = Factory.forProtocol(Wrapper)
        plain = TCP4ClientEndpoint(reactor, "127.0.0.1", relay.port)
        wrapper.endpoint = wrapClientTLS(trusted, plain)
        async with listening(wrapper) as url:
            target = f"{url}{JOB}/renderer?token={TOKEN}"
            relayed = await deferToThread(suite, target, tmp_path / "relayed", cases)
    await differ_not(tmp_path, cases, relayed, least=240)


@pytest.mark.conformance
@pytest.mark.criterion("C-5")
@pytest.mark.parametrize("engine", ENGINES)
@pytest_twisted.ensureDeferred
async def test_limits(engine: str, tmp_path: Path) -> None:
    await compared(tmp_path, engine, "-i", "9.*", least=54)


@pytest.mark.conformance
@pytest.mark.criterion("C-5")
@pytest.mark.parametrize("engine", ENGINES)
@pytest_twisted.ensureDeferred
async def test_compression(engine: str, tmp_path: Path) -> None:
    """Two at a time: the suite gives a case 60 s, and here one Python compresses for all."""
    await compared(tmp_path, engine, "-i", "12.*", "-i", "13.*", "-p", "2", least=216)
