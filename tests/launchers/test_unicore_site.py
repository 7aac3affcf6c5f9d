"""The UNICORE launcher on the stand-in; the contract runs on it too (test_contract.py)."""

from __future__ import annotations

import json
import socket
import stat
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from zope.interface.verify import verifyObject

from tests.launchers.unicore_rig import UnicoreRig, launch_of, usecase_of
from vsmgate.errors import EngineRefused
from vsmgate.interfaces import IEngineCheck
from vsmgate.model import LogStream, Phase, Secret, tag_of
from vsmgate.testing.deferreds import deferred, gather

NASTY = ["$(id)", "; rm -rf /", "`id` && x | y > z", "--wrap=", "", " a b ", "'\"\\", "../../", "*"]
NASTY += ["\u202egnp.exe", "<port x>", "<work x>", "%s", "!!", "${HOME}", "a'$(id)'b", "${UC_X}"]


@deferred
async def test_services_answer_where_it_says_and_get_values_literally(unicore: UnicoreRig) -> None:
    usecase = usecase_of({"renderer": "stays", "back-end": "stays"})
    plan = usecase.launch["unicore"]
    plan["services"]["renderer"]["command"] += ["{parameters.word}", ["{parameters.words}"]]
    plan["services"]["renderer"]["environment"] = {"WORD": "{parameters.word}", "BY": "{owner}"}
    plan["services"]["renderer"]["command"] += ["{ports.back-end}/x", "{directory}/y"]
    plan["setup"] = ["export FROM_SITE='set by the site'"]
    launch = unicore.launch_of(usecase, parameters={"word": NASTY[0], "words": NASTY})
    ref = await unicore.launcher.submit(launch)
    seen = await unicore.until(ref, Phase.RUNNING)
    assert seen.endpoints.keys() == {"renderer", "back-end"}
    assert seen.end_time is not None
    for name, endpoint in seen.endpoints.items():

        async def answers(name: str = name, port: int = endpoint.port) -> bool | None:
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                    return connection.recv(100) == name.encode()
            except ConnectionRefusedError:
                return None

        assert await unicore.eventually(answers)
    folder = unicore.site.where(ref)
    work = folder / "vsmgate" / "work"
    told = json.loads((work / "renderer.json").read_text())
    port, other = (str(seen.endpoints[name].port) for name in ("renderer", "back-end"))
    assert told["argv"][1:] == [
        "renderer", "stays", "127.0.0.1", port, NASTY[0], *NASTY, f"{other}/x", f"{work}/y"
    ]  # fmt: skip
    expected = {"WORD": NASTY[0], "BY": "ada", "FROM_SITE": "set by the site"}
    expected |= {"VSMGATE_PORT": port, "VSMGATE_PORT_BACK_END": other, "VSMGATE_TAG": launch.tag}
    assert told["environment"].items() >= expected.items()
    assert "VSMGATE_SECRET" not in told["environment"]
    assert told["cwd"] == str(work)
    assert stat.S_IMODE((folder / "vsmgate").stat().st_mode) == 0o700


@deferred
async def test_the_jobs_secret_arrives_and_is_nowhere_else(unicore: UnicoreRig) -> None:
    secret = "s3cr3t-of-this-job"
    launch = unicore.launch_of(usecase_of({"renderer": "stays"}), secret=Secret(secret))
    ref = await unicore.launcher.submit(launch)
    await unicore.until(ref, Phase.RUNNING)
    folder = unicore.site.where(ref)

    async def written() -> Any:
        path = folder / "vsmgate" / "work" / "renderer.json"
        return json.loads(path.read_text()) if path.exists() else None

    told = await unicore.eventually(written)
    assert told["environment"]["VSMGATE_SECRET"] == secret
    assert secret not in json.dumps(told["argv"])
    holding = [
        path
        for path in folder.rglob("*")
        if path.is_file() and path.name != "renderer.json" and secret in path.read_text()
    ]
    assert holding == [folder / "vsmgate-secret"]
    assert stat.S_IMODE(holding[0].stat().st_mode) == 0o600
    for path in ("", "/submitted", "/details"):
        assert secret not in json.dumps(unicore.site.ask("GET", f"/jobs/{ref}{path}"))
    for process in Path("/proc").glob("[0-9]*"):
        try:
            assert secret.encode() not in (process / "cmdline").read_bytes()
        except OSError:
            continue


