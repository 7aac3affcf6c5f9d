"""bin/bench relay: the verdicts, the table, the plot, and one short run of the real thing."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from bench.charts import bars, lines
from bench.goals import ratio, verdicts
from bench.machine import Unavailable, generator_program
from bench.table import Table
from bench.works import WORKS, Sample

ROOT = Path(__file__).resolve().parents[2]


def samples(*values: float, **details: float) -> list[Sample]:
    return [Sample(value, dict(details)) for value in values]


def test_a_ratio_is_the_median_of_the_rounds() -> None:
    assert ratio(samples(10, 30, 1000), samples(10, 10, 10)) == 3
    assert ratio(samples(10), []) is None
    assert ratio(samples(10), samples(0)) is None


def test_verdicts_look_the_right_way() -> None:
    row = {
        "sockets": samples(90, p99=5.0, per_core=100.0),
        "haproxy": samples(100, p99=4.0, per_core=50.0),
        "nginx": samples(100),
    }
    found = {
        str(verdict.goal.rival) + verdict.goal.detail: verdict
        for verdict in verdicts({"echo-64-64": row})
    }
    assert not found["haproxy"].met
    assert found["haproxy"].per_core == 2
    assert "per core 2.00" in str(found["haproxy"])
    assert found["nginx"].met
    assert found["nginx"].per_core is None
    assert not found["haproxyp99"].met
    assert [v.met for v in verdicts({"stall": {"sockets": samples(299)}})] == [True]
    assert [v.met for v in verdicts({"stall": {"sockets": samples(301)}})] == [False]


@pytest.mark.parametrize(("ours", "met"), [(1200, True), (900, True), (700, False)])
def test_handshakes_are_many_or_more_than_the_others(ours: float, met: bool) -> None:
    row = {"sockets": samples(ours), "chp": samples(800)}
    assert [verdict.met for verdict in verdicts({"handshakes": row})] == [met]


def test_the_table_tells_medians_ratios_and_reasons() -> None:
    table = Table(["echo-64-64"], ["direct", "nginx", "sockets", "caddy"])
    work = WORKS["echo-64-64"]
    times = {"p50": 1.0, "p99": 2.0, "p999": 3.0}
    for value in (1000, 3000, 2000):
        table.add(work, "direct", Sample(4 * value, times))
        table.add(work, "nginx", Sample(value, times), "nginx 1.0")
        table.add(work, "sockets", Sample(2 * value, {**times, "per_core": 8 * value}))
    table.skip(work, "caddy", "caddy is not installed")
    text = table.text()
    (line,) = (line for line in text.splitlines() if line.startswith("  sockets"))
    assert line.split() == ["sockets", "4,000", "1.0", "2.0", "3.0", "16,000", "25", "2.00"]
    assert "skipped caddy (echo-64-64): caddy is not installed" in text
    assert "NOT ENOUGH" in table.headroom()
    said = json.loads(table.json())
    assert said["works"]["echo-64-64"]["relays"]["sockets"]["ratios"] == {
        "haproxy": None,
        "nginx": 2,
    }
    assert len(ElementTree.fromstring(table.svg()).findall(".//{*}rect")) == 3


def test_plots_are_well_formed() -> None:
    ElementTree.fromstring(bars("<&>", [("a < b", {"x & y": 1.0, "z": 0.0})], ["z"]))
    plot = ElementTree.fromstring(lines("t", "ms", {"p50": [(0, 1), (1, 0), (2, 100)]}, log=True))
    (line,) = plot.findall(".//{*}polyline")
    assert len(line.attrib["points"].split()) == 2  # a logarithm has no place for zero
    ElementTree.fromstring(lines("t", "ms", {"p50": []}))


def test_a_short_run(tmp_path: Path) -> None:
    try:
        generator_program(install=False)
    except Unavailable as why:
        pytest.skip(str(why))
    command = [sys.executable, "-m", "bench", "relay", "--rounds", "1", "--seconds", "0.2"]
    for peer in ("direct", "autobahn", "transports", "sockets"):
        command += ["--peer", peer]
    for work in ("echo-64-1", "stream-1m", "handshakes", "tls-echo-64-64"):
        command += ["--work", work]
    done = subprocess.run(
        [*command, "--no-install", "--out", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads((tmp_path / "relay.json").read_text())
    for work in ("echo-64-1", "stream-1m", "handshakes"):
        assert set(said["works"][work]["relays"]) == {"direct", "autobahn", "transports", "sockets"}
    assert all(
        relay["median"] > 0 for work in said["works"].values() for relay in work["relays"].values()
    ), done.stdout
    ElementTree.parse(tmp_path / "relay.svg")
