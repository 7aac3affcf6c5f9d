"""The ECS launcher and an AWS that does as it should not, or that sees who asks."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from msgspec.structs import replace
from twisted.internet.defer import maybeDeferred
from twisted.logger import LogEvent, formatEvent
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from tests.launchers.ecs_rig import SUBNET, launch_of, usecase_of
from tests.launchers.ecs_site import KEYS
from vsmgate.errors import EngineRefused, EngineUnreachable
from vsmgate.interfaces import Context, ILauncher
from vsmgate.launchers.ecs import EcsLauncherFactory
from vsmgate.launchers.ecs_settings import EcsSettings
from vsmgate.model import LogStream, Phase
from vsmgate.testing.deferreds import deferred, gather

#: Twisted 26.10 hands pyOpenSSL's own objects to it.
pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")

TASK = "0123456789abcdef0123456789abcdef"
ARN = f"arn:aws:ecs:eu-west-1:123456789012:task/vis/{TASK}"
REF = f"{TASK};renderer=renderer:5000"


class Aws(Resource):
    """Answers each question with the next of ``answers``, the last one for ever."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[tuple[int, bytes] | None] = []
        self.asked: list[tuple[str, dict[str, str], bytes]] = []
        self.port: Any = None
        self.scheme = "http"

    def render(self, request: Request) -> Any:
        headers = {
            name.decode().lower(): values[0].decode()
            for name, values in request.requestHeaders.getAllRawHeaders()
        }
        operation = headers["x-amz-target"].partition(".")[2]
        self.asked.append((operation, headers, request.content.read()))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is None:
            request.write(b"{")
            return NOT_DONE_YET
        request.setResponseCode(answer[0])
        return answer[1]

    def error(self, kind: str, message: str = "", status: int = 400) -> None:
        """Answer with an error from now on."""
        self.answers = [(status, json.dumps({"__type": kind, "message": message}).encode())]


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Aws]:
    from twisted.internet import reactor as found

    reactor: Any = found
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    made = Aws()
    made.port = reactor.listenTCP(0, Site(made), interface="127.0.0.1")
    yield made
    pytest_twisted.blockon(maybeDeferred(made.port.stopListening))


def launcher_of(aws: Aws, folder: Path, **more: Any) -> ILauncher:
    from twisted.internet import reactor

    url = f"{aws.scheme}://127.0.0.1:{aws.port.getHost().port}"
    settings = EcsSettings(
        region="eu-west-1",
        subnets=(SUBNET,),
        cluster="vis",
        log_group="/vis",
        log_prefix="vis",
        endpoint=url,
        logs_endpoint=url,
    )
    context = Context("ecs", reactor, time.time, folder, folder)
    return EcsLauncherFactory().make(replace(settings, **more), context)


async def failure(launcher: ILauncher) -> str:
    """Return what a poll fails with, which must not end any job."""
    with pytest.raises(EngineUnreachable) as caught:
        await launcher.poll([REF])
    return caught.value.detail


@deferred
async def test_questions_are_signed(aws: Aws, tmp_path: Path) -> None:
    aws.answers = [(200, json.dumps({"tasks": [], "failures": []}).encode())]
    seen = await launcher_of(aws, tmp_path).poll([REF])
    assert seen[REF].phase is Phase.UNKNOWN
    ((operation, headers, body),) = aws.asked
    assert operation == "DescribeTasks"
    assert json.loads(body) == {"cluster": "vis", "tasks": [TASK]}
    assert headers["content-type"] == "application/x-amz-json-1.1"
    assert headers["authorization"] == authorization(headers, body)


