"""The demo through a real gateway, on the UNICORE stand-in."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

from tests.e2e.rig import Gateway
from tests.e2e.test_demo import draw
from tests.launchers.unicore_rig import StandIn
from vsmgate.shipped import conf_folder


def test_the_demo_is_drawn_by_unicore(
    unicore_site: StandIn, tmp_path: Path, make_gateway: Callable[..., Gateway]
) -> None:
    usecases = tmp_path / "usecases"
    usecases.mkdir()
    demo = (conf_folder() / "usecases" / "demo.toml").read_text()
    (usecases / "demo.toml").write_text(demo.replace('launcher = "local"', 'launcher = "site"', 1))
    config = tmp_path / "vsmgate.toml"
    config.write_text(
        (conf_folder() / "vsmgate.toml").read_text()
        + f"""
        folder = "usecases"
        [launchers.site]
        kind = "unicore"
        url = {json.dumps(unicore_site.url)}
        token_file = {json.dumps(str(unicore_site.token_file))}
        targets = ["127.0.0.0/8"]
        bind = "127.0.0.1"
        address = "127.0.0.1"
        python = {json.dumps(sys.executable)}
        """
    )
    gateway = make_gateway("--config", str(config))
    job_id = gateway.start_demo()
    tag = f"vsmgate-{job_id}"
    try:
        status = gateway.ask("GET", f"/status/{job_id}").json
        assert status["end_time"].endswith("+00:00")
        assert len(unicore_site.live(tag)) == 1
        draw(f"{gateway.relay}/{job_id}/renderer", gateway.token)
        gateway.ask("POST", f"/stop/{job_id}")
        gateway.until(
            lambda: gateway.ask("GET", f"/status/{job_id}").status == 410, "the job's end"
        )
        assert unicore_site.live(tag) == []
        assert unicore_site.token not in gateway.log
    finally:
        unicore_site.remove(tag)
