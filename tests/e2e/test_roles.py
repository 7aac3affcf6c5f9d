"""A master and a relay as two processes on one state directory."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.e2e.rig import PATIENCE, ROOT, Gateway
from tests.e2e.site import Site


@contextlib.contextmanager
def relay_of(site: Site, folder: Path) -> Iterator[str]:
    """Run a relay by itself; give its ``host:port``."""
    command = [sys.executable, str(ROOT / "bin" / "_twistd"), "-n", "--pidfile=", "vsmgate"]
    options = [*site.options, "--state-dir", str(folder / "state"), "--role", "relay"]
    with (folder / "relay.log").open("w") as log:
        process = subprocess.Popen(
            [*command, *options, "--relay-port", "0"],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=folder,
        )
    watchdog = threading.Timer(PATIENCE, process.kill)
    watchdog.start()
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if found := re.match(r" *relay +ws://(\S+)", line):
                break
        else:
            pytest.fail((folder / "relay.log").read_text(), pytrace=False)
        yield found[1]
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
        assert "Traceback" not in (folder / "relay.log").read_text()
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
        process.stdout.close()


def test_two_processes_are_one_gateway(
    make_gateway: Callable[..., Gateway], tmp_path: Path
) -> None:
    site = Site(tmp_path)
    with relay_of(site, tmp_path) as address:
        site.usecase("echo", limits="idle_timeout = 3.0")
        site.write(more=f'[relay]\npublic_base = "{address}"\n')
        gateway = make_gateway(*site.options, "--role", "master")
        job_id = gateway.ask("POST", "/start", {"usecase": "echo"}).json["job_id"]
        url = f"ws://{gateway.wait_ready(job_id)['job_url']}"
        assert url == f"ws://{address}/{job_id}/echo"
        ticket = gateway.ask("POST", f"/v1/jobs/{job_id}/tickets", {"service": "echo"}).json
        asyncio.run(use(gateway, url, ticket["url"], job_id))
        gateway.until(lambda: gateway.ask("GET", f"/status/{job_id}").status == 410, "the end")
        assert gateway.ask("GET", f"/v1/jobs/{job_id}").json["reason"]["code"] == "idle"

        job_id = gateway.ask("POST", "/start", {"usecase": "echo"}).json["job_id"]
        gateway.wait_ready(job_id)
        asyncio.run(be_stopped(gateway, f"ws://{address}/{job_id}/echo", job_id))


async def use(gateway: Gateway, url: str, ticket_url: str, job_id: str) -> None:
    """Connect by token and by ticket; stay longer than the idle time; then be idle."""
    async with connect(ticket_url) as socket:
        await socket.send("by ticket")
        assert await socket.recv() == "by ticket"
    with pytest.raises(InvalidStatus):  # a ticket is for one WebSocket
        await connect(ticket_url)
    with pytest.raises(InvalidStatus):
        await connect(url)
    async with connect(f"{url}?token={gateway.token}", ping_interval=0.5) as socket:
        for number in range(16):
            await socket.send(str(number))
            assert await socket.recv() == str(number)
            await asyncio.sleep(0.25)
        await asyncio.wait_for(socket.wait_closed(), PATIENCE)
        assert socket.close_code == 4410
        assert "No client sent data" in (socket.close_reason or "")


async def be_stopped(gateway: Gateway, url: str, job_id: str) -> None:
    """Stop the job while connected: the other process tells so."""
    async with connect(f"{url}?token={gateway.token}") as socket:
        assert gateway.ask("POST", f"/stop/{job_id}").status == 200
        await asyncio.wait_for(socket.wait_closed(), PATIENCE)
        assert socket.close_code == 4410
        assert "stopped it" in (socket.close_reason or "")


def test_a_second_master_on_the_same_store_is_refused(
    make_gateway: Callable[..., Gateway], tmp_path: Path
) -> None:
    site = Site(tmp_path)
    named = 'kind = "sql"\nurl = "sqlite:///jobs.sqlite3"'
    site.config.write_text(site.config.read_text().replace('kind = "sql"', named))
    gateway = make_gateway(*site.options)
    (tmp_path / "other").mkdir()
    second = Gateway(tmp_path / "other" / "state", *site.options)
    try:
        with pytest.raises(
            pytest.fail.Exception, match=rf"store\.url: .*\(pid {gateway.pid}\) uses this job store"
        ):
            second.start()
    finally:
        second.close()