def authorization(headers: dict[str, str], body: bytes) -> str:
    """Return what the header must be: AWS Signature Version 4, computed once more."""
    names = headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0]
    assert {"host", "x-amz-date", "x-amz-target"} <= set(names.split(";"))
    lines = [f"{name}:{headers[name]}" for name in names.split(";")]
    digest = hashlib.sha256(body).hexdigest()
    canonical = "\n".join(["POST", "/", "", *lines, "", names, digest])
    when = headers["x-amz-date"]
    scope = f"{when[:8]}/eu-west-1/ecs/aws4_request"
    hashed = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{when}\n{scope}\n{hashed}"
    key = f"AWS4{KEYS['AWS_SECRET_ACCESS_KEY']}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    credential = f"Credential={KEYS['AWS_ACCESS_KEY_ID']}/{scope}"
    return f"AWS4-HMAC-SHA256 {credential}, SignedHeaders={names}, Signature={signature}"


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (200, b"{}", "not its own"),
        (401, b"<html>log in</html>", "status 401"),
        (200, b"x" * (8 * 1024 * 1024 + 1), "larger than"),
        (400, b'{"__type": "ThrottlingException", "message": "Rate exceeded"}', "Throttling"),
    ],
)
@deferred
async def test_an_answer_that_is_none_tells_nothing_of_a_job(
    aws: Aws, tmp_path: Path, status: int, body: bytes, words: str
) -> None:
    aws.answers = [(status, body)]
    launcher = launcher_of(aws, tmp_path)
    assert words in await failure(launcher)
    with pytest.raises(EngineUnreachable):
        await launcher.submit(launch_of(usecase_of({"renderer": "stays"})))
    with pytest.raises(EngineUnreachable):
        await launcher.cancel(REF)
    with pytest.raises(EngineUnreachable):
        await launcher.logs(REF, "renderer", LogStream.STDOUT, 10)


@pytest.mark.parametrize(
    ("kind", "code"),
    [("ExpiredTokenException", "bad_credentials"), ("AccessDeniedException", "not_permitted")],
)
@deferred
async def test_refused_credentials_and_permissions(
    aws: Aws, tmp_path: Path, logged: list[LogEvent], kind: str, code: str
) -> None:
    said = "User: arn:aws:sts::123456789012:assumed-role/gate/i-0 may not ecs:RunTask"
    aws.error(kind, said)
    launcher = launcher_of(aws, tmp_path)
    with pytest.raises(EngineRefused) as caught:
        await launcher.submit(launch_of(usecase_of({"renderer": "stays"})))
    first = len(logged)
    detail = await failure(launcher)
    await failure(launcher)
    assert caught.value.code == code
    for shown in (caught.value.detail, caught.value.native, detail):
        assert "123456789012" not in shown
        assert "assumed-role" not in shown
    log = [formatEvent(event) for event in logged]
    assert any(said in line for line in log[:first]), "the operator reads which role it was"
    assert len([line for line in log[first:] if said in line]) == 1, "and is not flooded"
    for value in KEYS.values():
        assert value not in "".join(log)


@deferred
async def test_a_check_tells_the_operator_in_awss_own_words(aws: Aws, tmp_path: Path) -> None:
    said = "User: arn:aws:sts::123456789012:assumed-role/gate/i-0 is not authorized to perform"
    launcher: Any = launcher_of(aws, tmp_path)
    aws.error("AccessDeniedException", said)
    told = await launcher.check_engine()
    assert len(told) == 4  # clusters need not be described
    for operation, problem in zip(
        ("ListTasks", "DescribeTasks", "StopTask", "GetLogEvents"), told, strict=True
    ):
        assert f"{operation}: AccessDeniedException: {said}" in problem
    aws.error("ExpiredTokenException", said)
    (problem,) = await launcher.check_engine()
    assert "ExpiredToken" in problem


