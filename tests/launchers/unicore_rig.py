from __future__ import annotations

import json
import sys
import tempfile
import time
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any

from tests.launchers import rig
from tests.launchers.rig import PATIENCE
from tests.launchers.simulated import Simulated
from vsmgate.launchers.unicore import UnicoreLauncherFactory
from vsmgate.launchers.unicore_plan import UnicorePlan
from vsmgate.launchers.unicore_settings import UnicoreSettings


class StandIn(Simulated):
    """The UNICORE stand-in, with a user ``ada`` who has a password."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="vsmgate-unicore-")
        self.folder = Path(self._folder.name)
        users = self.folder / "users"
        users.write_text("ada:password\n")
        options = ["--slots", "3", "--folder", str(self.folder / "site"), "--users", str(users)]
        super().__init__("unicore", self.folder, *options)
        self.url = self.told["url"]

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

    def close(self) -> None:
        try:
            super().close()
        finally:
            self._folder.cleanup()


usecase_of = partial(rig.usecase_of, "unicore")
launch_of = partial(rig.launch_of, UnicorePlan)


class UnicoreRig(rig.Rig):
    """A launcher on the stand-in; its jobs are over at the end."""

    factory = UnicoreLauncherFactory()
    usecase_of = staticmethod(usecase_of)
    late = True

    def __init__(self, reactor: Any, site: StandIn, state_dir: Path) -> None:
        self.site = site
        settings = UnicoreSettings(
            url=site.url,
            token_file=str(site.token_file),
            bind="127.0.0.1",
            address="127.0.0.1",
            python=sys.executable,
            poll_every=0.0,
        )
        super().__init__(reactor, state_dir, settings)

    async def close(self) -> None:
        """End and remove all jobs."""
        await super().close()
        for tag in self.tags:
            self.site.remove(tag)
