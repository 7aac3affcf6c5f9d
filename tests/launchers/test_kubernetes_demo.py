"""The demo through a real gateway, on the simulated Kubernetes as ``bin/simulate`` starts it."""

from __future__ import annotations

import base64
import json
import signal
import ssl
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.rig import PATIENCE, ROOT, Gateway
from vsmgate.demo.client import brayns
from vsmgate.shipped import conf_folder

WORDS = "echo $$$$; sleep 99"  # of which Kubernetes makes $$


class Simulated:
    """``python -m vsmgate.simulators kubernetes`` in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.kubeconfig = folder / "kubeconfig"
        argv = [sys.executable, "-m", "vsmgate.simulators", "kubernetes"]
        self.process = subprocess.Popen(
            [*argv, "--kubeconfig", str(self.kubeconfig)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        watchdog = threading.Timer(PATIENCE, self.process.kill)
        watchdog.start()
        assert self.process.stdout is not None
        self.said = ""
        for line in self.process.stdout:
            self.said += line
            if "Ctrl-C" in line:
                break
        watchdog.cancel()
        assert "[launchers.kubernetes]" in self.said
        cluster = json.loads(self.kubeconfig.read_text())["clusters"][0]["cluster"]
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

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return self.process.wait(PATIENCE)


@pytest.fixture
def simulated(tmp_path: Path) -> Iterator[Simulated]:
    made = Simulated(tmp_path)
    try:
        yield made
    finally:
        if made.process.poll() is None:
            made.process.kill()
            made.process.wait()


def test_the_demo_is_drawn_by_kubernetes(
    simulated: Simulated, tmp_path: Path, make_gateway: Callable[..., Gateway]
) -> None:
    usecases = tmp_path / "usecases"
    usecases.mkdir()
    demo = (conf_folder() / "usecases" / "demo.toml").read_text()
    demo = demo.replace('launcher = "local"', 'launcher = "kubernetes"', 1)
    (usecases / "demo.toml").write_text(demo)
    config = tmp_path / "vsmgate.toml"
    shipped = (conf_folder() / "vsmgate.toml").read_text()
    config.write_text(f'{shipped}\nfolder = "usecases"\n{simulated.said}\n')
    gateway = make_gateway("--config", str(config))
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
    gateway.ask("POST", f"/stop/{job_id}")
    gateway.until(lambda: gateway.ask("GET", f"/status/{job_id}").status == 410, "the job's end")
    ended = gateway.ask("GET", f"/status/{job_id}").json
    assert "owner stopped it" in str(ended)
    assert simulated.pods() == []
    assert simulated.stop() == 0


def test_it_ends_with_its_processes(simulated: Simulated) -> None:
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
    assert simulated.stop() == 0
    assert not Path(f"/proc/{pid}").exists()
