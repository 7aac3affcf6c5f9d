"""Plays a gateway that is killed inside of a submit: ``kubernetes_killed.py KUBECONFIG PATH``.

It dies by its own SIGKILL when the API server has taken the first POST to what ends with
``PATH``, and before it heard the answer.
"""

# ruff: noqa: T201
from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from tests.launchers.kubernetes_rig import launch_of, usecase_of
from vsmgate.hands.http_client import HttpClient
from vsmgate.interfaces import Context
from vsmgate.launchers.kubernetes import KubernetesLauncherFactory
from vsmgate.launchers.kubernetes_settings import KubernetesSettings


def main() -> None:
    from twisted.internet import reactor

    kubeconfig, path = sys.argv[1:]
    settings = KubernetesSettings(kubeconfig=kubeconfig, bind="{pod}", python=sys.executable)
    context = Context("kubernetes", reactor, time.time, Path("/"), Path("/"))
    launcher = KubernetesLauncherFactory().make(settings, context)
    whole = HttpClient.request

    async def request(self: HttpClient, method: str, url: str, *rest: Any) -> Any:
        answer = await whole(self, method, url, *rest)
        if method == "POST" and url.endswith(path):
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    HttpClient.request = request  # type: ignore[method-assign]
    launch = launch_of(usecase_of({"renderer": "stays"}), secret="s3cret")
    print(launch.job_id, flush=True)
    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(launcher.submit(launch)))
    reactor.run()


if __name__ == "__main__":
    main()
