"""The demo through a real gateway, on the UNICORE stand-in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.e2e.rig import Gateway
from tests.e2e.site import demo_on, shipped_site
from tests.e2e.test_demo import draw
from tests.launchers.unicore_rig import StandIn


def test_the_demo_is_drawn_by_unicore(
    unicore_site: StandIn, tmp_path: Path, make_gateway: Callable[..., Gateway]
) -> None:
    site = shipped_site(tmp_path, {"demo": demo_on("unicore")}, unicore_site.said)
    gateway = make_gateway(*site)
    job_id = gateway.start_demo()
    tag = f"vsmgate-{job_id}"
    try:
        status = gateway.ask("GET", f"/status/{job_id}").json
        assert status["end_time"].endswith("+00:00")
        assert len(unicore_site.live(tag)) == 1
        draw(f"{gateway.relay}/{job_id}/renderer", gateway.token)
        gateway.stop_job(job_id)
        assert unicore_site.live(tag) == []
        assert unicore_site.token not in gateway.log
    finally:
        unicore_site.remove(tag)