@deferred
async def test_a_job_without_room_waits_and_says_why(unicore: UnicoreRig) -> None:
    for _ in range(3):
        ref = await unicore.launcher.submit(unicore.launch())
        running = await unicore.until(ref, Phase.RUNNING)
    fourth = await unicore.launcher.submit(unicore.launch())

    async def planned() -> Any:
        seen = (await unicore.launcher.poll([fourth]))[fourth]
        assert seen.phase is Phase.QUEUED
        return seen if seen.queue and seen.queue.estimated_start else None

    seen = await unicore.eventually(planned)
    assert seen.reason.code == seen.queue.reason == "queued_resources"
    assert seen.reason.native == "Resources"
    assert abs(seen.queue.estimated_start - running.end_time) < 120
    await unicore.launcher.cancel(fourth)
    assert (await unicore.until(fourth, Phase.ENDED)).reason.code == "cancelled_by_administrator"


@pytest.mark.parametrize(
    ("plan", "code"),
    [
        ({"queue": "nope"}, "bad_partition"),
        ({"nodes": 500}, "impossible_resources"),
        ({"setup": ["echo no such module >&2; exit 7"]}, "exited"),
        ({"ports": ()}, "program_missing"),
    ],
)
@deferred
async def test_what_cannot_run_says_so(
    unicore: UnicoreRig, plan: dict[str, Any], code: str
) -> None:
    usecase = usecase_of({"renderer": "stays"}, **plan)
    if usecase.launch["unicore"].pop("ports", None) is not None:
        usecase.launch["unicore"]["services"]["renderer"]["command"] = ["no-such-program"]
    ref = await unicore.launcher.submit(unicore.launch_of(usecase))
    seen = await unicore.until(ref, Phase.ENDED)
    assert seen.reason is not None
    assert seen.reason.code == code
    assert seen.reason.native


@deferred
async def test_the_time_limit(unicore: UnicoreRig) -> None:
    launch = unicore.launch(lifetime=30.0)
    ref = await unicore.launcher.submit(launch)
    seen = await unicore.until(ref, Phase.RUNNING)
    started = (unicore.site.where(ref) / "vsmgate" / "node").stat().st_mtime
    assert seen.end_time is not None
    assert abs(seen.end_time - started - 60.0) < 5.0


@deferred
async def test_sessions_are_used_and_renewed(unicore: UnicoreRig) -> None:
    ref = await unicore.launcher.submit(unicore.launch())
    site = unicore.launcher._site
    (session,) = site._sessions.values()
    await site.job(ref)
    assert list(site._sessions.values()) == [session]
    site._sessions[""] = "expired-long-ago"  # HTTP 432: once more without it
    assert (await site.job(ref)) is not None
    assert list(site._sessions.values()) not in ([session], ["expired-long-ago"])


@deferred
async def test_credentials_of_every_kind(
    unicore: UnicoreRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "password").write_text("password\n")
    token = {"token_file": None}
    by_password = unicore.again(**token, user="ada", password_file="password")
    assert await by_password.find([tag_of("a" * 26)]) == {}
    monkeypatch.setenv("SITE_TOKEN", unicore.site.token)
    assert await unicore.again(**token, token_env="SITE_TOKEN").find([tag_of("a" * 26)]) == {}
    # A file that changed counts.
    changing = tmp_path / "changing"
    changing.write_text(unicore.site.token)
    launcher = unicore.again(token_file=str(changing), preferences={"uid": "vis"})
    ref = await launcher.submit(unicore.launch())
    assert unicore.site.ask("GET", f"/jobs/{ref}")["submissionPreferences"] == {"uid": "vis"}
    changing.write_text("expired")
    launcher._site._sessions.clear()
    with pytest.raises(EngineRefused) as caught:
        await launcher.submit(launch_of(usecase_of({"renderer": "stays"})))
    assert caught.value.code == "bad_credentials"
    assert "expired" not in caught.value.detail
    changing.write_text(f"{unicore.site.token}\n")
    assert (await launcher.poll([ref]))[ref].phase is not Phase.UNKNOWN


