"""What is measured of each relay: streams, echoes, handshakes, memory, a stalled client."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.generator import Generator, Refused
from bench.machine import Unavailable
from bench.process import cpu_seconds, own_memory
from bench.rivals import Running

__all__ = ["WORKS", "Pace", "Sample", "Work"]


@dataclass(frozen=True)
class Pace:
    """Seconds to warm up, and to measure."""

    warm: float
    seconds: float


@dataclass(frozen=True)
class Sample:
    """One measurement; ``details`` by name, times in microseconds.

    ``per_core``: the value for each second of the relay's processor time, which other work
    of the machine disturbs less than the value.
    """

    value: float
    details: dict[str, float] = field(default_factory=dict)


Measure = Callable[[Generator, Running, bool, Pace], Sample]


@dataclass(frozen=True)
class Work:
    """``more``: more is better. ``fresh``: wants a relay that did nothing before; once."""

    name: str
    title: str
    unit: str
    measure: Measure
    more: bool = True
    tls: bool = False
    fresh: bool = False
    quick: bool = False
    full: bool = False


def _stream(size: int, count: int) -> Measure:
    def measure(generator: Generator, running: Running, tls: bool, pace: Pace) -> Sample:
        before = _cpu(running)
        words = ("stream", running.port, tls, size, count, pace.warm, pace.seconds)
        said = generator.ask(*words)
        details = _per_core(said["all"] / 1e6, _cpu(running) - before)
        return Sample(said["octets"] / said["seconds"] / 1e6, details)

    return measure


def _echo(size: int, count: int) -> Measure:
    def measure(generator: Generator, running: Running, tls: bool, pace: Pace) -> Sample:
        before = _cpu(running)
        said = generator.ask("echo", running.port, tls, size, count, pace.warm, pace.seconds)
        if said["wrong"]:
            raise Refused(f"{said['wrong']} echoes were wrong")
        return _timed(said, _cpu(running) - before)

    return measure


def _handshakes(generator: Generator, running: Running, tls: bool, pace: Pace) -> Sample:
    before = _cpu(running)
    said = generator.ask("handshake", running.port, tls, 32, pace.warm, pace.seconds)
    return _timed(said, _cpu(running) - before)


def _idle(count: int) -> Measure:
    def measure(generator: Generator, running: Running, tls: bool, pace: Pace) -> Sample:
        allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if allowed < 2 * count + 200:
            raise Unavailable(f"needs {2 * count + 200} descriptors, the system allows {allowed}")
        # What the first relays bring into the process belongs to it, not to a relay.
        generator.ask("open", running.port, tls, 20)
        before = _memory(running)
        generator.ask("open", running.port, tls, count)
        time.sleep(1.0)
        held = _memory(running) - before
        generator.ask("close")
        return Sample(held / count / 1024)

    return measure


#: So many clients stall, each with so many frames of 1 MiB to come: far more than kernels hold.
STALLED, TO_COME = 16, 24


def _stall(generator: Generator, running: Running, tls: bool, pace: Pace) -> Sample:
    generator.ask("open", running.port, tls, 4)
    before = _memory(running)
    generator.ask("stall", running.port, tls, 1 << 20, STALLED, TO_COME)
    held = _memory(running) - before
    said = generator.ask("drain", 20)
    generator.ask("close")
    lost = said["expected"] - said["octets"] + said["wrong"]
    if lost:
        raise Refused(f"after the stall {lost} octets were missing or wrong")
    return Sample(held / STALLED / 1024)


def _cpu(running: Running) -> float:
    return 0.0 if running.process is None else cpu_seconds(running.process)


def _memory(running: Running) -> float:
    return 0.0 if running.process is None else own_memory(running.process)


def _per_core(done: float, cpu: float) -> dict[str, float]:
    """Return what a whole second of the relay's processor time would do."""
    return {"per_core": done / cpu} if cpu > 0 else {}


def _timed(said: dict[str, float], cpu: float) -> Sample:
    times = {name: said[name] for name in ("p50", "p99", "p999")}
    return Sample(said["messages"] / said["seconds"], {**times, **_per_core(said["all"], cpu)})


def _works() -> list[Work]:
    mega, kilo = "MB/s", "KiB"
    found = []
    for tls in (False, True):
        mark, text = ("tls-", ", TLS") if tls else ("", "")
        # Memory first: a fresh relay is started for it while nothing else runs.
        found += [
            Work(
                f"{mark}idle-{count}", f"memory of an idle relay, {count:,} open{text}", kilo,
                _idle(count), False, tls, fresh=True,
                quick=count == 1000 and not tls, full=count == 5000,
            )
            for count in (1000, 5000)
        ]  # fmt: skip
        if not tls:
            title = f"held for a stalled client, {STALLED} of them"
            found.append(Work("stall", title, kilo, _stall, False, fresh=True, quick=True))
        found += [
            Work(
                f"{mark}stream-{name}", f"{count} stream{'s' * (count > 1)} of {size}{text}", mega,
                _stream(octets, count), True, tls, quick=name == "1m" or (not tls and name != "64"),
            )
            for name, size, octets, count in (
                ("1m", "1 MiB frames", 1 << 20, 1),
                ("256k", "256 KiB frames", 1 << 18, 8),
                ("64", "64 B frames", 64, 1),
            )
        ]  # fmt: skip
        found += [
            Work(
                f"{mark}echo-{size}-{count}",
                f"{count} closed-loop echo{'es' * (count > 1)} of {amount}{text}", "/s",
                _echo(octets, count), True, tls,
                quick=not tls and (size, count) in (("64", 1), ("64", 64)),
            )
            for size, octets, amount in (("64", 64, "64 B"), ("4k", 4096, "4 KiB"))
            for count in (1, 64)
        ]  # fmt: skip
        title = f"authorised handshakes, opened and closed, 32 at a time{text}"
        found.append(Work(f"{mark}handshakes", title, "/s", _handshakes, True, tls, quick=not tls))
    return found


#: By name, in the order of the table.
WORKS: dict[str, Work] = {work.name: work for work in _works()}
