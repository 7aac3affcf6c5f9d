"""What the REST face is compared with: a bare twisted.web resource.

``python -m bench.bare FILE`` serves the octets of FILE at every address, says its port on
standard output, and writes no access log.
"""

from __future__ import annotations

import sys
from pathlib import Path

from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import Site


class Same(Resource):
    """The same octets for everybody."""

    isLeaf = True

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self.body = body

    def render_GET(self, request: Request) -> bytes:
        """Answer."""
        request.setHeader(b"Content-Type", b"application/json")
        return self.body


def main() -> None:
    """Serve until killed."""
    from twisted.internet import reactor

    site = Site(Same(Path(sys.argv[1]).read_bytes()))
    site.log = lambda request: None
    port = reactor.listenTCP(0, site, interface="127.0.0.1")
    sys.stdout.write(f"http://127.0.0.1:{port.getHost().port}\n")
    sys.stdout.flush()
    reactor.run()


if __name__ == "__main__":
    main()
