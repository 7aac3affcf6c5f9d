"""The plugin guide's example: it keeps the launchers' contract, and it works."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import vsmgate_attach
from twisted.internet.task import Clock
from websockets.sync.client import connect
from websockets.sync.server import serve

from tests.e2e.rig import ROOT, Gateway
from tests.e2e.site import shipped_site
from vsmgate.interfaces import Context
from vsmgate.model import Endpoint, Launch, Observation, Phase, Service, Usecase, new_job_id
from vsmgate.testing.launchers import LauncherContract


class AttachRig:
    """Attaches to places that nobody listens at: the launcher does not look."""

    def __init__(self, state_dir: Path) -> None:
        self.factory = vsmgate_attach.attach
        self._state_dir = state_dir
        self._port = 5000
        self.launcher = self.again()

    def again(self) -> Any:
        context = Context("attach", Clock(), time.time, self._state_dir, self._state_dir)
        return self.factory.make(self.factory.settings(), context)

    def launch(self, does: str) -> Launch:
        self._port += 1
        plan = vsmgate_attach.AttachPlan({"renderer": Endpoint("127.0.0.1", self._port)})
        usecase = Usecase("test", "attach", {"renderer": Service()}, {"attach": {}})
        return Launch(new_job_id(), "ada", usecase, plan, {}, 3600.0)

    async def until(self, ref: str, phase: Phase) -> Observation:
        seen: Observation = (await self.launcher.poll([ref]))[ref]
        assert seen.phase is phase
        return seen


class TestAttach(LauncherContract):
    @pytest.fixture
    def rig(self, tmp_path: Path) -> AttachRig:
        return AttachRig(tmp_path)

    # What it attaches to is not its own: how that ends and what it writes is not known.
    test_success_and_failure_are_told_apart = None  # type: ignore[assignment]
    test_logs_are_the_last_octets = None  # type: ignore[assignment]


def test_it_gives_a_relay_to_a_program_that_runs_already(
    tmp_path: Path, make_gateway: Callable[..., Gateway]
) -> None:
    with serve(lambda socket: socket.send(socket.recv()), "127.0.0.1", 0) as program:
        threading.Thread(target=program.serve_forever, daemon=True).start()
        port = program.socket.getsockname()[1]
        workstation = f"""
            launcher = "attach"
            [services.renderer]
            [launch.attach.services]
            renderer = {{ host = "127.0.0.1", port = {port} }}
            """
        table = """
            [launchers.attach]
            kind = "attach"
            targets = ["127.0.0.1"]
            """
        top = f"plugin_folders = [{json.dumps(str(ROOT / 'docs' / 'examples'))}]"
        gateway = make_gateway(*shipped_site(tmp_path, {"workstation": workstation}, table, top))
        job_id = gateway.ask("POST", "/start", {"usecase": "workstation"}).json["job_id"]
        url = gateway.wait_ready(job_id)["job_url"]
        with connect(f"ws://{url}?token={gateway.token}") as socket:
            socket.send("hello")
            assert socket.recv() == "hello"
        gateway.stop_job(job_id)
        program.shutdown()
