"""The audit log's file."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import LogEvent, globalLogPublisher

from vsmgate.audit import Entry, Tally, line_of
from vsmgate.errors import ConfigError
from vsmgate.hands.audit_log import AuditLog
from vsmgate.hands.threads import OwnThreads


class Seconds:
    def __init__(self) -> None:
        self.now = 1_700_000_000.25

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


class AtOnce(OwnThreads):
    """Makes the calls in the thread that asks for them, unless the disk hangs."""

    def __init__(self) -> None:
        super().__init__("audit")
        self.hangs = False
        self.waiting: list[Callable[[], object]] = []

    def callInThread(self, call: Callable[..., object], *arguments: Any, **named: Any) -> None:
        self.waiting.append(lambda: call(*arguments, **named))
        if not self.hangs:
            self.go_on()

    def go_on(self) -> None:
        waiting, self.waiting = self.waiting, []
        for call in waiting:
            call()


@pytest.fixture
def log(tmp_path: Path, seconds: Seconds) -> Iterator[AuditLog]:
    log = AuditLog(tmp_path / "audit.jsonl", seconds, seconds, AtOnce())
    log.open()
    yield log
    log.close()


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_an_entry_is_a_line(log: AuditLog, tmp_path: Path) -> None:
    log.record("start", subject="ada", job="j", peer="192.0.2.7", usecase="demo", note=None)
    log.record("stop", outcome="no_such_job")
    path = tmp_path / "audit.jsonl"
    assert lines(path) == [
        {
            "time": "2023-11-14T22:13:20.250+00:00",
            "action": "start",
            "outcome": "ok",
            "subject": "ada",
            "job": "j",
            "peer": "192.0.2.7",
            "details": {"usecase": "demo"},
        },
        {"time": "2023-11-14T22:13:20.250+00:00", "action": "stop", "outcome": "no_such_job"},
    ]
    assert path.stat().st_mode & 0o777 == 0o600


TEXTS = st.text() | st.text(st.characters(categories=["Cs", "Cc", "Zl"]))


@given(TEXTS, TEXTS, TEXTS)
def test_nothing_that_a_client_chose_makes_a_second_line(a: str, b: str, c: str) -> None:
    line = line_of(Entry("now", "start", "ok", subject=a, details={"usecase": b, "x": c}))
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert len(line.splitlines()) == 1
    kept = a[:512].encode("utf-8", "replace").decode()
    assert json.loads(line).get("subject", "") == kept


@pytest.mark.criterion("S-31")
@pytest.mark.parametrize("text", ["\u2028", "\x85", "\x9b31m", "\x1b[2J", "\u202e", "\r", "\x7f"])
def test_nothing_that_a_client_chose_moves_a_cursor(text: str) -> None:
    line = line_of(Entry("now", "start", "ok", subject=text, details={"x": text}))
    assert all(0x20 <= octet < 0x7F for octet in line[:-1])
    assert len(line.decode().splitlines()) == 1
    assert json.loads(line)["details"] == {"x": text}


@pytest.mark.criterion("S-31")
def test_what_was_there_stays_and_a_moved_file_is_followed(
    log: AuditLog, tmp_path: Path, seconds: Seconds
) -> None:
    path = tmp_path / "audit.jsonl"
    log.record("one")
    again = AuditLog(path, seconds, seconds, AtOnce())
    again.open()
    again.record("two")
    path.rename(tmp_path / "audit.jsonl.1")
    log.record("three")
    again.record("four")
    again.close()
    path.unlink()
    log.record("five")
    assert [line["action"] for line in lines(tmp_path / "audit.jsonl.1")] == ["one", "two"]
    assert [line["action"] for line in lines(path)] == ["five"]


def test_where_it_cannot_be_the_gateway_does_not_start(tmp_path: Path, seconds: Seconds) -> None:
    with pytest.raises(ConfigError, match=r"audit\.file: cannot be opened for appending: no such"):
        AuditLog(tmp_path / "none" / "audit.jsonl", seconds, seconds, AtOnce()).open()


@pytest.mark.criterion("S-19")
def test_strangers_get_a_line_a_minute(log: AuditLog, tmp_path: Path, seconds: Seconds) -> None:
    for _ in range(1000):
        log.refused("authenticate", "unauthenticated", "192.0.2.7", "r1", "rest")
    log.refused("authenticate", "unauthenticated", "192.0.2.8", "r2", "relay")
    log.flush()
    path = tmp_path / "audit.jsonl"
    assert [line["peer"] for line in lines(path)] == ["192.0.2.7", "192.0.2.8"]
    seconds.now += 60.0
    log.flush()
    (count,) = lines(path)[2:]
    assert (count["peer"], count["details"]) == ("192.0.2.7", {"count": 999})
    log.refused("authenticate", "unauthenticated", "192.0.2.7", "r3", "rest")
    assert len(lines(path)) == 4


def test_strangers_without_end_are_counted_in_bounded_memory(seconds: Seconds) -> None:
    tally = Tally(seconds, most=10)
    firsts = [tally.first(f"peer {number}") for number in range(1000)]
    assert firsts == [True] * 11 + [False] * 989
    assert tally.take(everything=True) == [("others", 989)]


def write_under_a_limit(path: Path, told: Any) -> None:
    """In a process of its own: a file-size limit stands for a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (250, resource.RLIM_INFINITY))
    events: list[LogEvent] = []
    globalLogPublisher.addObserver(events.append)
    seconds = Seconds()
    log = AuditLog(path, seconds, seconds, AtOnce())
    log.open()
    for number in range(10):
        log.record("start", subject=f"user-{number}")
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    log.record("stop", subject="late")
    log.close()
    told.put(
        [event["log_level"].name for event in events if event["log_namespace"].endswith("AuditLog")]
    )


