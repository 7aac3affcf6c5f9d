"""The doctor: what it says of jobs in all states, to whom, and once for many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.testing import StringTransport

from tests.jobs.rig import ALICE, BOB, DEMO, House, make_ready
from vsmgate.diagnosis import Diagnosis, Outcome
from vsmgate.errors import EngineUnreachable, NoSuchJob
from vsmgate.hands.dialling import Dialler
from vsmgate.job_secrets import JobSecrets
from vsmgate.jobs.doctor import Doctor
from vsmgate.lifecycle import State
from vsmgate.model import (
    Endpoint,
    Health,
    Identity,
    Job,
    Observation,
    Phase,
    QueuePlace,
    Quota,
    Reason,
    Service,
)
from vsmgate.targets import ANYWHERE


def ask(house: House, job: Job, identity: Identity = ALICE) -> Deferred[Diagnosis]:
    return Deferred.fromCoroutine(house.desk.diagnose(identity, job.id))


def answer(asked: Deferred[Diagnosis]) -> Diagnosis:
    found: list[Diagnosis] = []
    asked.addCallback(found.append)
    assert found
    return found[0]


def steps(found: Diagnosis, name: str = "renderer") -> list[tuple[str, str]]:
    return [(step.step, step.outcome.value) for step in found.services[name]]


def running(house: House) -> Job:
    job = house.start()
    house.launcher.run(job.id)
    house.pass_time(6)
    return house.get(job)


def refuse_all(house: House) -> None:
    for client in house.network.tcpClients:
        client[2].clientConnectionFailed(None, ConnectionRefusedError())


def test_services_that_refuse(house: House) -> None:
    job = running(house)
    asked = ask(house, job)
    assert len(house.network.tcpClients) == 2, "all services at once, one connection each"
    refuse_all(house)
    found = answer(asked)
    for name in ("renderer", "backend"):
        assert steps(found, name) == [
            ("engine", "ok"), ("address", "ok"), ("name", "ok"), ("target", "ok"),
            ("tcp", "failed"),
        ]  # fmt: skip
    assert not found.answers
    assert found.summary.count("nothing listens") == 2
    assert not house.network.getDelayedCalls()


def test_services_that_answer(house: House) -> None:
    asked = ask(house, make_ready(house, house.start()))
    transports = [StringTransport(), StringTransport()]
    for client, transport in zip(house.network.tcpClients, transports, strict=True):
        client[2].buildProtocol(None).makeConnection(transport)
    found = answer(asked)
    assert found.answers
    assert found.summary == "Every service answers."
    assert all(transport.disconnected for transport in transports), "no place is kept"


def test_many_who_ask_share_one_examination(house: House) -> None:
    job = running(house)
    asked = [ask(house, job) for _ in range(5)]
    assert len(house.network.tcpClients) == 2
    asked[0].addErrback(lambda failure: failure.trap(CancelledError))
    asked[0].cancel()  # one who hangs up does not end it for the others
    refuse_all(house)
    assert len({id(answer(one)) for one in asked[1:]}) == 1
    ask(house, job).addErrback(lambda failure: failure.trap(CancelledError)).cancel()
    assert len(house.network.tcpClients) == 4, "the next one looks again"
    assert not house.network.getDelayedCalls(), "nobody waits, so nothing goes on"


def test_a_service_that_wants_the_secret_is_shown_it(make_house: Callable[..., House]) -> None:
    house = make_house()
    secrets = JobSecrets(b"k" * 32)
    spec = Service(port=5000, health=Health(http="/healthz"), secret=True)
    usecase = msgspec.structs.replace(DEMO, services={"renderer": spec})
    doctor = Doctor(
        house.access, {}, Dialler(house.network), {"engine": ANYWHERE}, house.clock.seconds, secrets
    )
    endpoints = {"renderer": Endpoint("10.0.0.1", 5000)}
    job = Job("a" * 26, "alice", usecase, 0.0, state=State.RUNNING, endpoints=endpoints)
    examined = Deferred.fromCoroutine(doctor.examine(job, "renderer"))
    protocol, transport = house.network.tcpClients[0][2].buildProtocol(None), StringTransport()
    protocol.makeConnection(transport)
    value = secrets.of(job.id).reveal()
    assert f"Authorization: Bearer {value}\r\n".encode() in transport.value()
    protocol.dataReceived(b"HTTP/1.1 401 Unauthorized\r\n\r\n")
    found: list[Any] = []
    examined.addCallback(found.append)
    assert [step.code for step in found[0] if step.code] == ["wrong_secret"]
    assert value not in repr(found)


def test_nobody_elses(house: House) -> None:
    job = running(house)
    with pytest.raises(NoSuchJob):
        house.result(house.desk.diagnose(BOB, job.id))
    assert not house.network.tcpClients


def test_a_job_that_waits(house: House) -> None:
    job = house.start()
    place = QueuePlace(4, "held", house.clock.seconds() + 120)
    why = Reason("held", "Somebody holds it.", "JobHeldUser")
    house.launcher.tell(job.id, Observation(Phase.QUEUED, reason=why, queue=place))
    house.pass_time(6)
    found = house.result(house.desk.diagnose(ALICE, job.id))
    engine, *rest = found.services["renderer"]
    assert (engine.step, engine.outcome, engine.code) == ("engine", Outcome.FAILED, "held")
    assert "Somebody holds it." in engine.evidence
    assert "number 4 in the queue" in engine.evidence
    assert not found.answers
    assert engine.remedy == "Ask who held it."
    assert {step.outcome for step in rest} == {Outcome.SKIPPED}
    assert [step.step for step in rest] == ["address", "name", "target", "tcp"]


def test_a_held_job_and_one_that_is_over(house: House, make_house: Callable[..., House]) -> None:
    job = house.start()
    house.launcher.end(job.id, "out_of_memory")
    house.pass_time(6)
    (engine, *_) = house.result(house.desk.diagnose(ALICE, job.id)).services["backend"]
    assert engine.code == "out_of_memory"
    assert "more memory" in engine.remedy
    full = make_house(quota=Quota(per_user=1, queue=True))
    full.start()
    (engine, *_) = full.result(full.desk.diagnose(ALICE, full.start().id)).services["backend"]
    assert engine.evidence.startswith(
        "The job is requested and held: It is held until there is room"
    )
    assert engine.code == "over_quota"


def test_an_engine_that_is_away(house: House) -> None:
    job, waits = running(house), house.start()
    house.launcher.fault = EngineUnreachable("The controller does not answer.")
    house.pass_time(8)
    (engine, *_) = house.result(house.desk.diagnose(ALICE, waits.id)).services["renderer"]
    assert engine.code == "engine_unreachable"
    assert "The controller does not answer." in engine.evidence
    asked = ask(house, job)  # what ran goes on, as far as is known
    refuse_all(house)
    (engine, *_) = answer(asked).services["renderer"]
    assert engine.outcome is Outcome.OK
    assert "cannot be asked since" in engine.evidence


def test_a_service_without_address(house: House) -> None:
    job = house.start()
    where = {"renderer": Endpoint("10.0.0.1", 5000)}
    house.launcher.tell(job.id, Observation(Phase.RUNNING, endpoints=where))
    house.pass_time(6)
    asked = ask(house, job)
    refuse_all(house)
    found = answer(asked)
    assert ("address", "failed") in steps(found, "backend")
    assert ("tcp", "failed") in steps(found)
