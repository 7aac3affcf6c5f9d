"""A newcomer's first hour: start the demo, draw a picture, stop; and what can go wrong."""

from __future__ import annotations

import asyncio
import io
import json
import signal
import struct
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy
import pytest
import websockets
from PIL import Image
from websockets.asyncio.client import connect

from tests.e2e.rig import Gateway
from vsmgate.demo.client import brayns


def picture(renderer: Any, x: float) -> Any:
    """Return the pixels of a snapshot, seen from ``x``."""
    view = brayns.View(brayns.Vector3(x, 0, 300), brayns.Vector3.zero)
    camera = brayns.Camera(view=view)
    snapshot = brayns.Snapshot(resolution=brayns.Resolution(160, 90), camera=camera)
    return numpy.asarray(Image.open(io.BytesIO(snapshot.download(renderer))).convert("RGB"))


def draw(url: str, token: str) -> None:
    """Do what a scientist does in Python; the picture must follow the camera."""
    with brayns.Connector(f"{url}?token={token}", max_attempts=3).connect() as renderer:
        brayns.check_version(renderer)
        assert "render-image" in brayns.get_methods(renderer)
        before, after = picture(renderer, 0), picture(renderer, 150)
        assert before.shape == (90, 160, 3)
        assert before.std() > 2, "the picture shows nothing"
        assert (before != after).any(), "the picture did not follow the camera"


def test_start_draw_stop(gateway: Gateway) -> None:
    job_id = gateway.start_demo()
    status = gateway.wait_ready(job_id)
    assert status["job_running"] is status["brayns_started"] is True
    end = datetime.fromisoformat(status["end_time"])
    assert status["end_time"].endswith("+00:00")
    assert end > datetime.now(UTC)
    assert status["job_url"] == f"{gateway.relay}/{job_id}/renderer"
    draw(status["job_url"], gateway.token)

    assert gateway.job_processes(job_id)
    assert gateway.stop_job(job_id)["code"] == "job_ended"
    gateway.until(lambda: not gateway.job_processes(), "the job's processes to be gone")
    assert gateway.ask("POST", f"/stop/{job_id}").status == 200
    assert gateway.token not in gateway.log


def test_the_gateway_adds_little_to_the_start(gateway: Gateway) -> None:
    job_id = gateway.start_demo()
    timings = gateway.ask("GET", f"/v1/jobs/{job_id}").json["timings"]
    assert timings, "a ready job tells how long its start took"
    assert all(value >= 0 for value in timings.values() if value is not None)


def test_jobs_survive_a_killed_gateway(gateway: Gateway) -> None:
    jobs = [gateway.start_demo(), gateway.start_demo()]
    processes = gateway.job_processes()
    gateway.end(signal.SIGKILL)
    assert gateway.job_processes() == processes
    gateway.start()
    listed = gateway.ask("GET", "/v1/jobs").json["items"]
    assert {(job["id"], job["state"]) for job in listed} == {(job, "ready") for job in jobs}
    for job_id in jobs:
        draw(gateway.wait_ready(job_id)["job_url"], gateway.token)
        assert gateway.ask("POST", f"/stop/{job_id}").status == 200
    gateway.until(lambda: not gateway.job_processes(), "the adopted jobs to be gone")


def test_sigterm_ends_it_cleanly_and_leaves_jobs(gateway: Gateway) -> None:
    job_id = gateway.start_demo()
    assert gateway.end(signal.SIGTERM) == 0
    assert gateway.job_processes(job_id)
    gateway.start()
    assert gateway.wait_ready(job_id)


def test_an_open_relay_holds_the_end_up_until_the_drain_is_over(
    make_gateway: Callable[..., Gateway], tmp_path: Any
) -> None:
    from vsmgate.shipped import conf_folder

    text = (conf_folder() / "vsmgate.toml").read_text()
    config = tmp_path / "short.toml"
    config.write_text(text.replace("[relay]", "[relay]\ndrain = 0.5\ndrain_spread = 0.1", 1))
    gateway = make_gateway("--config", str(config))
    job_id = gateway.start_demo()

    async def hold() -> int | None:
        url = f"ws://{gateway.relay}/{job_id}/backend?token={gateway.token}"
        async with connect(url) as socket:
            ended = asyncio.get_running_loop().run_in_executor(None, gateway.end, signal.SIGTERM)
            await socket.wait_closed()
            assert await ended == 0
            return socket.close_code

    assert asyncio.run(hold()) == 1012


def request(method: str, params: object, number: int) -> bytes:
    """Return a request as the web client frames it: always binary, ids in base64."""
    text = json.dumps(
        {"jsonrpc": "2.0", "id": f"{number:02d}==", "method": method, "params": params}
    ).encode()
    return struct.pack("<I", len(text)) + text


