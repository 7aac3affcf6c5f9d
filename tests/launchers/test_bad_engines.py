"""Engines that are away, refuse us, or are something else: the same for all that speak HTTP."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.ssl import PrivateCertificate
from twisted.web.server import Site

from tests.certificates import Authority
from tests.launchers.answering import ENGINES, JOB, TOKEN, Answering, Engine
from tests.launchers.ecs_site import KEYS
from vsmgate.errors import BadCredentials, EngineRefused, EngineUnreachable
from vsmgate.interfaces import Context, ILauncher
from vsmgate.model import LogStream, Phase
from vsmgate.reasons import remedy
from vsmgate.testing.deferreds import deferred

#: Twisted 26.10 hands pyOpenSSL's own objects to it.
pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")

#: What no user may read: credentials, the engine's words about them, addresses of ours.
SECRETS = (TOKEN, *KEYS.values(), "robot", "127.0.0.1", "http:", "https:")


NOT_UTF8 = b"""{"metadata": {"name": "\xff"}, "items": [{"metadata": {"name": "\xff"}}],
"tasks": [{"taskArn": "\xff"}], "taskArns": ["\xff"], "task": {"taskArn": "\xff"}, "status": "\xff",
"kind": "\xff", "jobs": [{"job_id": 7, "job_state": "RUNNING", "name": "\xff"}]}"""


class Bench:
    """A launcher of one kind, and the server that it asks."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine = engine
        self.server = Answering()
        self.folder = folder
        self.ref = engine.ref
        self._made: list[ILauncher] = []
        self._port: Any = None

    def listen(self, pair: PrivateCertificate | None = None) -> str:
        from twisted.internet import reactor as found

        reactor: Any = found
        site = Site(self.server)
        if pair is None:
            self._port = reactor.listenTCP(0, site, interface="127.0.0.1")
        else:
            self._port = reactor.listenSSL(0, site, pair.options(), interface="127.0.0.1")
        return f"{'https' if pair else 'http'}://127.0.0.1:{self._port.getHost().port}"

    def launcher(self, url: str, timeout: float = 20.0, ca: str | None = None) -> ILauncher:
        from twisted.internet import reactor as found

        reactor: Any = found
        context = Context("engine", reactor, time.time, self.folder, self.folder)
        self._made.append(self.engine.make(url, context, timeout, ca))
        return self._made[-1]

    async def fail(self, launcher: ILauncher) -> set[str]:
        """Call what all must fail as an engine that cannot be asked; return what users read."""
        launch = self.engine.launch()
        calls: list[Callable[[], Coroutine[Any, Any, Any]]] = [
            lambda: launcher.submit(launch),
            lambda: launcher.find([launch.tag]),
            lambda: launcher.poll([self.ref]),
            lambda: launcher.cancel(self.ref),
        ]
        said = set()
        for call in calls:
            with pytest.raises(EngineUnreachable) as caught:
                await call()
            said.add(caught.value.detail)
        for text in said:
            assert not [secret for secret in SECRETS if secret in text]
            assert len(text) < 700
            assert text.isprintable()
        return said

    async def close(self) -> None:
        for launcher in self._made:
            await launcher.close()
        if self._port is not None:
            await maybeDeferred(self._port.stopListening)


@pytest.fixture
def benches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Bench]]:
    """Return what makes the bench of one kind."""
    for name, value in {**KEYS, "AWS_EC2_METADATA_DISABLED": "true"}.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "token").write_text(TOKEN)
    made: list[Bench] = []

    def make(kind: str) -> Bench:
        made.append(Bench(ENGINES[kind], tmp_path))
        return made[-1]

    yield make
    for bench in made:
        pytest_twisted.blockon(Deferred.fromCoroutine(bench.close()))