def test_a_full_disk_is_told_once_and_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    context = multiprocessing.get_context("fork")
    told = context.Queue()
    process = context.Process(target=write_under_a_limit, args=(path, told))
    process.start()
    levels = told.get(timeout=30)
    process.join(30)
    assert process.exitcode == 0
    assert levels == ["critical", "warn"]
    good = []
    for line in path.read_text().splitlines():
        try:
            good.append(json.loads(line))
        except ValueError:
            assert line.startswith('{"time"')  # what the disk cut off
    written = [entry["subject"] for entry in good if entry["action"] == "start"]
    (gap,) = [entry for entry in good if entry["action"] == "audit_gap"]
    assert len(written) + gap["details"]["count"] == 10
    assert 0 < len(written) < 10
    assert good[-1]["subject"] == "late"


def test_a_disk_that_hangs_keeps_nobody_waiting(
    tmp_path: Path, seconds: Seconds, logged: list[LogEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vsmgate.hands.audit_log.MOST", 3)
    path = tmp_path / "audit.jsonl"
    disk = AtOnce()
    log = AuditLog(path, seconds, seconds, disk)
    log.open()
    disk.hangs = True
    for number in range(5):
        log.record("start", subject=f"user-{number}")
    assert lines(path) == []
    assert [event["log_level"].name for event in logged] == ["critical"]
    seconds.now += 1
    disk.go_on()
    assert [line.get("subject", line["action"]) for line in lines(path)] == [
        "audit_gap",
        "user-0",
        "user-1",
        "user-2",
    ]
    assert lines(path)[0]["details"] == {"count": 2}
    assert lines(path)[0]["time"] > lines(path)[-1]["time"]
    log.close()


def test_what_waits_is_written_before_the_end(tmp_path: Path, seconds: Seconds) -> None:
    path = tmp_path / "audit.jsonl"
    log = AuditLog(path, seconds, seconds)
    log.open()
    for number in range(100):
        log.record("start", number=number)
    log.close()
    assert [line.get("details", {}).get("number", 0) for line in lines(path)] == [*range(100)]
    assert not [t for t in threading.enumerate() if t.name.startswith("PoolThread-audit")]


def end_with_a_disk_that_hangs(path: Path, told: Any) -> None:
    """In a process of its own: a pipe that nobody reads stands for the disk."""
    events: list[LogEvent] = []
    globalLogPublisher.addObserver(events.append)
    seconds = Seconds()
    log = AuditLog(path, seconds, seconds)
    log.open()
    for number in range(300):
        log.record("start", number=number, filler="x" * 400)
    log.close()
    (lost,) = [event for event in events if event["log_namespace"].endswith("AuditLog")]
    told.put((lost["log_level"].name, lost["count"]))


def test_a_disk_that_hangs_keeps_no_process_from_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vsmgate.hands.audit_log.PATIENCE", 0.1)
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    context = multiprocessing.get_context("fork")
    told = context.Queue()
    process = context.Process(target=end_with_a_disk_that_hangs, args=(path, told))
    process.start()
    try:
        level, count = told.get(timeout=30)
        process.join(30)
        assert process.exitcode == 0
        taken = 0
        while octets := os.read(reader, 1 << 16):
            taken += octets.count(b"\n")
        assert (level, taken + count) == ("critical", 300)
        assert count > 0
    finally:
        process.kill()
        process.join(30)
        os.close(reader)


def append(path: Path, name: str) -> None:
    seconds = Seconds()
    log = AuditLog(path, seconds, seconds, AtOnce())
    log.open()
    for number in range(300):
        log.record("start", subject=name, number=number, filler="x" * 400)
    os._exit(0)


def test_several_processes_append_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=append, args=(path, name)) for name in "abcd"]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    found = lines(path)
    assert len(found) == 1200
    for name in "abcd":
        mine = [line["details"].get("number", 0) for line in found if line["subject"] == name]
        assert mine == list(range(300))
