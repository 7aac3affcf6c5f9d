from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from msgspec import convert
from msgspec.structs import replace
from twisted.internet.task import deferLater

from vsmgate.interfaces import Context
from vsmgate.launchers.unicore import UnicoreLauncherFactory
from vsmgate.launchers.unicore_launcher import UnicoreLauncher
from vsmgate.launchers.unicore_plan import UnicorePlan
from vsmgate.launchers.unicore_settings import UnicoreSettings
from vsmgate.model import Launch, Observation, Phase, Service, Usecase, new_job_id

SERVICE = Path(__file__).with_name("service.py")
PATIENCE = 30.0
T = TypeVar("T")


class StandIn:
    """The UNICORE stand-in in a process of its own, as ``bin/simulate`` starts it."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="vsmgate-unicore-")
        self.folder = Path(self._folder.name)
        users = self.folder / "users"
        users.write_text("ada:password\n")
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "vsmgate.simulators", "unicore", "--port", "0"),
                *("--slots", "3", "--folder", str(self.folder / "site"), "--users", str(users)),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        watchdog = threading.Timer(PATIENCE, self._process.kill)
        watchdog.start()
        self.said = self._process.stdout.readline()
        watchdog.cancel()
        self.url = self.said.split()[-1]

    @property
    def token_file(self) -> Path:
        return self.folder / "site" / "token"

    @property
    def token(self) -> str:
        return self.token_file.read_text().strip()

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> Any:
        """Return the answer's JSON; None where there is none, and for 404."""
        data = None if body is None else json.dumps(body).encode()
        given = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        request = urllib.request.Request(
            self.url + path, data=data, method=method, headers=given | headers
        )
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                found = answer.read()
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 404:
                return None
            raise
        return json.loads(found) if found else None

    def jobs(self, tag: str) -> list[str]:
        """Return the ids of the jobs of a tag."""
        return [url.rpartition("/")[2] for url in self.ask("GET", f"/jobs?tags={tag}")["jobs"]]

    def live(self, tag: str) -> list[str]:
        """Return the ids of those that are not over."""
        over = ("SUCCESSFUL", "FAILED")
        return [
            job for job in self.jobs(tag) if self.ask("GET", f"/jobs/{job}")["status"] not in over
        ]

    def where(self, job: str) -> Path:
        return self.folder / "site" / "jobs" / job

    def remove(self, tag: str) -> None:
        """End and remove the jobs of a tag; nothing of them runs afterwards."""
        jobs = self.jobs(tag)
        for job in jobs:
            self.ask("DELETE", f"/jobs/{job}")
        deadline = time.monotonic() + PATIENCE
        while any(self.where(job).exists() for job in jobs):
            assert time.monotonic() < deadline, "jobs do not end"
            time.sleep(0.02)

    def end(self, number: signal.Signals) -> int:
        """End it by a signal; return its exit status."""
        assert self._process.stdout is not None
        self._process.send_signal(number)
        self._process.stdout.close()
        return self._process.wait(PATIENCE)

    def stop(self) -> None:
        try:
            self.end(signal.SIGTERM)
        finally:
            self._process.kill()
            self._folder.cleanup()


def usecase_of(services: dict[str, str], **plan: Any) -> Usecase:
    """Return a use case of name -> behaviour."""
    start = ["{python}", "-I", "-S", str(SERVICE).replace("{", "{{")]
    table = {
        name: {"command": [*start, name, does, "{host}", "{port}"]}
        for name, does in services.items()
    }
    return Usecase(
        name="test",
        launcher="unicore",
        services={name: Service() for name in services},
        launch={"unicore": {"services": table, **plan}},
    )


def launch_of(usecase: Usecase, lifetime: float = 3600.0, **more: Any) -> Launch:
    plan = convert(usecase.launch["unicore"], UnicorePlan)
    parameters = more.pop("parameters", {})
    return Launch(new_job_id(), "ada", usecase, plan, parameters, lifetime, **more)


class UnicoreRig:
    """A launcher on the stand-in; its jobs are over at the end."""

    def __init__(self, reactor: Any, site: StandIn, state_dir: Path) -> None:
        self.reactor = reactor
        self.site = site
        self.state_dir = state_dir
        self.factory = UnicoreLauncherFactory()
        self.settings = UnicoreSettings(
            url=site.url,
            token_file=str(site.token_file),
            bind="127.0.0.1",
            address="127.0.0.1",
            python=sys.executable,
            poll_every=0.0,
        )
        self.made: list[UnicoreLauncher] = []
        self.launcher = self.again()
        self.tags: list[str] = []

    def again(self, **settings: Any) -> UnicoreLauncher:
        context = Context("unicore", self.reactor, time.time, self.state_dir, self.state_dir)
        made = self.factory.make(replace(self.settings, **settings), context)
        self.made.append(made)
        return made

    def launch(self, does: str = "stays", lifetime: float = 3600.0, **plan: Any) -> Launch:
        return self.launch_of(usecase_of({"renderer": does}, **plan), lifetime=lifetime)

    def launch_of(self, usecase: Usecase, **more: Any) -> Launch:
        launch = launch_of(usecase, **more)
        self.tags.append(launch.tag)
        return launch

    async def until(self, ref: str, phase: Phase) -> Observation:
        async def look() -> Observation | None:
            seen = (await self.launcher.poll([ref]))[ref]
            assert phase is Phase.ENDED or seen.phase is not Phase.ENDED, seen
            if seen.phase is not phase or (phase is Phase.RUNNING and not seen.endpoints):
                return None
            return seen

        return await self.eventually(look)

    async def close(self) -> None:
        for launcher in self.made:
            await launcher.close()

    async def eventually(self, look: Callable[[], Awaitable[T | None]]) -> T:
        """Return the first result of ``look`` that is not None; bounded."""
        deadline = time.monotonic() + PATIENCE
        while (found := await look()) is None:
            assert time.monotonic() < deadline, "it did not come to be"
            await deferLater(self.reactor, 0.02)
        return found
