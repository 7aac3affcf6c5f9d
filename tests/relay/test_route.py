from __future__ import annotations

import pytest

from vsmgate.config import RelayConfig
from vsmgate.errors import NoSuchJob, OriginRefused
from vsmgate.heads import RequestHead
from vsmgate.model import Service
from vsmgate.relay.crossing import crossing_value, service_headers, service_target
from vsmgate.relay.route import check_origin, origins_of, route_of

JOB = "abcdefghijklmnopqrstuvwxyz"


@pytest.mark.parametrize(
    "path", [f"/{JOB}/renderer", f"/{JOB}/renderer/ws", f"/{JOB.upper()}/renderer"]
)
@pytest.mark.parametrize("base", ["", "/vsm/proxy"])
def test_routes(path: str, base: str) -> None:
    config = RelayConfig(base_path=base)
    route = route_of(base + path, config)
    assert (route.job_id, route.service) == (JOB, "renderer")
    assert route.path_in(Service(path="/own")) == "/own"
    assert base + path in (route.public, route.public + "/ws")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/healthz",
        f"/{JOB}",
        f"/{JOB}/",
        f"/{JOB}/renderer/",
        f"/{JOB}/renderer/ws/ws",
        f"/{JOB}/renderer/x",
        f"/{JOB}/../renderer",
        f"//{JOB}/renderer",
        f"/{JOB[:-1]}/renderer",
        f"/{JOB}a/renderer",
        f"/{JOB[:-1]}1/renderer",
        f"/{JOB[:-1]}%7A/renderer",
        f"/{JOB}/Renderer",
        f"/{JOB}/{'a' * 80}",
        f"/vsmx/{JOB}/renderer",
    ],
)
def test_no_routes(path: str) -> None:
    with pytest.raises(NoSuchJob):
        route_of(path, RelayConfig()).path_in(Service())


def test_below_its_base_only() -> None:
    for path in (f"/{JOB}/renderer", f"/vsmx/{JOB}/renderer", "/vsm"):
        with pytest.raises(NoSuchJob):
            route_of(path, RelayConfig(base_path="/vsm"))


@pytest.mark.parametrize(
    ("config", "own"),
    [
        (RelayConfig(), "http://127.0.0.1:9"),
        (RelayConfig(host="::1"), "http://[::1]:9"),
        (RelayConfig(public_base="Vis.example.org/vsm"), "http://vis.example.org"),
        (RelayConfig(public_base="vis.example.org:80"), "http://vis.example.org"),
        (
            RelayConfig(public_base="vis.example.org:443", tls_public=True),
            "https://vis.example.org",
        ),
        (
            RelayConfig(public_base="vis.example.org:444/a", tls_public=True),
            "https://vis.example.org:444",
        ),
    ],
)
def test_own_origin(config: RelayConfig, own: str) -> None:
    assert origins_of(config, 9) == {own}


@pytest.mark.criterion("S-3")
def test_origins() -> None:
    allowed = origins_of(RelayConfig(allowed_origins=("https://good.example",)), 9)
    for origin in (None, "https://good.example", "http://127.0.0.1:9"):
        check_origin(origin, allowed)
    for origin in (
        "",
        "null",
        "https://evil.example",
        "https://good.example.evil.com",
        "https://evilgood.example",
        "http://good.example",
        "https://good.example:444",
        "https://good.example/",
    ):
        with pytest.raises(OriginRefused):
            check_origin(origin, allowed)


@pytest.mark.criterion("C-24")
def test_the_service_is_dialled_at_its_own_path() -> None:
    assert service_target("/", "") == "/"
    assert service_target("/ws", "a=%20b&&c") == "/ws?a=%20b&&c"
    assert service_target("/ws?v=1", "a=b") == "/ws?v=1&a=b"


@pytest.mark.criterion("C-14", "S-6")
def test_headers_are_listed_ones_and_ours() -> None:
    head = RequestHead(
        method="GET",
        target="/",
        headers=(
            ("Host", "vis.example.org"),
            ("Connection", "Upgrade, X-Forwarded-For, accept-language"),
            ("Accept-Language", "de"),
            ("User-Agent", "me"),
            ("Cookie", "a=b"),
            ("Authorization", "Bearer x"),
            ("Origin", "http://a"),
            ("X-Forwarded-For", "6.6.6.6"),
            ("X-Vsmgate-User", "root"),
            ("Forwarded", "for=6.6.6.6"),
        ),
    )
    headers = service_headers(
        head, peer="127.0.0.1", tls=True, job_id=JOB, subject="é\r\nX: y", request_id="r"
    )
    assert headers == {
        "X-Forwarded-For": "127.0.0.1",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "vis.example.org",
        "X-Vsmgate-Job": JOB,
        "X-Vsmgate-User": "%C3%A9%0D%0AX:%20y",
        "X-Request-Id": "r",
    }
    assert crossing_value(head, "User-Agent") == "me"