@deferred
async def test_credentials_that_were_renewed_are_read_again(
    aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aws.answers = [(200, b'{"tasks": []}')]
    launcher = launcher_of(aws, tmp_path)
    await launcher.poll([REF])
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDNEW")
    aws.answers = [(400, b'{"__type": "ExpiredTokenException"}'), (200, b'{"tasks": []}')]
    assert (await launcher.poll([REF]))[REF].phase is Phase.UNKNOWN
    used = [headers["authorization"].partition("=")[2][:7] for _, headers, _ in aws.asked]
    assert used == ["AKIDEXA", "AKIDEXA", "AKIDNEW"]


@deferred
async def test_a_task_that_ecs_does_not_show_yet_is_not_lost(aws: Aws, tmp_path: Path) -> None:
    launcher = launcher_of(aws, tmp_path)
    aws.answers = [(200, json.dumps({"tasks": [{"taskArn": ARN}], "failures": []}).encode())]
    ref = await launcher.submit(launch_of(usecase_of({"renderer": "stays"})))
    assert ref == REF
    missing = {"tasks": [], "failures": [{"arn": ARN, "reason": "MISSING"}]}
    aws.answers = [(200, json.dumps(missing).encode())]
    assert (await launcher.poll([ref]))[ref].phase is Phase.STARTING
    later = launcher_of(aws, tmp_path)  # one that did not start it
    assert (await later.poll([ref]))[ref].phase is Phase.UNKNOWN


@deferred
async def test_a_conflict_tells_which_task_it_is(aws: Aws, tmp_path: Path) -> None:
    launcher = launcher_of(aws, tmp_path)
    launch = launch_of(usecase_of({"renderer": "stays"}))
    conflict = {"__type": "ConflictException", "message": "used", "resourceIds": [ARN]}
    aws.answers = [(400, json.dumps(conflict).encode())]
    assert await launcher.submit(launch) == REF
    aws.error("ConflictException", "used")
    with pytest.raises(EngineUnreachable):  # the caller asks for the tag then
        await launcher.submit(launch)
    for odd in ("", "arn:aws:ecs:x:1:task/../../etc", "x" * 5000):
        aws.answers = [(200, json.dumps({"tasks": [{"taskArn": odd}]}).encode())]
        with pytest.raises(EngineUnreachable, match="a name that is none"):
            await launcher.submit(launch)


@deferred
async def test_pages_of_a_log(aws: Aws, tmp_path: Path) -> None:
    def page(token: str, *lines: str) -> tuple[int, bytes]:
        events = [{"timestamp": 1, "message": line} for line in lines]
        return 200, json.dumps({"events": events, "nextBackwardToken": token}).encode()

    launcher = launcher_of(aws, tmp_path)
    aws.answers = [page("b/1"), page("b/2", "third é", "fourth"), page("b/2", "first", "second")]
    text = await launcher.logs(REF, "renderer", LogStream.STDOUT, 1000)
    assert text.decode() == "first\nsecond\nthird é\nfourth\n"
    body = json.loads(aws.asked[0][2])
    assert body["logStreamName"] == f"vis/renderer/{TASK}"
    aws.asked.clear()
    aws.answers = [page("b/1", "x" * 100), page("b/2")]
    assert await launcher.logs(REF, "renderer", LogStream.STDOUT, 3) == b"xx\n"
    assert len(aws.asked) == 1
    aws.answers = [page(f"b/{number}") for number in range(100)]
    aws.asked.clear()
    assert await launcher.logs(REF, "renderer", LogStream.STDOUT, 10) == b""
    assert len(aws.asked) < 10, "a log of nothing but tokens comes to an end"


@deferred
async def test_many_tasks_of_one_tag(aws: Aws, tmp_path: Path) -> None:
    """Somebody else's imitation came later, or is no task of ours."""
    tag = "vsmgate-x"

    def task(number: int, created: float, service: str) -> dict[str, Any]:
        environment = [
            {"name": "VSMGATE_SERVICE", "value": service},
            {"name": "VSMGATE_PORT", "value": "5000"},
        ]
        override = {"name": "web", "environment": environment if service else []}
        arn = f"{ARN[:-1]}{number}"
        overrides = {"containerOverrides": [override]}
        return {"taskArn": arn, "startedBy": tag, "createdAt": created, "overrides": overrides}

    tasks = [task(1, 20.0, "renderer"), task(2, 10.0, "renderer"), task(3, 5.0, "")]
    listed = json.dumps({"taskArns": [task["taskArn"] for task in tasks]}).encode()
    nothing = b'{"taskArns": []}'
    described = json.dumps({"tasks": tasks}).encode()
    aws.answers = [(200, listed), (200, nothing), (200, described)]
    found = await launcher_of(aws, tmp_path).find([tag])
    assert found == {tag: f"{TASK[:-1]}2;renderer=web:5000"}


@pytest.fixture(autouse=True)
def _no_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test may ask the machine that it runs on for credentials."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@deferred
async def test_many_questions_at_once_look_credentials_up_once(aws: Aws, tmp_path: Path) -> None:
    aws.answers = [(200, b'{"tasks": []}')]
    launcher = launcher_of(aws, tmp_path)
    results, errors = await gather([launcher.poll([REF]) for _ in range(12)])
    assert errors == []
    assert len(results) == 12
