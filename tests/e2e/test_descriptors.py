"""A gateway that runs out of file descriptors: it refuses, does not spin, and recovers."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake

from tests.e2e.rig import Gateway
from tests.e2e.site import Site


def ticks(pid: int) -> int:
    """Return the processor's time of a process, in hundredths of a second."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_too_many_clients_for_its_descriptors(
    make_gateway: Callable[..., Gateway], tmp_path: Path
) -> None:
    site = Site(tmp_path, more="[relay]\nmax_per_user = 1000\nmax_connections = 30\n")
    gateway = make_gateway(*site.options)
    job_id = gateway.ask("POST", "/start", {"usecase": "echo"}).json["job_id"]
    gateway.wait_ready(job_id)
    url = f"ws://{gateway.relay}/{job_id}/echo?token={gateway.token}"

    async def echo(socket: ClientConnection) -> None:
        await socket.send(b"x")
        assert await asyncio.wait_for(socket.recv(), 20) == b"x"

    async def go() -> None:
        async with AsyncExitStack() as stack:
            held = [await stack.enter_async_context(connect(url)) for _ in range(5)]
            used = len(list(Path(f"/proc/{gateway.pid}/fd").iterdir()))
            before = resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE)
            few = (used + 6, before[1])  # some can be accepted, and few services dialled
            resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE, few)

            async def attempt() -> str:
                try:
                    async with asyncio.timeout(20), connect(url):
                        return "came in"
                except (InvalidHandshake, OSError) as error:
                    return str(error) or type(error).__name__

            began = ticks(gateway.pid)
            said = await asyncio.gather(*(attempt() for _ in range(24)))
            assert "TimeoutError" not in said, "everybody is answered, or hung up on"
            assert any("503" in one for one in said)
            for socket in held:
                await echo(socket)
            waiting = [await asyncio.open_connection(*gateway.relay.split(":")) for _ in range(20)]
            start = ticks(gateway.pid)
            await asyncio.sleep(1.0)  # the measured time, not a wait for something
            assert ticks(gateway.pid) - start < 50, "it spins"
            assert ticks(gateway.pid) - began < 500
            for _, writer in waiting:
                writer.close()
            resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE, before)
            await echo(await stack.enter_async_context(connect(url)))
            for socket in held:
                await echo(socket)

    asyncio.run(go())
    assert gateway.ask("GET", "/readyz").status == 200
