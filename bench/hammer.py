"""A load of GET requests on keep-alive connections, as fast as one process can.

It knows the length of the answer and does not read it otherwise, so that the server is
what gets measured.
"""

from __future__ import annotations

import select
import socket
import time
from urllib.parse import urlsplit

__all__ = ["fetch", "hammer"]


def _request(host: str, path: str, token: str) -> bytes:
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n"
    ).encode()


def _read(peer: socket.socket) -> bytes:
    """Read one whole answer."""
    said = b""
    while b"\r\n\r\n" not in said:
        said += peer.recv(65536)
    head, _, body = said.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    while len(body) < length:
        body += peer.recv(65536)
    if not head.startswith(b"HTTP/1.1 200 "):
        raise RuntimeError(f"the server answered {head.splitlines()[0]!r}")
    return head + b"\r\n\r\n" + body


def fetch(base: str, path: str, token: str) -> bytes:
    """Return one answer's body."""
    address = urlsplit(base)
    with socket.create_connection((address.hostname, address.port), timeout=10) as peer:
        peer.sendall(_request(address.netloc, path, token))
        return _read(peer).partition(b"\r\n\r\n")[2]


def hammer(base: str, path: str, token: str, connections: int, seconds: float) -> float:
    """Return the answers per second; each connection asks anew when it has its answer."""
    address = urlsplit(base)
    request = _request(address.netloc, path, token)
    peers = {}
    with select.epoll() as waiting:
        for _ in range(connections):
            peer = socket.create_connection((address.hostname, address.port), timeout=10)
            peer.sendall(request)
            least = len(_read(peer)) - 8  # a request id may grow or shrink by some digits
            peers[peer.fileno()] = (peer.recv, peer.send, peer)
            waiting.register(peer.fileno(), select.EPOLLIN)
        for _, send, _ in peers.values():
            send(request)
        answers = 0
        begin = now = time.monotonic()
        while now - begin < seconds:
            for number, _ in waiting.poll(1.0):
                receive, send, _ = peers[number]
                if len(receive(65536)) < least:
                    raise RuntimeError("half an answer, or the connection is gone")
                send(request)
                answers += 1
            now = time.monotonic()
    for _, _, peer in peers.values():
        peer.close()
    return answers / (now - begin)
