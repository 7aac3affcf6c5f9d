"""bin/load: percentiles, limits, mixes, the report, and a short load of a real gateway."""

from __future__ import annotations

import json
import subprocess
import sys
from array import array
from pathlib import Path

import pytest

from bench.load.limits import read_limit
from bench.load.mixes import BraynsPull, Pipeline, make_mix, read_answer
from bench.load.report import page
from bench.load.sessions import opening_trouble
from bench.load.tally import Tally, percentile
from tests.running import gateway

ROOT = Path(__file__).resolve().parents[2]


def test_percentiles_are_values_that_were_measured() -> None:
    hundred = array("d", range(1, 101))
    assert [percentile(hundred, share) for share in (0.5, 0.99, 0.999)] == [50, 99, 100]
    assert percentile(array("d", [7.0]), 0.5) == 7
    assert percentile(array("d"), 0.5) == 0


def test_only_answers_between_ramp_and_end_are_judged() -> None:
    tally = Tally(settled=2, until=4)
    tally.opened(0.1, 0.05)
    tally.answered(1.9, 9.0, 10)
    tally.answered(2.0, 0.1, 1_000_000)
    tally.answered(3.9, 0.3, 1_000_000)
    tally.answered(4.1, 9.0, 10)
    tally.failed(1.0, "lost")
    summary = tally.summary()
    assert (summary["answers"], summary["p50"], summary["max"]) == (2, 0.1, 0.3)
    assert (summary["rate"], summary["megabytes"]) == (1, 1)
    assert (summary["opening"], summary["errors"]) == (0.05, 1)


def test_limits() -> None:
    tally = Tally(settled=0, until=1)
    assert not read_limit("p99=10").met(tally.summary())  # nothing came, so nothing is known
    tally.answered(0.5, 0.2, 1)
    summary = tally.summary()
    assert read_limit("p99=0.2").met(summary)
    assert not read_limit("p99=0.19").met(summary)
    assert read_limit("rate=1").met(summary)
    assert not read_limit("rate=2").met(summary)
    assert not read_limit("opening=1").met(summary)
    assert read_limit("errors=0").met(summary)
    for wrong in ("p98=1", "p99", "p99=fast", ""):
        with pytest.raises(ValueError, match=r"known: p50|NAME=NUMBER"):
            read_limit(wrong)


def test_a_pipeline_keeps_its_window_and_size() -> None:
    mix = Pipeline(100, 3)
    first = [*mix.first()]
    assert [number for number, _ in first] == [1, 2, 3]
    for number, message in first:
        assert len(message) == 100
        assert json.loads(message)["id"] == number
        assert mix.read(str(message).encode(), False).ended == number  # an echo is an answer
    assert [number for number, _ in mix.then()] == [4]


def test_brayns_answers() -> None:
    head = json.dumps({"id": 3, "result": {}}).encode()
    assert read_answer(len(head).to_bytes(4, "little") + head + b"\xff\xd8", True).ended == 3
    assert read_answer(b'{"method": "progress"}', False).ended is None
    assert read_answer(b'{"id": 1, "error": {"message": "no"}}', False).error == "answer: no"
    assert read_answer(b"\xff", True).error == "answer: not JSON"
    mix = BraynsPull()
    camera, image = (json.loads(message) for _, message in mix.first())
    assert (camera["method"], image["method"]) == ("set-camera-view", "render-image")
    assert mix.read(json.dumps({"id": camera["id"], "result": None}).encode(), False).ended is None
    assert mix.read(json.dumps({"id": image["id"], "result": None}).encode(), False).ended == 1
    assert isinstance(make_mix("brayns", None), BraynsPull)


def test_kinds_of_failed_openings() -> None:
    said = "connection was closed uncleanly (WebSocket connection upgrade failed [503 - Busy])"
    assert opening_trouble(said) == "refused 503"
    assert (
        opening_trouble("peer did not finish the opening handshake in time") == "opening timed out"
    )
    assert opening_trouble("") == "lost while opening"


def test_the_report_needs_nothing_and_escapes() -> None:
    tally = Tally(settled=0, until=2)
    tally.answered(0.5, 0.2, 1)
    tally.failed(1.5, "<script>")
    summary = tally.summary()
    text = page("A & B", [("mix", "<echo>")], tally, summary, [read_limit("errors=0")])
    assert "<script" not in text
    assert "A &amp; B" in text
    assert "errors &lt;= 0: MISSED" in text
    assert text.count("<svg") == 4
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")


def test_a_short_load(tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "bin" / "_twistd", "-n", "--pidfile=", "vsmgate"]
    command += ["--state-dir", tmp_path / "state", "--master-port", "0", "--relay-port", "0"]
    with gateway(command, tmp_path) as running:
        load = [sys.executable, "-m", "bench.load", "--master", running.master]
        load += ["--token-file", str(tmp_path / "state" / "token"), "--sessions", "2"]
        load += ["--ramp", "0", "--duration", "1", "--limit", "errors=0"]

        def run(*more: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [*load, *more], cwd=ROOT, capture_output=True, text=True, timeout=90, check=False
            )

        report = tmp_path / "report.html"
        good = run("--limit", "p99=5", "--report", str(report))
        assert good.returncode == 0, good.stdout + good.stderr
        assert "met    p99 <= 5" in good.stdout
        assert "<svg" in report.read_text()
        bad = run("--limit", "rate=100000000")
        assert bad.returncode == 1, bad.stdout + bad.stderr
        assert "MISSED rate >= 1e+08" in bad.stdout
        none = run("--usecase", "nothing")
        assert none.returncode == 2
        assert "does not start 'nothing'" in none.stderr
