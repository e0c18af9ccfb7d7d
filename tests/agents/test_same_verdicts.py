"""Traffic of the lab, seen by two agents: what the collector judges is what one audit of both captures says."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path

import pytest
import zstandard

from auditor import pipeline
from auditor.agents.agent import Agent, AgentFeed
from auditor.agents.judging import Remarks, _of_agent
from auditor.agents.spool import Spool
from auditor.agents.wire import read_window
from auditor.capture.live import Place, Stream
from auditor.model.facts import Facts
from auditor.model.limits import Limits
from auditor.model.tables import EvidenceList
from auditor.policy.certificates import load_cas
from auditor.policy.inventory import load_inventory
from auditor.policy.loader import load_policy
from tests.conftest import by_day

SAMPLES = Path(__file__).resolve().parents[2] / "captures" / "sample"
SECOND = 1_000_000_000
MAY_DIFFER = {"capture", "first_frame", "findings", "vantages", "evidence", "sightings"}
"""What names captures and frames: an agent counts its own."""


def windows_of(capture: Path, spool: Path, window_ns: int, index: int) -> pipeline.Followed:
    """What an agent that reads this capture would have delivered, as the collector puts it together."""
    name = f"cell-{index}"

    def opened() -> Stream:
        return Stream(str(capture), None, os.open(capture, os.O_RDONLY))

    feed = AgentFeed(
        Place("file", str(capture), path=str(capture)),
        opened,
        window_ns=window_ns,
        by_packets=True,
        limits=Limits(buffer_bytes=4_096),
        tell=lambda _: None,
        clock=lambda: 1,
    )
    kept = Spool(spool, 64 << 20)
    Agent(name, feed, kept, window_ns, lambda: 1, lambda *_, **__: None, once=True).run()
    files = sorted(spool.glob("*.window"))
    windows = [read_window(each.read_bytes(), each.name, index) for each in files]
    assert [each.number for each in windows] == list(range(1, len(files) + 1))
    followed = _of_agent(name, windows, Remarks(()))
    assert threading.active_count() < 20
    return followed


@pytest.fixture(scope="module")
def captures(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("captures")
    made = []
    for name in ("cell0", "brain"):
        plain = zstandard.ZstdDecompressor().stream_reader((SAMPLES / f"lab.{name}.pcap.zst").open("rb")).read()
        made.append(folder / f"{name}.pcap")
        made[-1].write_bytes(plain)
    return made


@pytest.mark.parametrize("window_s", by_day([2, 600], 2))
def test_two_agents_say_what_one_audit_of_both_captures_says(captures, tmp_path, window_s):
    policy = load_policy(["tas"])
    who = load_inventory([str(SAMPLES / "lab.inventory.yml")], policy)
    options = {"ca": load_cas([str(SAMPLES / "lab.ca.pem")], policy)}
    whole = pipeline.run([str(each) for each in captures], policy=policy, inventory=who, options=options)
    parts = [windows_of(each, tmp_path / f"spool{k}", window_s * SECOND, k) for k, each in enumerate(captures)]
    if window_s == 2:
        assert len(list((tmp_path / "spool0").glob("*.window"))) >= 4
    places = [io.BytesIO(), io.BytesIO()]
    agents = pipeline.run(places, policy=policy, inventory=who, options=options, follow=lambda *_: parts)
    columns = [name for name in whole.connections.columns if name not in MAY_DIFFER]
    assert len(whole.connections) > 80
    assert sorted(whole.connections["id"]) == sorted(agents.connections["id"])
    for name in columns:
        one, other = ([_told(each) for each in audit.connections[name].tolist()] for audit in (whole, agents))
        differ = [
            (a, b, whole.connections["id"].iat[k]) for k, (a, b) in enumerate(zip(one, other, strict=True)) if a != b
        ]
        # One talk goes on over the end of a window of two seconds: what follows it there is not told of it.
        most = 1 if window_s == 2 and name in {"incomplete", "facts", "authentication_evidence"} else 0
        assert len(differ) <= most, (name, differ[:4], len(differ))
    for name in ("id", "fingerprint", "severity", "title", "detail", "count"):
        assert whole.findings[name].tolist() == agents.findings[name].tolist(), name
    assert whole.coverage.astype(str).values.tolist() == agents.coverage.astype(str).values.tolist()
    told = [audit.summary for audit in (whole, agents)]
    assert told[0] == told[1]
    assert [int(each) for each in whole.captures["packets"]] == [int(each) for each in agents.captures["packets"]]


def _told(value: object) -> str:
    """A cell of the table, whatever the order of what is in it."""
    if isinstance(value, Facts):
        return repr(sorted((kind, repr(each)) for kind, each in value.items()))
    if isinstance(value, EvidenceList):
        return repr(list(value))
    return repr(sorted(value.items()) if isinstance(value, dict) else value)