def test_the_web_clients_habits(gateway: Gateway) -> None:
    """brayns.md 3.4: 201 only, end_time there, backend first, binary requests, text cancel."""
    started = gateway.ask("POST", "/start", {"usecase": "demo"}, Origin="http://localhost:3000")
    assert started.status == 201
    first = gateway.ask("GET", f"/status/{started.json['job_id']}").json
    assert "end_time" in first
    assert isinstance(first["job_running"], bool)
    assert isinstance(first["brayns_started"], bool)
    status = gateway.wait_ready(started.json["job_id"])
    base = f"ws://{status['job_url'].rsplit('/', 1)[0]}"

    async def use() -> None:
        query = f"?token={gateway.token}"
        no_limit = {"max_size": None, "compression": None, "ping_interval": None}
        async with (
            connect(f"{base}/backend{query}", **no_limit) as backend,
            connect(f"{base}/renderer{query}", **no_limit) as renderer,
        ):
            await backend.send(request("fs-get-root", None, 1))
            assert "result" in json.loads(await backend.recv())
            await renderer.send(request("get-version", None, 1))
            version = json.loads(await renderer.recv())["result"]
            assert (version["major"], version["minor"], version["patch"]) == (3, 10, 1)
            image = {"send": True, "force": True, "accumulate": False, "format": "jpg"}
            for number in range(2, 5):
                await renderer.send(request("render-image", image, number))
                reply = await renderer.recv()
                assert isinstance(reply, bytes)
                (length,) = struct.unpack_from("<I", reply)
                assert json.loads(reply[4 : 4 + length])["id"] == f"{number:02d}=="
                assert Image.open(io.BytesIO(reply[4 + length :])).format == "JPEG"
            big = {"image_settings": {"format": "png", "size": [3840, 2160]}}
            await renderer.send(request("snapshot", big, 9))
            await renderer.send(
                json.dumps({"jsonrpc": "2.0", "method": "cancel", "params": {"id": "09=="}})
            )
            while True:
                reply = await asyncio.wait_for(renderer.recv(), 30)
                if isinstance(reply, str) and "error" in (told := json.loads(reply)):
                    assert told["error"]["code"] == 20
                    break

    asyncio.run(use())


def test_automatic_pings_do_not_lose_the_renderer(gateway: Gateway) -> None:
    """The renderer itself drops a client that pings; the gateway answers for it."""
    job_id = gateway.start_demo()

    async def ping() -> None:
        url = f"ws://{gateway.relay}/{job_id}/renderer?token={gateway.token}"
        async with connect(url, ping_interval=0.05, ping_timeout=5) as socket:
            started = time.monotonic()
            while time.monotonic() - started < 2:
                await (await socket.ping())
            await socket.send(request("get-version", None, 1))
            assert "result" in json.loads(await socket.recv())

    asyncio.run(ping())


def test_fragments_reach_the_renderer_as_one_message(gateway: Gateway) -> None:
    job_id = gateway.start_demo()

    async def send() -> None:
        url = f"ws://{gateway.relay}/{job_id}/renderer?token={gateway.token}"
        async with connect(url) as socket:
            whole = request("get-version", None, 7)
            await socket.send(iter([whole[:3], whole[3:20], whole[20:]]))
            assert json.loads(await socket.recv())["id"] == "07=="

    asyncio.run(send())


def test_a_stopped_job_closes_its_relays_with_4410(gateway: Gateway) -> None:
    job_id = gateway.start_demo()

    async def hold() -> int | None:
        url = f"ws://{gateway.relay}/{job_id}/renderer?token={gateway.token}"
        async with connect(url) as socket:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(None, gateway.ask, "POST", f"/stop/{job_id}")
            await socket.wait_closed()
            return socket.close_code

    assert asyncio.run(hold()) == 4410


def refused(url: str, **options: Any) -> int:
    """Return the HTTP status by which a handshake was refused."""

    async def try_it() -> int:
        try:
            async with connect(url, **options):
                return 101
        except websockets.InvalidStatus as error:
            return error.response.status_code

    return asyncio.run(try_it())


def test_the_door(gateway: Gateway) -> None:
    job_id = gateway.start_demo()
    good = f"ws://{gateway.relay}/{job_id}/renderer"
    assert refused(good) == 401
    assert refused(f"{good}?token=wrong") == 401
    assert refused(f"ws://{gateway.relay}/{'a' * 26}/renderer?token={gateway.token}") == 404
    assert refused(f"ws://{gateway.relay}/{job_id}/nothing?token={gateway.token}") == 404
    bearer = {"Authorization": f"Bearer {gateway.token}"}
    assert refused(good, additional_headers=bearer) == 101
    evil = {**bearer, "Origin": "https://evil.example"}
    assert refused(good, additional_headers=evil) == 403
    ticket = gateway.ask("POST", f"/v1/jobs/{job_id}/tickets", {"service": "renderer"})
    assert ticket.status == 201, ticket.body
    once = f"{good}?ticket={ticket.json['ticket']}"
    assert refused(once) == 101
    assert refused(once) == 401


def test_the_demo_answers_nobody_but_the_gateway(gateway: Gateway) -> None:
    job_id = gateway.start_demo()
    (file,) = gateway.state_dir.rglob("request.json")
    service = json.loads(file.read_text())["services"]["renderer"]
    secret = service["environment"]["VSMGATE_SECRET"]
    assert file.stat().st_mode & 0o077 == 0
    direct = f"ws://127.0.0.1:{service['port']}/"
    assert refused(direct) == 401
    assert refused(direct, additional_headers={"Authorization": f"Bearer {gateway.token}"}) == 401
    assert refused(direct, additional_headers={"Authorization": f"Bearer {secret}"}) == 101
    seen = gateway.ask("GET", f"/v1/jobs/{job_id}").body + gateway.log.encode()
    for kept in gateway.state_dir.glob("*.sqlite*"):
        seen += kept.read_bytes()
    assert secret.encode() not in seen


def test_early_death_tells_why(gateway: Gateway) -> None:
    job_id = gateway.start_demo()
    for pid in gateway.job_processes(job_id):
        with open(f"/proc/{pid}/cmdline", "rb") as line:
            if b"demo.renderer" in line.read():
                import os

                os.kill(pid, signal.SIGKILL)
    gone = gateway.until(
        lambda: (a := gateway.ask("GET", f"/status/{job_id}")).status == 410 and a, "a 410"
    )
    assert "renderer" in gone.json["detail"]
    gateway.until(lambda: not gateway.job_processes(), "the backend to be ended too")


def test_a_second_gateway_on_the_same_state_is_refused(gateway: Gateway) -> None:
    second = Gateway(gateway.state_dir)
    with pytest.raises(pytest.fail.Exception, match=str(gateway.pid)):
        second.start()
