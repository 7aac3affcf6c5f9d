"""The report of a load: one HTML page with its plots inside. Pure."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from html import escape

from bench.charts import lines
from bench.load.limits import Limit
from bench.load.tally import SHARES, Tally, percentile

__all__ = ["page", "told"]

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #26323a; max-width: 60em; margin: 2em auto;
  padding: 0 1em }
table { border-collapse: collapse; margin: 1em 0 } td, th { padding: .2em 1em .2em 0;
  text-align: left } td.figure { text-align: right; font-variant-numeric: tabular-nums }
.missed { color: #b3261e; font-weight: 600 } svg { max-width: 100%; height: auto }
"""


def told(summary: Mapping[str, float]) -> list[tuple[str, str]]:
    """Return the figures as (what, value with its unit), for people."""
    rows = [(name, f"{summary[name] * 1000:,.1f} ms") for name in (*SHARES, "max")]
    return [
        *rows,
        ("answers", f"{summary['answers']:,.0f}"),
        ("answers a second", f"{summary['rate']:,.1f}"),
        ("received", f"{summary['megabytes']:,.2f} MB/s"),
        ("openings", f"{summary['opened']:,.0f}"),
        ("opening, p99", f"{summary['opening'] * 1000:,.1f} ms"),
        ("sessions open at most", f"{summary['most_open']:,.0f}"),
        ("errors", f"{summary['errors']:,.0f}"),
    ]


def page(
    title: str,
    setting: Sequence[tuple[str, str]],
    tally: Tally,
    summary: Mapping[str, float],
    limits: Sequence[Limit],
) -> str:
    """Return the page; it needs nothing from elsewhere."""
    verdicts = [(str(limit), limit.met(summary)) for limit in limits]
    judged = "".join(
        f"<li{'' if met else ' class=missed'}>{escape(text)}: {'met' if met else 'MISSED'}</li>"
        for text, met in verdicts
    )
    errors = [(kind, f"{count:,}") for kind, count in tally.errors.most_common()]
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        f"<title>{escape(title)}</title><style>{STYLE}</style><h1>{escape(title)}</h1>"
        f"{_table(setting)}{f'<h2>Limits</h2><ul>{judged}</ul>' if judged else ''}"
        f"<h2>Answers after the ramp</h2>{_table(told(summary))}"
        f"<h2>Errors by kind</h2>{_table(errors) if errors else '<p>None.</p>'}"
        f"<h2>Second by second</h2>{''.join(plots(tally))}</html>\n"
    )


def plots(tally: Tally) -> list[str]:
    """Return the plots: percentiles, rate, sessions with errors."""
    seconds = list(enumerate(tally.whole))
    ordered = [(number, array("d", sorted(second.times))) for number, second in seconds]
    times = {
        name: [
            (float(number), 1000 * percentile(values, SHARES[name]))
            for number, values in ordered
            if values
        ]
        for name in ("p50", "p99")
    }
    rate = [(float(number), float(len(second.times))) for number, second in seconds]
    received = [(float(number), second.octets / 1e6) for number, second in seconds]
    return [
        lines("Time to answer", "ms", times, log=True),
        lines("Answers", "a second", {"answers": rate}),
        lines("Received", "MB/s", {"received": received}),
        lines(
            "Sessions",
            "open, and errors a second",
            {
                "open": [(float(number), float(second.open)) for number, second in seconds],
                "errors": [(float(number), float(second.errors)) for number, second in seconds],
            },
        ),
    ]


def _table(rows: Sequence[tuple[str, str]]) -> str:
    cells = "".join(
        f"<tr><th>{escape(name)}</th><td class=figure>{escape(value)}</td></tr>"
        for name, value in rows
    )
    return f"<table>{cells}</table>"
