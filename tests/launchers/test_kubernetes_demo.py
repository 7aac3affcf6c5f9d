"""The demo through a real gateway, on the simulated Kubernetes as ``bin/simulate`` starts it."""

from __future__ import annotations

import base64
import json
import ssl
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.rig import PATIENCE, Gateway
from tests.e2e.site import demo_on, shipped_site
from tests.launchers.simulated import Simulated
from vsmgate.demo.client import brayns

WORDS = "echo $$$$; sleep 99"  # of which Kubernetes makes $$


class SimulatedCluster(Simulated):
    """``bin/simulate kubernetes``, and questions to its API."""

    def __init__(self, folder: Path) -> None:
        super().__init__("kubernetes", folder, "--kubeconfig", str(folder / "kubeconfig"))
        kubeconfig = json.loads((folder / "kubeconfig").read_text())
        cluster = kubeconfig["clusters"][0]["cluster"]
        self.url = cluster["server"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self.tls = ssl.create_default_context(cadata=authority)

    def open(self, url: str, data: bytes | None = None) -> Any:
        headers = {"Authorization": "Bearer simulated", "Content-Type": "application/json"}
        request = urllib.request.Request(self.url + url, data=data, headers=headers)
        return urllib.request.urlopen(request, timeout=PATIENCE, context=self.tls)

    def pods(self) -> list[dict[str, Any]]:
        with self.open("/api/v1/namespaces/vsmgate/pods") as answer:
            items: list[dict[str, Any]] = json.load(answer)["items"]
        return items


@pytest.fixture
def simulated(tmp_path: Path) -> Iterator[SimulatedCluster]:
    made = SimulatedCluster(tmp_path)
    try:
        yield made
    finally:
        made.close()


def test_the_demo_is_drawn_by_kubernetes(
    simulated: SimulatedCluster, tmp_path: Path, make_gateway: Callable[..., Gateway]
) -> None:
    site = shipped_site(tmp_path, {"demo": demo_on("kubernetes")}, simulated.said)
    gateway = make_gateway(*site)
    job_id = gateway.start_demo()
    status = gateway.ask("GET", f"/status/{job_id}").json
    assert status["end_time"].endswith("+00:00")
    (pod,) = simulated.pods()
    assert pod["metadata"]["name"] == f"vsmgate-{job_id}"
    uri = f"{gateway.relay}/{job_id}/renderer?token={gateway.token}"
    with brayns.Connector(uri).connect() as instance:
        assert instance.request("get-version")["major"] == 3
    log = gateway.ask("GET", f"/v1/jobs/{job_id}/logs?service=renderer").body
    assert b"Brayns service started" in log
    assert "owner stopped it" in str(gateway.stop_job(job_id))
    assert simulated.pods() == []
    assert simulated.end() == 0


def test_it_ends_with_its_processes(simulated: SimulatedCluster) -> None:
    pod = {
        "metadata": {"name": "sleeps"},
        "spec": {
            "containers": [
                {
                    "name": "a",
                    "image": "vsmgate/demo",
                    "command": ["sh", "-c", WORDS],
                }
            ]
        },
    }
    url = "/api/v1/namespaces/vsmgate/pods"
    with simulated.open(url, json.dumps(pod).encode()) as answer:
        assert answer.status == 201
    with simulated.open(f"{url}?watch=1") as answer:
        for line in answer:
            if json.loads(line)["object"]["status"]["phase"] == "Running":
                break
    pid = ""
    while not pid:
        with simulated.open(f"{url}/sleeps/log") as answer:
            pid = answer.read().decode().strip()
    assert Path(f"/proc/{pid}").exists()
    assert simulated.end() == 0
    assert not Path(f"/proc/{pid}").exists()