@pytest.fixture(params=ENGINES)
def bench(request: pytest.FixtureRequest, benches: Callable[[str], Bench]) -> Bench:
    return benches(request.param)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"<html><title>Sign in</title></html>"),
        (200, b""),
        (200, b"[1, 2"),
        (200, b"7"),
        (200, NOT_UTF8),
        (200, b'{"jobs": 7, "items": 7, "tasks": 7, "taskArns": 7, "status": 7, "kind": 7}'),
        (302, b"elsewhere"),
        (404, b"<h1>nginx</h1>"),
        (418, b""),
        (500, b"oops"),
        (502, b"<html><h1>Bad gateway</h1>" + b"x" * 100_000),
        (503, b'{"message": "wait"}'),
    ],
)
@deferred
async def test_what_is_no_answer_of_an_engine_tells_nothing_of_jobs(
    bench: Bench, status: int, body: bytes
) -> None:
    bench.server.status, bench.server.body = status, body
    await bench.fail(bench.launcher(bench.listen()))


@deferred
async def test_nobody_there_and_no_name(bench: Bench) -> None:
    assert all("refused" in text for text in await bench.fail(bench.launcher("http://127.0.0.1:9")))


@deferred
async def test_a_name_that_is_not_found_is_not_told_to_users(bench: Bench, tmp_path: Path) -> None:
    said = await bench.fail(bench.launcher("https://inner-name.invalid"))
    assert not any("inner-name" in text for text in said)
    assert all("its name is not found" in text for text in said)


@deferred
async def test_no_answer_in_time(bench: Bench) -> None:
    bench.server.silent = True
    said = await bench.fail(bench.launcher(bench.listen(), timeout=0.2))
    assert all("within 0.2 s" in text for text in said)


@deferred
async def test_certificates_are_verified(bench: Bench, tmp_path: Path) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    certificate, key = authority.issue("127.0.0.1")
    pair = PrivateCertificate.loadPEM(certificate.read_bytes() + key.read_bytes())
    url = bench.listen(pair)
    for ca in (None, other.ca.name):
        for text in await bench.fail(bench.launcher(url, ca=ca)):
            assert "TLS failed: certificate verify failed" in text
    assert bench.server.asked == [], "no credential was shown"
    bench.server.body = b"<html>"
    await bench.fail(bench.launcher(url, ca=authority.ca.name))
    assert bench.server.asked, "this one is trusted"