@deferred
async def test_jobs_of_their_owners(unicore: UnicoreRig) -> None:
    launcher = unicore.launcher = unicore.again(preferences={"uid": "{owner}", "group": "vis"})
    launch = unicore.launch("finishes")
    ref = await launcher.submit(launch)
    assert ref.endswith(":ada")
    job = unicore.site.ask("GET", f"/jobs/{ref.partition(':')[0]}")
    assert job["submissionPreferences"] == {"uid": "ada"}
    assert await launcher.find([launch.tag]) == {launch.tag: ref}
    await unicore.until(ref, Phase.ENDED)
    assert await launcher.logs(ref, "renderer", LogStream.STDOUT, 100) == b"hello\n"
    for owner in ("root", "ada lovelace", "a,role:admin", "a;id"):
        stranger = launch_of(usecase_of({"renderer": "stays"}))
        with pytest.raises(EngineRefused) as caught:
            await launcher.submit(type(stranger)(stranger.job_id, owner, *_rest(stranger)))
        assert caught.value.code == "no_account"


def _rest(launch: Any) -> tuple[Any, ...]:
    return launch.usecase, launch.plan, launch.parameters, launch.lifetime


@deferred
async def test_of_two_jobs_of_one_tag_one_is_kept(unicore: UnicoreRig) -> None:
    launch = unicore.launch()
    first = await unicore.launcher.submit(launch)
    (before,) = unicore.site.jobs(launch.tag)
    assert before == first
    await unicore.launcher.submit(launch)
    found = await unicore.launcher.find([launch.tag])

    async def one_left() -> str | None:
        left = unicore.site.live(launch.tag)
        return left[0] if len(left) == 1 else None

    assert found == {launch.tag: await unicore.eventually(one_left)}
    assert await unicore.again().find([launch.tag]) == found


@deferred
async def test_the_site_would_take_jobs(unicore: UnicoreRig) -> None:
    assert verifyObject(IEngineCheck, unicore.launcher)
    assert await unicore.launcher.check_engine() == []


@deferred
async def test_forgetting_removes_the_directory(unicore: UnicoreRig) -> None:
    ref = await unicore.launcher.submit(unicore.launch("finishes"))
    await unicore.until(ref, Phase.ENDED)
    assert unicore.site.where(ref).is_dir()
    await unicore.launcher.forget(ref)
    assert not unicore.site.where(ref).exists()
    assert (await unicore.launcher.poll([ref]))[ref].phase is Phase.UNKNOWN


@deferred
async def test_a_job_that_is_started_once_more(unicore: UnicoreRig) -> None:
    ref = await unicore.launcher.submit(unicore.launch("finishes"))
    await unicore.until(ref, Phase.ENDED)
    unicore.site.ask("POST", f"/jobs/{ref}/actions/restart", {})
    seen = await unicore.until(ref, Phase.ENDED)
    assert seen.reason is not None
    assert seen.reason.code == "completed"


@deferred
async def test_nodes_and_addresses(unicore: UnicoreRig) -> None:
    ref = await unicore.launcher.submit(unicore.launch())
    await unicore.until(ref, Phase.RUNNING)
    elsewhere = unicore.again(nodes="gpu[0-9]+", address="{node}.example.org")
    assert (await elsewhere.poll([ref]))[ref].endpoints == {}
    node = unicore.site.where(ref) / "vsmgate" / "node"
    for name in ("evil/../x", "a b", "$(id)", "", "x" * 300):
        node.write_text(f"{name}\n")
        assert (await unicore.again().poll([ref]))[ref].endpoints == {}
    node.write_text("gpu7\n")
    seen = (await elsewhere.poll([ref]))[ref]
    assert [place.host for place in seen.endpoints.values()] == ["gpu7.example.org"]


@deferred
async def test_polls_are_spared(unicore: UnicoreRig) -> None:
    launcher = unicore.again(poll_every=60.0)
    ref = await unicore.launcher.submit(unicore.launch())
    await unicore.until(ref, Phase.RUNNING)
    seen = await launcher.poll([ref])
    unicore.site.ask("POST", f"/jobs/{ref}/actions/abort", {})
    await unicore.until(ref, Phase.ENDED)
    assert await launcher.poll([ref]) == seen  # it was asked a moment ago
    await launcher.cancel(ref)
    assert (await launcher.poll([ref]))[ref].phase is Phase.ENDED


@deferred
async def test_many_at_once(unicore: UnicoreRig) -> None:
    calls: list[Coroutine[Any, Any, Any]] = [
        unicore.launcher.submit(unicore.launch("finishes")) for _ in range(12)
    ]
    refs, errors = await gather(calls)
    assert errors == []

    async def all_over() -> Any:
        seen = await unicore.launcher.poll(refs)
        return seen if all(one.phase is Phase.ENDED for one in seen.values()) else None

    seen = await unicore.eventually(all_over)
    assert {one.reason.code for one in seen.values()} == {"completed"}
