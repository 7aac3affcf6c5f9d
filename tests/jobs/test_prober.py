"""When the services of a job answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from tests.jobs.rig import House
from vsmgate.diagnosis import Finding, Step, failure, passed
from vsmgate.errors import ServiceRefused
from vsmgate.jobs.prober import Prober, pause
from vsmgate.lifecycle import State
from vsmgate.model import Job, Observation, Phase


@given(st.floats(0, 10_000))
def test_probing_adds_a_tenth_at_most_and_never_more_than_two_seconds(elapsed: float) -> None:
    assert 0.02 <= pause(elapsed) <= max(0.02, min(elapsed / 10, 2.0))
    if elapsed < 20:
        assert pause(elapsed) <= 0.25


class Probed:
    """A prober in a house; which ports answer is up to the test."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.answering: set[int] = set()
        self.probes: list[str] = []
        self.examined: list[str] = []
        self.prober = Prober(house.book, house.clock, house.clock.seconds, self)
        self.prober.startService()

    async def probe(self, job: Job, name: str) -> None:
        self.probes.append(name)
        pause: Deferred[None] = Deferred()
        self.house.clock.callLater(0.001, pause.callback, None)
        await pause
        port = job.endpoints[name].port
        if port not in self.answering:
            raise ServiceRefused(f"127.0.0.1:{port} refused")

    async def examine(self, job: Job, name: str) -> Sequence[Step]:
        self.examined.append(name)
        if job.endpoints[name].port in self.answering:
            return []
        return [passed("name", "it is an address"), failure("tcp", Finding("tcp_refused", "no"))]

    def running_job(self) -> Job:
        job = self.house.start()
        self.house.launcher.run(job.id)
        self.house.pass_time(1)
        return job


@pytest.fixture
def probed(house: House) -> Iterator[Probed]:
    probed = Probed(house)
    yield probed
    probed.prober.stopService()
    house.pass_time(1)  # what is under way comes to its end


def test_a_job_is_ready_when_all_services_answered(probed: Probed) -> None:
    house, job = probed.house, probed.running_job()
    assert house.get(job).state is State.RUNNING
    probed.answering.add(5000)
    house.pass_time(1)
    assert house.get(job).answered == ("renderer",)
    assert "backend" in probed.prober.trouble[job.id]
    probed.probes.clear()
    house.pass_time(1)
    assert set(probed.probes) == {"backend"}, "one that answered is left alone"
    probed.answering.add(8000)
    house.pass_time(1)
    ready = house.get(job)
    assert ready.state is State.READY
    assert ready.timings.last_refusal is not None
    assert not probed.prober.trouble


def test_nobody_probes_a_job_that_is_ready_or_over(probed: Probed) -> None:
    house, job = probed.house, probed.running_job()
    probed.answering.update((5000, 8000))
    house.pass_time(2)
    assert house.get(job).state is State.READY
    probed.probes.clear()
    house.pass_time(30)
    assert not probed.probes

    other = probed.running_job()
    probed.answering.clear()
    house.launcher.end(other.id)
    house.pass_time(6)
    probed.probes.clear()
    house.pass_time(30)
    assert not probed.probes


def test_a_job_that_was_back_in_the_queue_is_probed_anew(probed: Probed) -> None:
    house, job = probed.house, probed.running_job()
    probed.answering.update((5000, 8000))
    house.pass_time(2)
    assert house.get(job).state is State.READY
    house.launcher.tell(job.id, Observation(Phase.QUEUED))
    house.pass_time(6)
    assert house.get(job).state is State.QUEUED
    house.launcher.run(job.id)
    house.pass_time(8)
    assert house.get(job).state is State.READY


def test_a_probe_of_where_a_job_was_is_given_up(house: House) -> None:
    cancelled: list[object] = []

    class Slow(Probed):
        async def probe(self, job: Job, name: str) -> None:
            await Deferred(cancelled.append)

    probed = Slow(house)
    job = probed.running_job()
    assert not cancelled
    house.launcher.tell(job.id, Observation(Phase.QUEUED))
    house.pass_time(6)
    assert len(cancelled) == 1
    probed.prober.stopService()


def test_a_restarted_gateway_probes_what_runs(house: House) -> None:
    first = Probed(house)
    job = first.running_job()
    first.prober.stopService()
    house.crash()
    second = Probed(house)
    second.answering.update((5000, 8000))
    house.pass_time(2)
    assert house.get(job).state is State.READY


def test_stopping_leaves_no_timer(probed: Probed) -> None:
    probed.running_job()
    probed.prober.stopService()
    probed.house.end()
    probed.house.pass_time(1)
    assert not probed.house.clock.getDelayedCalls()


def test_a_job_that_stays_silent_says_at_which_step(probed: Probed) -> None:
    house, job = probed.house, probed.running_job()
    house.pass_time(8)
    early = house.get(job).reason
    assert early is not None
    assert early.code == "starting"
    house.pass_time(10)
    told = house.get(job).reason
    assert told is not None
    assert told.code == "not_answering"
    assert told.message.startswith("renderer does not answer (tcp: nothing listens at the port).")
    assert "logs" in told.message, "what usually helps"
    house.pass_time(60)  # the engine is polled meanwhile
    assert house.get(job).reason == told
    assert probed.examined == ["renderer"], "nothing new, so it was not looked at again"
    probed.answering.add(5000)
    house.pass_time(8)
    other = house.get(job).reason
    assert other is not None
    assert other.message.startswith("backend does not answer")
    probed.answering.add(8000)
    house.pass_time(8)
    ready = house.get(job)
    assert (ready.state, ready.reason) == (State.READY, None)


def test_a_job_that_never_answered_ends_with_what_was_found(probed: Probed) -> None:
    house, job = probed.house, probed.running_job()
    house.pass_time(310)
    ended = house.get(job).reason
    assert ended is not None
    assert ended.code == "never_ready"
    assert "renderer does not answer (tcp:" in ended.message


def test_a_stop_in_the_middle_of_an_examination_leaves_nothing(
    house: House,
) -> None:
    cancelled: list[object] = []

    class Slow(Probed):
        async def examine(self, job: Job, name: str) -> Sequence[Step]:
            await Deferred(cancelled.append)
            return []

    probed = Slow(house)
    probed.running_job()
    house.pass_time(15)
    assert not cancelled
    probed.prober.stopService()
    assert cancelled


def test_a_job_that_tells_no_address_says_so(probed: Probed) -> None:
    house = probed.house
    job = house.start()
    house.launcher.tell(job.id, Observation(Phase.RUNNING))
    house.pass_time(20)
    told = house.get(job).reason
    assert told is not None
    assert told.code == "not_answering"
    assert "(address: neither the engine nor the job told where the service is)" in told.message
    house.launcher.run(job.id)
    house.pass_time(6)
    told = house.get(job).reason
    assert told is not None
    assert told.code == "starting"
