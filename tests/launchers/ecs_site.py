"""The stand-in for ECS in a process of its own, and boto3's view of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import tomllib
from pathlib import Path
from typing import Any

import boto3

PATIENCE = 60.0
ROOT = Path(__file__).parent.parent.parent
KEYS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMIexample"}


class EcsSite:
    """``bin/simulate ecs``, as somebody would run it; ``told``: the table that it prints."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._log = folder / "simulate.log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "vsmgate.simulators", "ecs", *options],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "TMPDIR": str(folder)},
            )
        watchdog = threading.Timer(PATIENCE, self._process.kill)
        watchdog.start()
        assert self._process.stdout is not None
        said = ""
        for line in self._process.stdout:
            said += line
            if "Ctrl-C" in line:
                break
        watchdog.cancel()
        assert "[launchers.ecs]" in said, self._log.read_text()
        self.told: dict[str, Any] = tomllib.loads(said)["launchers"]["ecs"]
        self.ecs = self.client("ecs")
        self.logs = self.client("logs")

    def client(self, service: str) -> Any:
        keys = {name.lower(): value for name, value in KEYS.items()}
        url = self.told["endpoint"]
        return boto3.client(service, self.told["region"], endpoint_url=url, **keys)

    def register(self, family: str, containers: list[str], image: str = "any:1") -> None:
        """Register a task definition with containers of these names."""
        definition = json.loads((ROOT / "conf" / "ecs" / "demo.json").read_text())
        first = definition["containerDefinitions"][0]
        definition["family"] = family
        definition["containerDefinitions"] = [
            {**first, "name": name, "image": image, "command": ["sleep", "600"]}
            for name in containers
        ]
        self.ecs.register_task_definition(**definition)

    def tasks(self, tag: str, desired: str = "RUNNING") -> list[Any]:
        """Return the tasks of that tag, as boto3 sees them."""
        cluster = self.told["cluster"]
        arns = self.ecs.list_tasks(cluster=cluster, startedBy=tag, desiredStatus=desired)
        if not arns["taskArns"]:
            return []
        found = self.ecs.describe_tasks(cluster=cluster, tasks=arns["taskArns"], include=["TAGS"])
        return list(found["tasks"])

    def log(self) -> str:
        return self._log.read_text()

    def close(self) -> None:
        """End it as Ctrl-C does; nothing happens when it has ended."""
        assert self._process.stdout is not None
        if self._process.returncode is not None:
            return
        self._process.send_signal(signal.SIGINT)
        try:
            assert self._process.wait(PATIENCE) == 0, self.log()
        finally:
            self._process.kill()
            self._process.stdout.close()