@deferred
async def test_a_certificate_for_another_name(bench: Bench, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("127.0.0.2")
    pair = PrivateCertificate.loadPEM(certificate.read_bytes() + key.read_bytes())
    for text in await bench.fail(bench.launcher(bench.listen(pair), ca=authority.ca.name)):
        assert "the certificate is for another name" in text
    assert bench.server.asked == []


@deferred
async def test_expired_credentials(bench: Bench) -> None:
    """No job ends for it; new ones are refused, and users read nothing that is not theirs."""
    bench.server.status, bench.server.body = bench.engine.expired
    launcher = bench.launcher(bench.listen())
    launch = bench.engine.launch()
    with pytest.raises(EngineRefused) as refused:
        await launcher.submit(launch)
    said = [refused.value]
    for call in (launcher.find([launch.tag]), launcher.poll([bench.ref])):
        with pytest.raises(BadCredentials) as caught:
            await call
        said.append(caught.value)
    for error in said:
        assert error.code == "bad_credentials"
        assert not [s for s in SECRETS if s in error.detail + getattr(error, "native", "")]


def status(reason: str, message: str) -> bytes:
    return json.dumps({"kind": "Status", "reason": reason, "message": message}).encode()


def aws(kind: str, message: str) -> bytes:
    return json.dumps({"__type": kind, "message": message}).encode()


def slurm(message: str) -> bytes:
    return json.dumps({"errors": [{"error": message, "error_number": 2000}]}).encode()


def site(message: str) -> bytes:
    return json.dumps({"errorMessage": message}).encode()


DEFINITION = "TaskDefinition not found."
INACTIVE = "TaskDefinition is inactive"
QUOTA = 'pods "x" is forbidden: exceeded quota: q, requested: cpu=9, used: cpu=8, limited: cpu=8'
MAXIMUM = 'pods "x" is forbidden: maximum cpu usage per Container is 4, but limit is 9'
ACCOUNT = "Invalid account or account/partition combination specified"
CONFIGURATION = "Requested node configuration is not available"
RBAC = 'pods is forbidden: User "robot" cannot create resource "pods" in API group ""'


@pytest.mark.parametrize(
    ("kind", "code", "status", "body"),
    [
        ("kubernetes", "limit_reached", 403, status("Forbidden", QUOTA)),
        ("kubernetes", "impossible_resources", 403, status("Forbidden", MAXIMUM)),
        ("kubernetes", "bad_namespace", 404, status("NotFound", 'namespaces "x" not found')),
        ("kubernetes", "not_permitted", 403, status("Forbidden", RBAC)),
        ("ecs", "no_task_definition", 400, aws("ClientException", DEFINITION)),
        ("ecs", "no_task_definition", 400, aws("InvalidParameterException", INACTIVE)),
        ("ecs", "no_cluster", 400, aws("ClusterNotFoundException", "Cluster not found.")),
        ("ecs", "not_permitted", 400, aws("AccessDeniedException", "robot may not")),
        ("slurmrestd", "bad_account", 500, slurm(ACCOUNT)),
        ("slurmrestd", "bad_partition", 500, slurm("Invalid partition name specified")),
        ("slurmrestd", "impossible_resources", 500, slurm(CONFIGURATION)),
        ("unicore", "bad_account", 500, site(ACCOUNT)),
        ("unicore", "bad_partition", 500, site("Resource request <Queue = no> is out of range.")),
        ("unicore", "impossible_resources", 400, site("Requested value <CPUs> is out of range.")),
    ],
)
@deferred
async def test_what_can_never_run_is_refused_with_a_code_and_a_remedy(
    benches: Callable[[str], Bench], kind: str, code: str, status: int, body: bytes
) -> None:
    bench = benches(kind)
    bench.server.status, bench.server.body = status, body
    with pytest.raises(EngineRefused) as caught:
        await bench.launcher(bench.listen()).submit(bench.engine.launch())
    error = caught.value
    assert error.code == code
    assert remedy(code)
    assert not [secret for secret in SECRETS if secret in error.detail + error.native]


@deferred
async def test_another_writer_of_a_quota_was_quicker(benches: Callable[[str], Bench]) -> None:
    """Kubernetes says 409 then; the same question may be taken a moment later."""
    bench = benches("kubernetes")
    told = 'Operation cannot be fulfilled on resourcequotas "q": the object has been modified'
    bench.server.status, bench.server.body = 409, status("Conflict", told)
    with pytest.raises(EngineUnreachable, match="cannot be fulfilled"):
        await bench.launcher(bench.listen()).submit(bench.engine.launch())


def ports_file(folder: Path) -> None:
    """Write what a Slurm job's script would have."""
    place = folder / "engine" / JOB
    place.mkdir(parents=True)
    (place / "ports").write_text("renderer 5000\n")


@pytest.mark.parametrize(
    "place",
    [
        "",
        "a b",
        "evil.example.org/../x",
        "n1\r\nX-Other: 1",
        "user@n1",
        "n1:22",
        "-oProxyCommand=x",
        "$(id)",
        "n" * 5000,
        "\u202enode",
    ],
)
@deferred
async def test_a_hostile_node_or_address_is_never_a_place(bench: Bench, place: str) -> None:
    ports_file(bench.folder)
    bench.server.body = bench.engine.running(place)
    launcher = bench.launcher(bench.listen())
    seen = (await launcher.poll([bench.ref]))[bench.ref]
    assert seen.phase in (Phase.RUNNING, Phase.STARTING)
    assert not seen.endpoints


@deferred
async def test_a_good_one_is(bench: Bench) -> None:
    ports_file(bench.folder)
    bench.server.body = bench.engine.running("10.1.2.3")
    launcher = bench.launcher(bench.listen())
    seen = (await launcher.poll([bench.ref]))[bench.ref]
    assert seen.phase is Phase.RUNNING
    assert seen.endpoints["renderer"].host == "10.1.2.3"


@deferred
async def test_a_huge_output_is_cut_or_not_taken(bench: Bench) -> None:
    bench.server.body = b"x" * (33 * 1024 * 1024)
    launcher = bench.launcher(bench.listen())
    for service in ("renderer", "../../x"):
        try:
            text = await launcher.logs(bench.ref, service, LogStream.STDOUT, 1000)
        except EngineUnreachable:
            continue
        assert len(text) <= 1000
