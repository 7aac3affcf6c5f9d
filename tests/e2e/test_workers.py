"""Several relay processes on one port: shared, watched, counted together, drained together."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.e2e.rig import Gateway
from tests.e2e.site import Site
from vsmgate.shipped import conf_folder

WORKERS = 3


@pytest.fixture
def crewed(make_gateway: Callable[..., Gateway], tmp_path: Path) -> Gateway:
    text = (conf_folder() / "vsmgate.toml").read_text()
    config = tmp_path / "crew.toml"
    settings = f"[relay]\nworkers = {WORKERS}\ndrain = 0.5\ndrain_spread = 0.1"
    config.write_text(text.replace("[relay]", settings, 1))
    return make_gateway("--config", str(config))


def workers(gateway: Gateway) -> list[int]:
    """Return the pids of the gateway's relay workers."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            line = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"vsmgate.worker" in line and bytes(gateway.state_dir.resolve()) in line:
            found.append(int(folder.name))
    return sorted(found)


def server_of(socket: ClientConnection, pids: list[int]) -> int:
    """Return which of ``pids`` holds the other end of a connection."""
    port = socket.transport.get_extra_info("sockname")[1]
    inodes = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[2].partition(":")[2], 16) == port:
            inodes.add(f"socket:[{fields[9]}]")
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # the worker closed it meanwhile
                if os.readlink(descriptor) in inodes:
                    return pid
    pytest.fail("nobody serves it")


def total(gateway: Gateway, name: str) -> float:
    text = gateway.ask("GET", "/metrics").body.decode()
    found = re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE)
    return sum(map(float, found))


async def talk(socket: ClientConnection) -> None:
    await socket.send(b'{"jsonrpc": "2.0", "id": 1, "method": "get-version"}')
    assert await asyncio.wait_for(socket.recv(), 10)


def test_workers_share_the_port_and_die_alone(crewed: Gateway) -> None:
    job_id = crewed.start_demo()
    pids = crewed.until(lambda: len(w := workers(crewed)) == WORKERS and w, "the workers")
    url = f"ws://{crewed.relay}/{job_id}/backend?token={crewed.token}"

    async def go() -> None:
        async with AsyncExitStack() as stack:
            sockets = []
            by_worker: dict[int, list[ClientConnection]] = {}
            for _ in range(60):
                socket = await stack.enter_async_context(connect(url))
                await talk(socket)
                sockets.append(socket)
                by_worker.setdefault(server_of(socket, pids), []).append(socket)
                if len(by_worker) > 1 and len(sockets) > 8:
                    break
            await asyncio.to_thread(
                crewed.until,
                lambda: total(crewed, "vsmgate_relay_connections") == len(sockets),
                "the sum of all relays",
            )
            victim = min(by_worker, key=lambda pid: len(by_worker[pid]))
            os.kill(victim, signal.SIGKILL)
            for pid, served in by_worker.items():
                for socket in served:
                    if pid == victim:
                        with pytest.raises(ConnectionClosed):
                            await asyncio.wait_for(socket.recv(), 10)
                    else:
                        await talk(socket)
            rest = len(sockets) - len(by_worker[victim])
            await asyncio.to_thread(
                crewed.until,
                lambda: total(crewed, "vsmgate_relay_connections") == rest,
                "the relays of the dead to be gone",
            )
            async with connect(url) as socket:  # there is always somebody
                await talk(socket)
            await asyncio.to_thread(
                crewed.until,
                lambda: len(w := workers(crewed)) == WORKERS and victim not in w,
                "another worker in its place",
            )
            opened = total(crewed, "vsmgate_relay_opening_seconds_count")
            assert opened >= len(sockets), "what the dead worker counted stays counted"

    asyncio.run(go())
    assert crewed.token not in crewed.log


def test_sigterm_drains_all(crewed: Gateway) -> None:
    job_id = crewed.start_demo()
    url = f"ws://{crewed.relay}/{job_id}/backend?token={crewed.token}"

    async def hold() -> list[int | None]:
        async with AsyncExitStack() as stack:
            sockets: list[Any] = [await stack.enter_async_context(connect(url)) for _ in range(6)]
            for socket in sockets:
                await talk(socket)
            ended = asyncio.get_running_loop().run_in_executor(None, crewed.end, signal.SIGTERM)
            for socket in sockets:
                await socket.wait_closed()
            assert await ended == 0
            return [socket.close_code for socket in sockets]

    assert asyncio.run(hold()) == [1012] * 6
    assert workers(crewed) == []


def test_a_killed_gateway_leaves_no_worker(crewed: Gateway) -> None:
    crewed.until(lambda: len(workers(crewed)) == WORKERS, "the workers")
    crewed.end(signal.SIGKILL)
    crewed.until(lambda: workers(crewed) == [], "the workers to go by themselves")


def test_a_stop_reaches_the_workers(crewed: Gateway) -> None:
    job_id = crewed.start_demo()

    async def go() -> int | None:
        url = f"ws://{crewed.relay}/{job_id}/backend?token={crewed.token}"
        async with connect(url) as socket:
            await talk(socket)
            assert (await asyncio.to_thread(crewed.ask, "POST", f"/stop/{job_id}")).status == 200
            await asyncio.wait_for(socket.wait_closed(), 10)
            return socket.close_code

    assert asyncio.run(go()) == 4410


def test_limits_hold_across_the_workers(
    make_gateway: Callable[..., Gateway], tmp_path: Path
) -> None:
    site = Site(tmp_path, more="[relay]\nworkers = 3\nmax_per_user = 5\n")
    site.usecase("few", service='health = { kind = "websocket" }\nmax_clients = 3')
    gateway = make_gateway(*site.options)
    jobs = [gateway.ask("POST", "/start", {"usecase": "few"}).json["job_id"] for _ in range(2)]
    for job_id in jobs:
        gateway.wait_ready(job_id)
    pids = gateway.until(lambda: len(w := workers(gateway)) == 3 and w, "the workers")

    def only(pid: int) -> None:
        for other in pids:
            os.kill(other, signal.SIGCONT if other == pid else signal.SIGSTOP)

    async def go() -> None:
        async with AsyncExitStack() as stack:

            async def opened(job_id: str) -> ClientConnection | None:
                url = f"ws://{gateway.relay}/{job_id}/echo?token={gateway.token}"
                try:
                    return await stack.enter_async_context(connect(url))
                except InvalidStatus as refused:
                    if refused.response.status_code != 429:
                        raise
                    return None

            only(pids[0])
            first = await opened(jobs[0])
            assert first is not None
            assert await opened(jobs[0])
            only(pids[1])
            assert await opened(jobs[0])
            assert not await opened(jobs[0]), "three clients of the service"
            only(pids[2])
            assert not await opened(jobs[0])
            assert await opened(jobs[1])
            assert await opened(jobs[1])
            assert not await opened(jobs[1]), "five of the user"
            os.kill(pids[0], signal.SIGCONT)
            await first.close()
            os.kill(pids[1], signal.SIGKILL)  # and its place is free too
            for _ in range(2):
                for _ in range(400):
                    if await opened(jobs[0]):
                        break
                    await asyncio.sleep(0.05)
                else:
                    pytest.fail("a place was not given back")

    try:
        asyncio.run(go())
    finally:
        for pid in workers(gateway):
            os.kill(pid, signal.SIGCONT)
