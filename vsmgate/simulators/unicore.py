"""bin/simulate unicore: a UNICORE site on this machine, for trying and for tests."""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.web.server import Site

from vsmgate.simulators import told
from vsmgate.simulators.unicore_site import PREFIX, UnicoreSite

__all__ = ["main"]

_CONFIGURATION = """\
[launchers.unicore]
kind = "unicore"
url = {url_toml}
token_file = {token_file}
python = {python}
bind = "127.0.0.1"
address = "127.0.0.1"
targets = ["127.0.0.0/8"]
"""


def main(arguments: list[str]) -> None:
    """Run until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog="bin/simulate unicore", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--slots", type=int, default=4, help="jobs that run at a time (4)")
    parser.add_argument("--folder", help="where jobs run; without it a new one, removed at the end")
    parser.add_argument("--users", help="a file with USER:PASSWORD lines")
    options = parser.parse_args(arguments)
    folder = Path(options.folder or tempfile.mkdtemp(prefix="vsmgate-unicore-")).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        _serve(options, folder)
    finally:
        if not options.folder:
            shutil.rmtree(folder, ignore_errors=True)


def _serve(options: argparse.Namespace, folder: Path) -> None:
    from twisted.internet import reactor as found
    from twisted.internet.error import CannotListenError

    reactor: Any = found
    token_file = folder / "token"
    token = secrets.token_urlsafe(24)
    with open(os.open(token_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(f"{token}\n")
    users = Path(options.users).read_text().split() if options.users else []
    site = UnicoreSite(reactor, folder, [token], users, options.slots)
    try:
        port = reactor.listenTCP(options.port, Site(site), interface="127.0.0.1")
    except CannotListenError as error:
        sys.exit(f"cannot listen on port {options.port}: {error.socketError}; take another --port")
    site.url = f"http://127.0.0.1:{port.getHost().port}/{'/'.join(PREFIX)}"
    quoted = {"url_toml": site.url, "token_file": str(token_file), "python": sys.executable}
    table = _CONFIGURATION.format(**{key: json.dumps(value) for key, value in quoted.items()})
    sys.stdout.write(told(f"A UNICORE site, whose jobs run here: {site.url}", "unicore", table))
    sys.stdout.flush()
    reactor.addSystemEventTrigger(
        "before", "shutdown", lambda: Deferred.fromCoroutine(site.batch.close())
    )
    reactor.run()
