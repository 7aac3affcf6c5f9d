"""A store that cannot be written is told by /readyz, which recovers by itself."""

from __future__ import annotations

from collections.abc import Callable

from tests.e2e.rig import Gateway


def test_a_store_that_is_away(make_gateway: Callable[..., Gateway]) -> None:
    gateway = make_gateway()
    assert gateway.ask("GET", "/readyz", token=None).status == 200
    file = gateway.state_dir / "vsmgate.sqlite3"
    aside = file.rename(gateway.state_dir / "aside")
    refused = gateway.ask("POST", "/start", {"usecase": "demo"})
    assert (refused.status, refused.json["code"]) == (503, "store_unavailable")
    answer = gateway.ask("GET", "/readyz", token=None)
    assert (answer.status, answer.json["code"]) == (503, "not_ready")
    assert "store" in answer.json["detail"]
    assert str(gateway.state_dir) not in answer.json["detail"]
    aside.rename(file)
    gateway.until(lambda: gateway.ask("GET", "/readyz").status == 200, "it to be ready again")
    gateway.start_demo()
