"""The shipped alert rules, tested by ``promtool test rules`` on series measured from real passes."""

from __future__ import annotations

import math
import shutil
import subprocess

import pytest
import yaml

from auditor.jobs.metrics import registry
from tests.conftest import ROOT, absent
from tests.jobs.crashing import INVENTORY, SAMPLE, split
from tests.jobs.test_clocks import YEAR
from tests.jobs.test_errands import MINUTE, down
from tests.jobs.test_scheduled_run import NOTIFY, NOW, Spool

STEP = 20 * MINUTE
"""Between passes; Prometheus looks every five minutes."""
HOURS = 11


@pytest.fixture(scope="module")
def promtool():
    found = shutil.which("promtool")
    if not found:
        absent("promtool is not installed (Debian package prometheus)")
    return found


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """What a scraper saw: two sources deliver an hour's capture each; one is damaged at hour 2, nobody can be told from hour 3 to 5, one source stops after hour 5, and the clock
    jumps ahead at the end."""
    place = tmp_path_factory.mktemp("alerts")
    spool = Spool(
        place,
        NOTIFY.replace('"info"', '"info"\non = ["silent", "incomplete", "aside", "clock"]')
        + "[audit]\nmax_undecided = 100\n",
        INVENTORY,
    )
    pieces = iter(split(SAMPLE, 24))
    seen: dict[str, list[float]] = {}
    for step in range(3 * HOURS):
        hour, turn = divmod(step, 3)
        if turn == 0:
            piece = next(pieces)
            spool.put(f"north_{hour:05d}.pcap", piece[:-7] if hour == 2 else piece)
            if hour <= 5:
                spool.put(f"south_{hour:05d}.pcap", next(pieces))
            if hour == 3:
                spool.put("odd_00001.pcap", b"no capture")
        last = step == 3 * HOURS - 1
        outcome = spool.run(down if 3 <= hour < 5 else None, later=YEAR if last else STEP)
        made = registry(place / "history", outcome, 1.0, spool.now, "prod")
        for family in made.collect():
            for sample in family.samples:
                labels = ",".join(f'{key}="{value}"' for key, value in sorted(sample.labels.items()))
                values = seen.setdefault(f"{sample.name}{{{labels}}}", [])
                values += [float("nan")] * (step - len(values))
                values.append(sample.value - NOW / 1e9 if sample.name.endswith("timestamp_seconds") else sample.value)
    return seen


def told(values):
    """As promtool writes series: each value stands until the next pass."""
    return " ".join(" ".join(["_" if math.isnan(value) else repr(value)] * (STEP // (5 * MINUTE))) for value in values)


FIRING = {
    # minutes, counted from the first pass: alert, source
    "1h": set(),
    "2h10m": set(),
    "2h30m": {("DiegoAuditIncomplete", "north_#.pcap")},
    "3h30m": {("DiegoAuditIncomplete", "north_#.pcap")},
    "4h30m": {("DiegoAuditIncomplete", "north_#.pcap"), ("DiegoErrandsWaiting", "")},
    "6h30m": {("DiegoAuditIncomplete", "north_#.pcap")},
    "9h30m": {("DiegoAuditIncomplete", "north_#.pcap"), ("DiegoSourceSilent", "south_#.pcap")},
    "10h50m": {
        ("DiegoAuditIncomplete", "north_#.pcap"),
        ("DiegoSourceSilent", "south_#.pcap"),
        ("DiegoClockNotBelieved", ""),
    },
}
QUIET = "DiegoCapturesStopped|DiegoCriticalFinding|DiegoNewFindings|DiegoAuditSilent"
"""These look at the packets' and the machine's real dates, or at what the sample's pieces find."""


def test_alerts_fire_when_they_must_and_at_no_other_time(series, promtool, tmp_path):
    shutil.copy(ROOT / "docs" / "deploy" / "alerts.yml", tmp_path)
    tests = [
        {
            "expr": f'count by (alertname, source) (ALERTS{{alertstate="firing",alertname!~"{QUIET}"}})',
            "eval_time": at,
            "exp_samples": [
                {"labels": f'{{alertname="{name}"' + (f',source="{source}"' if source else "") + "}", "value": 1}
                for name, source in sorted(expected)
            ],
        }
        for at, expected in FIRING.items()
    ]
    (tmp_path / "test.yml").write_text(
        yaml.safe_dump(
            {
                "rule_files": ["alerts.yml"],
                "evaluation_interval": "5m",
                "tests": [
                    {
                        "interval": "5m",
                        "input_series": [{"series": name, "values": told(values)} for name, values in series.items()],
                        "promql_expr_test": tests,
                    }
                ],
            }
        )
    )
    done = subprocess.run(
        [promtool, "test", "rules", "test.yml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
