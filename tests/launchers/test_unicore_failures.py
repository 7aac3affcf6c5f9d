"""What the UNICORE launcher makes of servers that fail, refuse, or talk nonsense."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.ssl import PrivateCertificate
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from tests.launchers.unicore_rig import launch_of, usecase_of
from vsmgate.errors import BadCredentials, ConfigError, EngineRefused, EngineUnreachable
from vsmgate.interfaces import Context
from vsmgate.launchers.unicore import UnicoreLauncherFactory
from vsmgate.launchers.unicore_answers import UnicoreJob
from vsmgate.launchers.unicore_launcher import UnicoreLauncher
from vsmgate.launchers.unicore_settings import UnicoreSettings
from vsmgate.model import LogStream
from vsmgate.settings import read
from vsmgate.testing.deferreds import deferred

TOKEN = "tok3n-of-the-gateway"
JOB = "0cc175b9-c0f1-46b6-831c-399e26977266"


class Script(Resource):
    """Answers everything with the same; keeps what it was asked."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.status, self.body = 200, b"{}"
        self.headers: dict[str, str] = {}
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.silent = False
        self.url = ""

    def render(self, request: Request) -> bytes | int:
        headers = {
            name.decode().lower(): values[0].decode()
            for name, values in request.requestHeaders.getAllRawHeaders()
        }
        self.asked.append((request.method.decode(), request.uri.decode(), headers))
        if self.silent:
            request.notifyFinish().addErrback(lambda _: None)
            return NOT_DONE_YET
        request.setResponseCode(self.status)
        for name, value in self.headers.items():
            request.setHeader(name, value)
        return self.body


@pytest.fixture
def serve() -> Iterator[Callable[..., Script]]:
    from twisted.internet import reactor as found

    reactor: Any = found
    ports = []

    def serving(certificate: PrivateCertificate | None = None) -> Script:
        script = Script()
        site = Site(script)
        if certificate is None:
            port = reactor.listenTCP(0, site, interface="127.0.0.1")
        else:
            port = reactor.listenSSL(0, site, certificate.options(), interface="127.0.0.1")
        ports.append(port)
        scheme = "http" if certificate is None else "https"
        script.url = f"{scheme}://127.0.0.1:{port.getHost().port}/SITE/rest/core"
        return script

    yield serving
    for port in ports:
        pytest_twisted.blockon(maybeDeferred(port.stopListening))


@pytest.fixture
def script(serve: Callable[..., Script]) -> Script:
    return serve()


@pytest.fixture
def launcher_for(tmp_path: Path) -> Iterator[Callable[..., UnicoreLauncher]]:
    from twisted.internet import reactor

    (tmp_path / "token").write_text(TOKEN)
    made = []

    def make(url: str, **settings: Any) -> Any:
        context = Context("site", reactor, time.time, tmp_path, tmp_path)
        given = {"token_file": "token", "timeout": 20.0, "poll_every": 0.0, **settings}
        made.append(UnicoreLauncherFactory().make(UnicoreSettings(url, **given), context))
        return made[-1]

    yield make
    for launcher in made:
        pytest_twisted.blockon(Deferred.fromCoroutine(launcher.close()))


@pytest.mark.parametrize(
    ("status", "words", "code"),
    [
        (400, "bad", "engine_refused"),
        (500, "Could not submit job: Could not parse requested resource <Nodes>", "engine_refused"),
        (500, "Resource request <Queue = nope> is out of range.", "bad_partition"),
        (500, "Invalid account or account/partition combination specified", "bad_account"),
    ],
)
@deferred
async def test_refused_jobs(
    script: Script, launcher_for: Callable[..., UnicoreLauncher], status: int, words: str, code: str
) -> None:
    script.status, script.body = status, json.dumps({"errorMessage": words}).encode()
    with pytest.raises(EngineRefused) as caught:
        await launcher_for(script.url).submit(launch_of(usecase_of({"renderer": "stays"})))
    assert (caught.value.code, caught.value.native) == (code, words)


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (200, {"client": {"role": {"selected": "anonymous"}}, "server": {}}, "for nobody"),
        (403, {}, "does not accept"),
        (200, {"hello": "world"}, "Check url"),
        (404, {}, "HTTP 404"),
        (
            200,
            {
                "client": {"role": {"selected": "user"}},
                "server": {"jobSubmission": {"enabled": False, "message": "until Monday"}},
                "jobs": [],
            },
            "switched off at the site: until Monday",
        ),
    ],
)
@deferred
async def test_a_site_that_would_take_no_jobs(
    script: Script,
    launcher_for: Callable[..., UnicoreLauncher],
    status: int,
    body: object,
    told: str,
) -> None:
    script.status, script.body = status, json.dumps(body).encode()
    (said,) = await launcher_for(script.url).check_engine()
    assert told in said


