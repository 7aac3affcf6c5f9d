"""Pages of other origins, in a real browser: what they may open, and what not."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.browser import PATIENCE, browser, missing
from tests.e2e.rig import Gateway
from tests.e2e.site import Site

PAGE = b"<!doctype html><title>somebody's page</title>"

#: Asks for a ticket as a page does, and opens a relay with it; tells what became of it.
OPEN = """
const [master, relay, job, token, ready, done] = arguments;
(async () => {
  let ticket = ready;
  if (!ticket) {
    const asked = await fetch(`${master}/v1/jobs/${job}/tickets`, {
      method: "POST",
      headers: {"Authorization": `Bearer ${token}`, "Content-Type": "application/json"},
      body: JSON.stringify({service: "echo"}),
    });
    ticket = (await asked.json()).ticket;
  }
  const socket = new WebSocket(`ws://${relay}/${job}/echo?ticket=${ticket}`);
  socket.onopen = () => socket.send("hello");
  socket.onmessage = event => done("said " + event.data);
  socket.onclose = event => done("closed " + event.code);
})().catch(error => done("no ticket: " + error));
"""


@contextmanager
def pages() -> Iterator[str]:
    """Serve a page; yields its origin."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(PAGE)))
            self.end_headers()
            self.wfile.write(PAGE)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.criterion("S-3", "S-25")
def test_only_pages_of_allowed_origins_open_relays(
    make_gateway: Callable[..., Gateway], tmp_path: Path, require: Callable[[object, str], None]
) -> None:
    require(importlib.util.find_spec("selenium"), "selenium")
    require(not missing(), missing() or "a browser")
    with pages() as ours, pages() as others:
        allowed = f'allowed_origins = ["{ours}"]'
        site = Site(tmp_path, more=f"[master]\nport = 0\n{allowed}\n[relay]\nport = 0\n{allowed}\n")
        gateway = make_gateway(*site.options)
        job_id = gateway.ask("POST", "/start", {"usecase": "echo"}).json["job_id"]
        gateway.wait_ready(job_id)

        def ticket() -> str:
            asked = gateway.ask("POST", f"/v1/jobs/{job_id}/tickets", {"service": "echo"})
            return str(asked.json["ticket"])

        with browser(tmp_path / "profile") as driver:
            driver.set_script_timeout(PATIENCE)

            def opened(origin: str, ready: str = "") -> str:
                driver.get(origin)
                arguments = (gateway.master, gateway.relay, job_id, gateway.token, ready)
                return str(driver.execute_async_script(OPEN, *arguments))

            assert opened(ours) == "said hello"
            assert opened(ours, ticket()) == "said hello"
            assert opened(others).startswith("no ticket: TypeError")  # its browser keeps the answer
            assert opened(others, ticket()) == "closed 1006"  # even with one that is good
    assert "origin_refused" in gateway.log
