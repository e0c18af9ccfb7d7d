"""Who is an actor, and the story of what it did: on the recording of an intruder, and on tables made by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scapy.layers.inet import ICMP, IP, TCP
from scapy.utils import wrpcap

import auditor
from auditor.errors import ConfigError
from auditor.incidents import of
from auditor.incidents.actors import BEATS, regular

SECOND = 1_000_000_000


def test_the_intruder_is_one_incident_and_the_first(intruder):
    [found] = of(intruder.audit)
    assert found.addresses == ("10.0.8.99",)
    assert (found.severity, found.reach) == ("critical", "let_in")
    assert found.title == (
        "10.0.8.99, in no inventory, was let in by 10.0.8.40:8889 (diego_database/0), 10.0.8.20:1801 (diego_cell/0), 10.0.8.60:4222 (nats/0)"
    )


def test_the_five_questions_are_answered(intruder):
    [found] = of(intruder.audit)
    told = dict(found.answers)
    assert told["who"] == "10.0.8.99, in no inventory"
    assert told["when"].startswith("2026-")
    assert (
        "(cell.service.cf.internal), which diego_cell/0, diego_cell/1 show too, NATS user and password" in told["how"]
    )
    assert "29 closed (refused), 2 without an answer, 1 open: 10.0.8.40:8889 (diego_database/0)" in told["how"]
    assert "refused 1 time" in told["how"]
    assert "outside to 198.51.100.20:443" in told["how far"]
    assert "calls 198.51.100.20:8443 every 3" in told["how far"]
    assert "auditor slice captures/sample/intruder.bridge.pcap.zst --connection" in told["proof"]
    assert "frames" in told["proof"]


@pytest.mark.parametrize(
    ("transport", "error", "says"),
    [
        ("tcp", "communication administratively prohibited, by 10.0.8.1", "2 filtered (ICMP: communication administratively prohibited)"),
        ("tcp", "host unreachable, by 10.0.8.1", "2 filtered (ICMP: host unreachable)"),
        ("tcp", "port unreachable, by {host}", "2 filtered (ICMP: port unreachable, by a firewall)"),
        ("udp", "port unreachable, by 10.0.8.1", "2 filtered (ICMP: port unreachable, by a firewall)"),
        ("udp", "port unreachable, by {host}", "31 closed (refused)"),
        ("tcp", "fragmentation needed (MTU 1400), by 10.0.8.1", "2 without an answer"),
    ],
)  # fmt: skip
def test_a_sweep_tells_filtered_from_closed_and_from_silent(intruder, transport, error, says):
    """The same sweep, with what a router says of the two ports that did not answer."""
    table = intruder.audit.connections.copy()
    silent = (table["originator_ip"] == "10.0.8.99") & (table["conn_state"] == "S0")
    assert silent.sum() == 2
    table["transport"] = table["transport"].astype(object)
    table.loc[silent, "transport"] = transport
    told = table["authentication_evidence"].tolist()
    for row in np.flatnonzero(silent).tolist():
        text = error.format(host=table["responder_ip"].iloc[row])
        told[row] = [{"kind": "icmp.error", "value": (text,), "certainty": "proven", "frames": [[0, 9]]}]
    table["authentication_evidence"] = pd.Series(told, index=table.index, dtype=object)
    [found] = of(replace(intruder.audit, connections=table))
    assert says in found.steps[0].says
    assert found.steps[0].outcome == ("closed" if says.startswith("31") else "mixed")
    assert ("without an answer" in found.steps[0].says) is ("without" in says)


def test_its_steps_are_in_order_of_time_with_frames_and_a_command(intruder):
    [found] = of(intruder.audit)
    assert [step.kind for step in found.steps] == ["sweep", "login", "login", "login", "login", "egress", "beacon"]
    assert [step.outcome for step in found.steps[1:5]] == ["refused", "served", "served", "served"]
    times = [step.first_ns for step in found.steps]
    assert times == sorted(times)
    packets = int(intruder.captures["packets"].iloc[0])
    for step in found.steps:
        assert step.frames
        assert all(capture == 0 and 1 <= frame <= packets for capture, frame in step.frames)
        assert step.command.startswith("auditor slice captures/sample/intruder.bridge.pcap.zst --connection ")
    beacon = found.steps[-1]
    assert beacon.count == 10
    assert beacon.period_s == pytest.approx(3, abs=0.3)


def test_who_else_shows_the_certificate_is_in_the_report(intruder):
    [stolen] = [each for each in intruder.certificates if each["common_name"] == "cell.service.cf.internal"]
    clients = {(host["ip"], host["instance"]) for host in stolen["shown_by"] if host["as"] == "client"}
    assert clients == {("10.0.8.20", "diego_cell/0"), ("10.0.8.21", "diego_cell/1"), ("10.0.8.99", None)}
    assert {(host["ip"]) for host in stolen["shown_by"] if host["as"] == "server"} == {"10.0.8.20"}
    assert stolen["subject"].startswith("CN=cell.service.cf.internal")
    assert stolen["not_after"] > "2026"


def test_healthy_traffic_makes_no_incident():
    assert auditor.audit("sample:healthy").incidents == []


def test_a_host_s_report_is_about_it_alone(intruder):
    told = intruder.of_host("10.0.8.99")
    assert set(told.connections["originator_ip"]) == {"10.0.8.99"}
    assert told.summary["connections"] == len(told.connections)
    assert [each["actor"]["name"] for each in told.incidents] == ["10.0.8.99"]
    assert told.info["options"]["host"] == "10.0.8.99"
    assert "Incident 1 of 1" in told.to_table()
    assert "10.0.8.99" in told.to_html()


def test_a_vm_that_nobody_accuses_has_a_page_too(intruder):
    told = intruder.of_host("diego_cell/1")
    [found] = told.incidents
    assert found["actor"]["known"]
    assert found["findings"] == []
    assert {step["kind"] for step in found["steps"]} == {"connection"}


def test_an_address_that_was_not_seen_is_told(intruder):
    with pytest.raises(ConfigError, match="no connection from or to"):
        intruder.of_host("192.0.2.1")


@pytest.mark.parametrize("name", ["json", "ndjson", "sarif", "ocsf", "markdown", "table"])
def test_every_report_names_the_actor(intruder, name, tmp_path):
    intruder.write(name, tmp_path / "out")
    text = (tmp_path / "out").read_text(encoding="utf-8")
    assert "10.0.8.99, in no inventory, was let in by" in text.replace("\n  ", " ").replace("\\", "")


def test_the_first_screen_of_the_table_says_who_how_and_what_it_took(intruder):
    screen = " ".join(" ".join(intruder.to_table().splitlines()[:24]).split())
    for words in (
        "10.0.8.99, in no inventory, was let in",
        "client certificate",
        "diego_cell/0, diego_cell/1 show too",
        "took",
        "outside to 198.51.100.20:443",
    ):
        assert words in screen


def test_the_json_report_and_the_store_tell_the_same(intruder, tmp_path):
    from auditor.jobs import keep
    from auditor.store.history import open_history

    with open_history(str(tmp_path / "store"), write=True) as history, history.writing():
        keep.keep(keep.marked(keep.hashed(intruder.audit), []), history)
    with open_history(str(tmp_path / "store")) as history:
        again = keep.restore(history, history.find("latest"))
    assert json.dumps([each.as_dict() for each in of(again)]) == json.dumps(intruder.incidents)
    assert again.certificates[0]["sha256"] == intruder.certificates[0]["sha256"]


def test_beacons_are_regular_and_a_missed_beat_does_not_hide_them():
    rng = np.random.default_rng(7)
    beats = (np.arange(60) * 60 + rng.normal(0, 1.5, 60)) * SECOND
    period, jitter = regular(beats.astype(np.int64)) or (0, 0)
    assert period == pytest.approx(60 * SECOND, rel=0.05)
    assert jitter < 4 * SECOND
    missed = np.delete(beats, [10, 11, 30])
    assert regular(missed.astype(np.int64)) is not None


def test_people_are_not_regular_and_few_calls_tell_nothing():
    rng = np.random.default_rng(7)
    assert regular(np.cumsum(rng.exponential(60, 60) * SECOND).astype(np.int64)) is None
    assert regular((np.arange(BEATS - 1) * SECOND * 60).astype(np.int64)) is None
    assert regular((np.arange(50) * 1_000_000).astype(np.int64)) is None


def test_a_router_s_refusals_are_read_from_packets(tmp_path):
    """Fifteen ports: five reset, five that a router says are prohibited, five silent."""
    file, sent = tmp_path / "sweep.pcap", []
    for number in range(15):
        syn = IP(src="10.0.8.99", dst="10.0.8.40") / TCP(sport=40_000 + number, dport=8_000 + number, flags="S")
        answers = [
            IP(src="10.0.8.40", dst="10.0.8.99") / TCP(sport=8_000 + number, dport=40_000 + number, flags="RA", ack=1),
            IP(src="10.0.8.1", dst="10.0.8.99") / ICMP(type=3, code=13) / bytes(syn)[:28],
        ]
        sent += [syn, *answers[number // 5 : number // 5 + 1]]
    for number, packet in enumerate(sent):
        packet.time = 1_795_000_000 + number / 10
    wrpcap(str(file), sent, linktype=101)
    [found] = of(auditor.audit(file, inventory="captures/sample/intruder.inventory.yml").audit)
    assert found.steps[0].says == (
        "tried 15 ports of diego_database/0: 5 closed (refused), 5 filtered (ICMP: communication administratively prohibited), "
        "5 without an answer"
    )
