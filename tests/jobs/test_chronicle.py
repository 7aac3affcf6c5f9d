"""What the log says of jobs."""

from __future__ import annotations

from twisted.logger import LogEvent, formatEvent

from tests.jobs.rig import ALICE, House
from vsmgate.jobs.chronicle import Chronicle


def lines(logged: list[LogEvent]) -> list[LogEvent]:
    return [event for event in logged if isinstance(event.get("log_source"), Chronicle)]


def test_each_change_is_one_line_with_its_code(house: House, logged: list[LogEvent]) -> None:
    chronicle = Chronicle()
    house.book.watch(chronicle.note)
    job = house.start()
    house.pass_time(6)
    house.launcher.run(job.id)
    house.pass_time(20)
    house.result(house.desk.stop(ALICE, job.id))
    house.pass_time(20)
    assert [(event["state"], event["code"]) for event in lines(logged)] == [
        ("requested", "-"),
        ("starting", "starting"),
        ("running", "starting"),
        ("stopping", "cancelled_by_user"),
        ("stopped", "cancelled_by_user"),
    ]
    said = f"job {job.id} is stopped (cancelled_by_user): The job's owner stopped it."
    assert formatEvent(lines(logged)[-1]) == said
    assert not chronicle._told, "what is over takes no memory"


def test_what_was_there_before_is_no_news(house: House, logged: list[LogEvent]) -> None:
    job = house.start()
    house.launcher.run(job.id)
    house.pass_time(6)
    chronicle = Chronicle()
    chronicle.note(house.get(job))
    assert not lines(logged)
    house.book.watch(chronicle.note)
    house.launcher.end(job.id, "out_of_memory")
    house.pass_time(6)
    assert [event["code"] for event in lines(logged)] == ["out_of_memory"]
