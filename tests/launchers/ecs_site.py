"""The stand-in for ECS in a process of its own, and boto3's view of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import boto3

from tests.e2e.rig import ROOT
from tests.launchers.simulated import Simulated

KEYS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMIexample"}


class EcsSite(Simulated):
    """``bin/simulate ecs``, as somebody would run it."""

    def __init__(self, folder: Path, *options: str) -> None:
        super().__init__("ecs", folder, *options, TMPDIR=str(folder))
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
