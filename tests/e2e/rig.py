"""A real gateway in a process of its own, as ``bin/run`` starts it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

#: Generous: it bounds a failure, a success does not wait for it.
PATIENCE = 30.0


class Answer:
    """An HTTP answer; errors are answers too."""

    def __init__(self, status: int, reason: str, headers: Any, body: bytes) -> None:
        self.status = status
        self.reason = reason
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


class Gateway:
    """One gateway process on a state directory that outlives it."""

    def __init__(self, state_dir: Path, *options: str) -> None:
        self.state_dir = state_dir
        self._options = options
        self._process: subprocess.Popen[str] | None = None
        self.master = self.relay = ""

    def start(self) -> None:
        """Start it and wait until it says where it listens."""
        command = [
            sys.executable, str(ROOT / "bin" / "_twistd"), "-n", "--pidfile=", "vsmgate",
            "--state-dir", str(self.state_dir), "--master-port", "0", "--relay-port", "0",
            *self._options,
        ]  # fmt: skip
        log = (self.state_dir.parent / "gateway.log").open("a")
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=self.state_dir.parent
        )
        log.close()
        assert self._process.stdout is not None
        said = ""
        watchdog = threading.Timer(PATIENCE, self._process.kill)
        watchdog.start()
        for line in self._process.stdout:
            said += line
            if found := re.match(r" *master +(http://\S+)", line):
                self.master = found[1]
            if found := re.match(r" *relay +ws://(\S+)", line):
                self.relay = found[1]
            if re.match(r" *try ", line):
                watchdog.cancel()
                return
        watchdog.cancel()
        self._process.stdout.close()
        self._process.wait()
        self._process = None
        pytest.fail(f"the gateway ended: {said}\n{self.log}", pytrace=False)

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """What it wrote to stderr."""
        return (self.state_dir.parent / "gateway.log").read_text()

    @property
    def token(self) -> str:
        """The token that it made."""
        return (self.state_dir / "token").read_text().strip()

    def end(self, number: signal.Signals) -> int:
        """End it by a signal; return its exit status."""
        assert self._process is not None
        self._process.send_signal(number)
        assert self._process.stdout is not None
        self._process.stdout.close()
        status = self._process.wait(PATIENCE)
        self._process = None
        return status

    def close(self) -> None:
        """Stop all jobs and end it, whatever the test did."""
        if self._process is None:
            if not self.job_processes():
                return
            self.start()  # the test ended it with jobs left: they are ended the usual way
        for job in self.ask("GET", "/v1/jobs?limit=200").json["items"]:
            self.ask("DELETE", f"/v1/jobs/{job['id']}")
        self.until(lambda: not self.job_processes(), "all job processes to be gone")
        self.end(signal.SIGKILL)

    def ask(
        self, method: str, path: str, body: object = None, token: str | None = "", **headers: str
    ) -> Answer:
        """Ask the REST face; the token is the gateway's own unless another is given."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            headers["Authorization"] = f"Bearer {token or self.token}"
        data = None
        if body is not None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        request = urllib.request.Request(
            self.master + path, data=data, method=method, headers=headers
        )
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as found:
                return Answer(found.status, found.reason, found.headers, found.read())
        except urllib.error.HTTPError as refused:
            return Answer(refused.code, refused.reason, refused.headers, refused.read())

    def until(self, true: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
        """Return the first true value of ``true``, asked again and again."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            value = true()
            if value:
                return value
            time.sleep(0.05)
        pytest.fail(f"waited in vain for {what}\n{self.log[-3000:]}", pytrace=False)

    def start_demo(self) -> str:
        """Start the demo; return the job's id once it is ready."""
        started = self.ask("POST", "/start", {"usecase": "demo"})
        assert started.status == 201, started.body
        job_id = str(started.json["job_id"])
        self.wait_ready(job_id)
        return job_id

    def wait_ready(self, job_id: str) -> Any:
        """Return the job's status once it is ready."""

        def ready() -> Any:
            answer = self.ask("GET", f"/status/{job_id}")
            assert answer.status == 200, answer.body
            return answer.json if answer.json["ready"] else None

        return self.until(ready, f"{job_id} to be ready")

    def stop_job(self, job_id: str, patience: float = PATIENCE) -> Any:
        """Stop a job; return its status once it has ended."""
        assert self.ask("POST", f"/stop/{job_id}").status == 200

        def ended() -> Any:
            answer = self.ask("GET", f"/status/{job_id}")
            return answer.json if answer.status == 410 else None

        return self.until(ended, "the job's end", patience)

    def job_processes(self, job_id: str = "") -> dict[int, str]:
        """Return pid -> job tag of all processes that run for jobs of this gateway."""
        found = {}
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit():
                continue
            try:
                environ = (folder / "environ").read_bytes()
                place = (folder / "cmdline").read_bytes() + bytes((folder / "cwd").readlink())
            except OSError:
                continue
            tag = re.search(rb"VSMGATE_TAG=(vsmgate-[a-z2-7]+)", environ)
            if tag and bytes(self.state_dir) in place and job_id in tag[1].decode():
                found[int(folder.name)] = tag[1].decode()
        return found
