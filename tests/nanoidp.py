"""A real OpenID provider in a process of its own: nanoidp, from PyPI.

It brings a web framework and more with it, so it lives in an environment of its own
(``.venv/nanoidp-VERSION``), which is made once.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

__all__ = ["AUDIENCE", "CLIENT", "SECRET", "NanoIdp", "install", "require", "running"]

VERSION = "3.4.0"
HOME = Path(__file__).resolve().parents[1] / ".venv" / f"nanoidp-{VERSION}"
CLIENT, SECRET, AUDIENCE = "vsm", "s3cret-of-the-client", "vsm-api"

#: Generous: they bound failures, a success does not wait for them.
PATIENCE, INSTALL_PATIENCE = 60.0, 600.0

_SETTINGS = """\
config_version: 1
server: {{host: "127.0.0.1", port: {port}}}
oauth:
  issuer: "http://127.0.0.1:{port}"
  audience: "{audience}"
  token_expiry_minutes: 60
  clients:
    - {{client_id: "{client}", client_secret: "{secret}", description: "a test"}}
    - {{client_id: "mail", client_secret: "{secret}", description: "another application"}}
"""
_USERS = """\
config_version: 1
users:
  alice: {password: "wonder", email: "alice@example.org", roles: ["USER"], groups: ["viz", "lab"]}
  bob: {password: "builder", email: "bob@example.org", roles: ["USER"], groups: []}
"""
_PASSWORDS = {"alice": "wonder", "bob": "builder"}


def install() -> str:
    """Make its environment; return what went wrong, or nothing."""
    HOME.parent.mkdir(exist_ok=True)
    with HOME.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = HOME / "stamp"
        if (
            stamp.exists() and (HOME / "bin/python").exists()
        ):  # it may be a link to one that is gone
            return ""
        for argv in (
            [sys.executable, "-m", "venv", "--clear", str(HOME)],
            [str(HOME / "bin/python"), "-m", "pip", "install", "-qq", f"nanoidp=={VERSION}"],
        ):
            try:
                done = subprocess.run(
                    argv, capture_output=True, text=True, timeout=INSTALL_PATIENCE, check=False
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                return str(error)
            if done.returncode:
                return done.stderr.strip()[-500:] or f"{argv[0]} failed"
        stamp.touch()
    return ""


def require() -> None:
    """Install it, or skip; under CI it must be there (as the fixture of that name does)."""
    wrong = install()
    if wrong and os.environ.get("CI") == "true":
        pytest.fail(f"nanoidp cannot be installed, and CI must have it: {wrong}", pytrace=False)
    elif wrong:
        pytest.skip(f"nanoidp cannot be installed: {wrong}")


class NanoIdp:
    """One provider; its keys are in ``folder`` and outlive its process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it; the first time at a free port, then at the same."""
        conf = self._folder / "conf"
        conf.mkdir(exist_ok=True)
        (conf / "users.yaml").write_text(_USERS)
        tries = 1 if self.port else 5  # somebody may take the free port before it does
        for _ in range(tries):
            port = self.port or _free_port()
            settings = _SETTINGS.format(port=port, audience=AUDIENCE, client=CLIENT, secret=SECRET)
            (conf / "settings.yaml").write_text(settings)
            with (self._folder / "nanoidp.log").open("ab") as log:
                self._process = subprocess.Popen(
                    [HOME / "bin/nanoidp", "--config", conf],
                    cwd=self._folder,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            if self._answers(port):
                self.port = port
                return
            self.stop()
        raise AssertionError((self._folder / "nanoidp.log").read_text()[-3000:])

    def stop(self) -> None:
        """End its process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def token(self, user: str, client: str = CLIENT, kind: str = "access_token") -> str:
        """Return a token of that user's, as ``client`` gets it."""
        form = {
            "grant_type": "password",
            "username": user,
            "password": _PASSWORDS[user],
            "scope": "openid email profile",
        }
        return str(self.ask("/token", form, client)[kind])

    def short_token(self, user: str, seconds: float) -> str:
        """Return a token that ends soon."""
        body = json.dumps({"exp_minutes": seconds / 60}).encode()
        return str(self.ask(f"/api/users/{user}/token", body)["access_token"])

    def rotate(self) -> None:
        """Sign with a new key from now on; the last two old ones stay published."""
        self.ask("/api/keys/rotate", b"{}")

    def revoke(self, token: str) -> None:
        """Take a token back."""
        self.ask("/revoke", {"token": token}, CLIENT)

    def questions(self, path: str) -> int:
        """Return how often it was asked for ``path``."""
        log = (self._folder / "nanoidp.log").read_text()
        return log.count(f'"GET {path} HTTP') + log.count(f'"POST {path} HTTP')

    def ask(self, path: str, data: dict[str, str] | bytes, client: str | None = None) -> Any:
        """POST a form or JSON."""
        headers = {"Content-Type": "application/json"}
        if isinstance(data, dict):
            data = urllib.parse.urlencode(data).encode()
            headers = {}
        if client is not None:
            pair = base64.b64encode(f"{client}:{SECRET}".encode()).decode()
            headers["Authorization"] = f"Basic {pair}"
        request = urllib.request.Request(self.issuer + path, data, headers)
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.loads(answer.read() or b"{}")

    def _answers(self, port: int) -> bool:
        """Wait until it answers, or ended."""
        url = f"http://127.0.0.1:{port}/.well-known/openid-configuration"
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            assert self._process is not None
            if self._process.poll() is not None:
                return False
            try:
                with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
                    # Whoever else listens there has another issuer.
                    return bool(json.loads(answer.read())["issuer"].endswith(f":{port}"))
            except (OSError, urllib.error.URLError):
                time.sleep(0.05)
        return False


@contextmanager
def running(folder: Path) -> Iterator[NanoIdp]:
    """Run one; nothing of it runs afterwards."""
    provider = NanoIdp(folder)
    try:
        provider.start()
        yield provider
    finally:
        provider.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
