"""bin/simulate ecs: ECS and CloudWatch Logs on this machine, by moto, and real processes.

It has one cluster, the task definitions of conf/ecs and a log group. It is for trying
and for tests: it takes any credentials, from this machine only.
"""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from vsmgate.shipped import conf_folder
from vsmgate.simulators import told

__all__ = ["main"]

_TICK = 0.05
REGION = "eu-west-1"
CLUSTER = "vsmgate"


def main(arguments: list[str]) -> None:
    """Serve until SIGINT or SIGTERM; everything that was started is gone then."""
    parser = argparse.ArgumentParser(prog="bin/simulate ecs", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--capacity", type=int, help="how many tasks may run at a time")
    parser.add_argument(
        "--pace", type=float, default=0.0, help="seconds for which a task stays in each state"
    )
    options = parser.parse_args(arguments)
    try:
        from vsmgate.simulators import ecs_moto, ecs_player
    except ImportError as error:
        sys.exit(f"moto is missing ({error}): install it with pip install 'vsmgate[simulators]'")

    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    server = ecs_moto.serve("127.0.0.1", options.port, options.capacity)
    with tempfile.TemporaryDirectory(prefix="vsmgate-ecs-") as folder:
        player = ecs_player.Player(Path(folder), options.pace, options.capacity)
        try:
            host, port = server.get_host_and_port()
            url = f"http://{host}:{port}"
            print(_told(url, *_furnish(url)), end="", flush=True)
            while not over.wait(_TICK):
                player.look(ecs_moto.tasks())
        finally:
            server.stop()
            player.close()


def _furnish(url: str) -> tuple[str, str]:
    """Make what an operator would have made; return a subnet and a security group."""
    from botocore.session import Session

    def client(service: str) -> Any:
        keys = {"aws_access_key_id": "stand-in", "aws_secret_access_key": "stand-in"}
        return Session().create_client(service, REGION, endpoint_url=url, **keys)

    ecs = client("ecs")
    ecs.create_cluster(clusterName=CLUSTER)
    for path in sorted((conf_folder() / "ecs").glob("*.json")):
        ecs.register_task_definition(**json.loads(path.read_text()))
    ec2 = client("ec2")
    subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    group = ec2.describe_security_groups()["SecurityGroups"][0]["GroupId"]
    return subnet, group


def _told(url: str, subnet: str, group: str) -> str:
    table = f"""\
[launchers.ecs]
kind = "ecs"
targets = ["127.0.0.0/8"]
region = "{REGION}"
cluster = "{CLUSTER}"
subnets = ["{subnet}"]
security_groups = ["{group}"]
launch_type = "FARGATE"
log_group = "/vsmgate/jobs"
log_prefix = "vsmgate"
endpoint = "{url}"
logs_endpoint = "{url}"
"""
    return told(
        f"ECS and CloudWatch Logs, whose tasks run here: {url}",
        "ecs",
        table,
        "The gateway, and the check, need credentials; any will do:",
        "  export AWS_ACCESS_KEY_ID=stand-in AWS_SECRET_ACCESS_KEY=stand-in",
    )
