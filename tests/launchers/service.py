"""A small service: ``service.py NAME BEHAVIOUR [HOST PORT] ...``, told to write what it got."""

# ruff: noqa: T201
from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time

name, behaviour, *rest = sys.argv[1:]
with open(f"{name}.json.new", "w") as file:
    json.dump({"argv": sys.argv, "environment": dict(os.environ), "cwd": os.getcwd()}, file)
os.replace(f"{name}.json.new", f"{name}.json")
print("hello", flush=True)
if behaviour == "fails":
    print("first line\nno graphics card\x1b", file=sys.stderr, flush=True)
    sys.exit(3)
if behaviour == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if behaviour == "finishes":
    sys.exit(0)
if behaviour == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if behaviour == "greedy":  # two processes, so that each has less than both
    child = os.fork() == 0
    kept = os.urandom(4096) * 15_000
    if child:
        signal.pause()
if behaviour == "runaway" and os.fork() == 0:
    # A child that leaves the session, as daemons do.
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("away", flush=True)
    signal.pause()
if behaviour == "chatty":  # for ever, and faster than anybody reads
    line, number = b"x" * 65515, 0
    while True:
        os.write(1, b"%020d" % number + line + b"\n")
        number += 1
        time.sleep(0.01)
listener = socket.create_server((rest[0], int(rest[1])))
print("listening", flush=True)
while True:
    connection, _ = listener.accept()
    connection.sendall(name.encode())
    connection.close()
