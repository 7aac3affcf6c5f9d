"""Start the demo through a gateway, draw two pictures with the Brayns client, stop it.

Run it as: .venv/bin/python docs/examples/draw.py [MASTER_URL [TOKEN_FILE]]
"""

import json
import sys
import time
import urllib.request
from pathlib import Path

from vsmgate.demo.client import brayns

master = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:4444"
token = Path(sys.argv[2] if len(sys.argv) > 2 else "var/token").read_text().strip()


def ask(method, path, body=None):
    """Ask the REST API."""
    request = urllib.request.Request(
        master + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as reply:
        return json.load(reply)


job = ask("POST", "/start", {"usecase": "demo"})["job_id"]
print("job", job)
while not (status := ask("GET", f"/status/{job}"))["ready"]:
    time.sleep(0.2)
print("ready at", status["job_url"], "until", status["end_time"])

with brayns.Connector(f"{status['job_url']}?token={token}").connect() as renderer:
    full_hd = brayns.Resolution(1920, 1080)
    brayns.Snapshot(resolution=full_hd).save(renderer, "front.png")
    view = brayns.get_camera_view(renderer)
    side = brayns.View(brayns.Vector3(330, 20, 60), view.target)
    brayns.Snapshot(resolution=full_hd, camera=brayns.Camera(view=side)).save(renderer, "side.png")
print("front.png and side.png are drawn")

ask("POST", f"/stop/{job}")