class SlowSite:
    """Takes a tenth of a second for every job."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.asked = clock, 0

    async def job(self, job: str) -> UnicoreJob:
        self.asked += 1
        await deferLater(self.clock, 0.1)
        return UnicoreJob("READY")


def test_many_jobs_at_a_slow_site_are_asked_for_less_often(tmp_path: Path) -> None:
    clock: Any = Clock()
    site: Any = SlowSite(clock)
    context = Context("site", clock, clock.seconds, tmp_path, tmp_path)
    settings = UnicoreSettings("https://x/S/rest/core", poll_every=2.0)
    launcher = UnicoreLauncher(settings, context, site)
    refs = [f"{JOB[:-3]}{number:03}" for number in range(100)]

    def poll() -> int:
        before = site.asked
        polled = Deferred.fromCoroutine(launcher.poll(refs))
        clock.pump([0.1] * 26)  # four at a time
        assert len(SynchronousTestCase().successResultOf(polled)) == 100
        return int(site.asked - before)

    assert poll() == 100
    clock.advance(10.0)
    assert poll() == 100  # the first look could not know how slow the site is
    assert [poll() for _ in range(3)] == [0, 0, 0]
    clock.advance(10.0)
    assert poll() > 0


@deferred
async def test_a_file_that_may_not_be_read_is_no_refused_credential(
    script: Script, launcher_for: Callable[..., UnicoreLauncher]
) -> None:
    """A job can make its own folder unreadable; the other jobs are seen all the same."""
    script.status = 403
    launcher = launcher_for(script.url)
    assert await launcher.logs(JOB, "renderer", LogStream.STDOUT, 10) == b""
    script.status = 401
    with pytest.raises(BadCredentials):
        await launcher.logs(JOB, "renderer", LogStream.STDOUT, 10)


@deferred
async def test_an_id_that_is_none_is_not_used(
    script: Script, launcher_for: Callable[..., UnicoreLauncher]
) -> None:
    script.status, script.headers = 201, {"Location": "http://evil.example/jobs/../../x?y"}
    with pytest.raises(EngineUnreachable, match="which id"):
        await launcher_for(script.url).submit(launch_of(usecase_of({"renderer": "stays"})))


@deferred
async def test_the_credential_goes_nowhere_else(
    serve: Callable[..., Script], launcher_for: Callable[..., UnicoreLauncher]
) -> None:
    script, elsewhere = serve(), serve()
    launch = launch_of(usecase_of({"renderer": "stays"}))
    script.body = json.dumps(
        {
            "jobs": [f"{elsewhere.url}/jobs/{JOB}"],
            "status": "RUNNING",
            "tags": [launch.tag],
            "_links": {"workingDirectory": {"href": f"{elsewhere.url}/storages/x"}},
        }
    ).encode()
    launcher = launcher_for(script.url)
    assert await launcher.find([launch.tag]) == {launch.tag: JOB}
    await launcher.poll([JOB])
    await launcher.logs(JOB, "renderer", LogStream.STDOUT, 10)
    assert elsewhere.asked == []
    assert {headers["authorization"] for _, _, headers in script.asked} == {f"Bearer {TOKEN}"}


@deferred
async def test_refs_and_services_never_lead_out(
    script: Script, launcher_for: Callable[..., UnicoreLauncher]
) -> None:
    launcher = launcher_for(script.url)
    for ref in ("", "../../core", f"{JOB}/x", f"{JOB}:", f"{JOB}:a,role:admin", f"{JOB}?x"):
        await launcher.poll([ref])
        await launcher.cancel(ref)
        await launcher.forget(ref)
        await launcher.logs(ref, "renderer", LogStream.STDOUT, 10)
    await launcher.logs(JOB, "../../x", LogStream.STDOUT, 10)
    assert script.asked == []


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"url": "http://unicore.example.org/S/rest/core"}, "must be https"),
        ({"url": "https://ada:pw@unicore.example.org/S"}, "must not have a user"),
        ({"url": "ftp://x/y"}, "not the address of a site"),
        ({"token_file": "no-such-file"}, "is no file"),
        ({"token_file": "empty"}, "is empty"),
        ({"token_file": None}, "one credential is needed"),
        ({"token_env": "X"}, "one credential is needed"),
        ({"token_file": None, "password_file": "token"}, "is required with a password"),
        ({"user": "ada"}, "goes with a password"),
        ({"token_file": None, "token_env": "NO_SUCH_VARIABLE"}, "is not set"),
        ({"ca_file": "token"}, "holds no certificate"),
        ({"ca_file": "no-such-file"}, "no such file"),
        ({"preferences": {"uid": "a,role:admin"}}, "must be a name"),
        ({"preferences": {"wid": "a"}}, "is unknown"),
        ({"nodes": "("}, "no regular expression"),
        ({"ports": (20, 30)}, "from 1024 on"),
        ({"address": "a b"}, "is no address"),
    ],
)
def test_mistakes_in_the_settings_are_told(
    launcher_for: Callable[..., UnicoreLauncher],
    tmp_path: Path,
    settings: dict[str, Any],
    told: str,
) -> None:
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(ConfigError, match=told) as caught:
        launcher_for(**{"url": "https://unicore.example.org/S/rest/core", **settings})
    assert "pw" not in str(caught.value)
    assert all(problem.pointer.startswith("launchers.site") for problem in caught.value.problems)


def test_a_table_of_settings() -> None:
    table = {"url": "https://x/S/rest/core", "user": "ada", "password_env": "X"}
    table |= {"preferences": {"uid": "{owner}"}}
    settings = read(UnicoreSettings, table, source="test")
    assert settings.per_owner
