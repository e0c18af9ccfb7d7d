"""Who is an actor, and the story of what it did: on the recording of an intruder, and on tables made by hand."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scapy.layers.inet import ICMP, IP, TCP
from scapy.utils import wrpcap

import auditor
from auditor import api
from auditor.cli import main
from auditor.errors import ConfigError
from auditor.incidents import host_of, of
from auditor.incidents.actors import BEATS, _rank, regular
from auditor.incidents.again import next_of

CAPTURE = "captures/sample/intruder.bridge.pcap.zst"
SECOND = 1_000_000_000


def test_the_intruder_is_one_incident_and_the_first(intruder):
    [found] = of(intruder.audit)
    assert found.addresses == ("10.0.8.99",)
    assert (found.severity, found.reach) == ("critical", "let_in")
    assert found.title == (
        "10.0.8.99, in no inventory, got access to 10.0.8.40:8889 (diego_database/0), 10.0.8.20:1801 (diego_cell/0), 10.0.8.60:4222 (nats/0)"
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


def test_vms_without_a_name_are_told_by_their_role(tmp_path):
    named = Path("captures/sample/lab.inventory.yml").read_text(encoding="utf-8")
    nameless = tmp_path / "vms.yml"
    nameless.write_text(re.sub(r"name: ([a-z_]+)/[^,]+, ", r"role: \1, ", named), encoding="utf-8")
    [found] = of(api.audit(CAPTURE, inventory=nameless).audit)
    assert "got access to 10.0.8.40:8889 (diego_database), 10.0.8.20:1801 (diego_cell)" in found.title
    assert not re.search(r"([0-9.]+)(:[0-9]+)? \(\1\)", json.dumps(found.as_dict()))


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
    told = intruder.of_host("diego_cell/0")
    [found] = told.incidents
    assert found["actor"]["name"] == "10.0.8.99"  # the incident stays its own
    page = host_of(told.audit)
    assert page is not None
    assert not page.accused
    assert page.severity == "info"
    assert page.title == (
        "diego_cell/0 (10.0.8.20): opened 3 connections to 10.0.8.40:8889 (diego_database/0), 10.0.8.60:4222 (nats/0); "
        f"let 10.0.8.99 in; was called in 1 connection by 10.0.8.99; 10.0.8.99 of incident {found['id']} (critical) sent it 3.6 KiB and received 5.6 KiB"
    )
    assert page.steps[-1].says.startswith(
        "let 10.0.8.99 in on its port 1801/tcp (tls): TLS 1.2 with the client certificate"
    )
    assert {step.kind for step in page.steps} == {"connection", "called"}


def test_the_page_of_an_end_outside_says_that_nothing_was_judged_and_what_it_got(intruder):
    told = intruder.of_host("198.51.100.20")
    page = host_of(told.audit)
    assert page is not None
    assert "10.0.8.99 of incident I-8157f1f32d (critical) sent it 93.2 KiB and received" in page.how_far
    assert page.proof.startswith("frame 441;")
    text = told.to_table(width=200)
    assert text.startswith("NOTHING AUDITED")
    assert "CLEAN" not in text
    assert told.exit_status() == 3


def test_attempts_are_no_connections_on_the_page_of_a_host(intruder):
    told = intruder.of_host("uaa/1")
    page = host_of(told.audit)
    assert page is not None
    assert "was tried in 2 attempts by 10.0.8.99, none of them answered" in page.how_far
    assert "was called in" not in page.title
    [found] = of(told.audit)
    assert found.how.startswith("tried 2 targets on uaa/1: 2 without an answer")
    page = host_of(intruder.of_host("10.0.8.40").audit)
    assert page is not None
    assert "was called in 8 connections" in page.how_far
    assert "1 of them refused; was tried in 29 attempts by 10.0.8.99, all refused" in page.how_far


def test_who_hangs_up_itself_was_not_refused(intruder):
    table = intruder.audit.connections.copy()
    mine = ((table["originator_ip"] == "10.0.8.99") & (table["responder_port"] == 4222)).to_numpy()
    says = "an SSH login: the client closed the connection without an answer"
    for name, value in (("entered", False), ("authentication_outcome", "refused"), ("shown", says)):
        table[name] = table[name].astype(object)
        table.loc[mine, name] = value
    [found] = of(replace(intruder.audit, connections=table))
    [step] = [each for each in found.steps if each.peers == ("10.0.8.60:4222 (nats/0)",)]
    assert step.says.startswith("connected to 10.0.8.60:4222 (nats/0) (nats) and ended that itself: neither access nor")
    assert (step.kind, step.outcome) == ("connection", "unknown")


def test_access_on_a_documented_path_without_what_it_asks_for_is_told(intruder):
    """A cell that is found for a sweep, and was served in the clear on a path that asks for TLS."""
    table, findings = intruder.audit.connections.copy(), intruder.audit.findings.copy()
    stranger = (table["originator_ip"] == "10.0.8.99").to_numpy()
    tried = stranger & (table["outcome"] == "attempt").to_numpy()
    table = table[~stranger | tried].reset_index(drop=True)
    tried = (table["originator_ip"] == "10.0.8.99").to_numpy()
    for name in ("ip", "instance", "roles"):
        column = table[f"originator_{name}"].astype(object).tolist()
        cell = {"ip": "10.0.8.21", "instance": "diego_cell/1", "roles": ("diego_cell",)}[name]
        table[f"originator_{name}"] = pd.Series(
            [cell if here else was for here, was in zip(tried, column, strict=True)], dtype=object
        )
    findings = findings[findings["rule"] == "port-sweep"].reset_index(drop=True)
    [found] = of(replace(intruder.audit, connections=table, findings=findings))
    assert found.title.endswith("tried without success")
    call = int(np.flatnonzero((table["originator_instance"] == "diego_cell/1") & ~tried)[0])
    amiss = findings.iloc[[0]].assign(id="F-1", rule="plaintext", severity="critical")
    amiss["connections"] = [(str(table["id"].iloc[call]),)]
    table = table.copy()
    told = table["findings"].tolist()
    told[call] = ("F-1",)
    table["findings"] = pd.Series(told, dtype=object)
    table["authentication_outcome"] = table["authentication_outcome"].astype(object)
    table.loc[call, "authentication_outcome"] = "served"
    [found] = of(replace(intruder.audit, connections=table, findings=pd.concat([findings, amiss], ignore_index=True)))
    assert found.reach == "let_in"
    [step] = [each for each in found.steps if each.let_in]
    assert "(F-1 plaintext)" in step.says
    assert found.severity == "high", "a fault of a documented path makes the incident no graver"


def test_who_searches_stands_before_who_calls_what_no_path_declares(intruder):
    [scan] = of(intruder.audit)
    scan = replace(scan, severity="high", reach="tried", roles=(), outside_bytes=0, reached=())
    calls = replace(
        scan, reach="connected", roles=("exporter",), steps=(), reached=("10.0.8.21:9115",), received_bytes=20_000
    )
    enters = replace(calls, reach="let_in")
    assert sorted([calls, scan, enters], key=_rank) == [enters, scan, calls]


def test_the_page_of_whose_certificate_was_stolen_says_so(intruder):
    told = intruder.of_host("diego_cell/1")
    assert told.incidents == []
    assert told.findings["rule"].tolist() == ["stolen-credential"]
    page = host_of(told.audit)
    assert page is not None
    assert "which diego_cell/0, 10.0.8.99 show too" in dict(page.answers)["showed"]
    text = told.to_table()
    assert "Incident" not in text
    assert "Host diego_cell/1 (10.0.8.21): opened 2 connections" in text
    assert json.loads(told.to_json())["host"]["answers"]["done_to_it"] == "was called by nobody"


def test_the_victim_of_a_sweep_is_no_actor_and_its_page_tells_of_it(intruder):
    told = intruder.of_host("diego_database/0")
    [found] = told.incidents
    assert found["title"].startswith("10.0.8.99, in no inventory, got access to 10.0.8.40:8889")
    page = host_of(told.audit)
    assert page is not None
    assert [each.says for each in page.steps if "was tried" in each.says] == [
        "was tried by 10.0.8.99 on 29 ports in 29 attempts: 29 refused"
    ]
    assert host_of(intruder.of_host("10.0.8.99").audit) is None  # its incident says all of it


def test_one_sweep_has_one_number_wherever_it_is_told(intruder):
    [found] = of(intruder.audit)
    sweep = found.steps[0]
    assert sweep.says.startswith(
        "tried 32 targets on diego_database/0, uaa/1: 29 closed (refused), 2 without an answer, 1 open: "
    )
    [told] = intruder.findings[intruder.findings["rule"] == "port-sweep"].itertuples()
    assert sweep.says.endswith(f"; {told.id} counts 30 of them")
    assert told.title == "10.0.8.99 tried 30 targets on 2 hosts without a connection"
    shown = sweep.as_dict()
    assert (shown["count"], len(shown["connections"]), shown["connections_left_out"]) == (32, 20, 12)


def test_who_only_pings_is_no_actor(tmp_path):
    file = tmp_path / "ping.pcap"
    sent = [IP(src="10.0.8.1", dst="10.0.8.20") / ICMP(id=7, seq=number) for number in range(5)]
    for number, packet in enumerate(sent):
        packet.time = 1_795_000_000 + number
    wrpcap(str(file), sent, linktype=101)
    report = auditor.audit(file, inventory="captures/sample/intruder.inventory.yml")
    assert report.findings["rule"].tolist() == ["unknown-host"]
    assert report.incidents == []


def test_every_command_of_the_report_runs_and_tells_the_same(intruder, tmp_path, capsys):
    [found] = of(intruder.audit)
    for step in found.steps:
        words = shlex.split(step.command)
        words[-1] = str(tmp_path / words[-1])
        assert main([*words[1:], "--quiet", "--progress", "never", "--index", "none"]) == 0
        again = api.connections(words[-1]).connections
        assert step.connections[0] in set(again["id"])
    for command in {found.command, *(told.command for told in of(intruder.of_host("10.0.8.20").audit))}:
        capsys.readouterr()
        main([*shlex.split(command)[1:], "--format", "json", "--progress", "never"])
        [told] = json.loads(capsys.readouterr().out)["incidents"]
        assert told["answers"] == intruder.incidents[0]["answers"]
    assert found.proof.endswith(found.steps[2].command)


def test_the_commands_of_a_window_repeat_it(capsys):
    told = auditor.audit("sample:intruder", since="2026-11-30T15:12:12Z", until="2026-11-30T15:12:14Z", strict=True)
    [found] = told.incidents
    command = shlex.split(found["command"])
    assert "--strict" in command
    main([*command[1:], "--format", "json", "--progress", "never"])
    again = json.loads(capsys.readouterr().out)
    assert [each["title"] for each in again["incidents"]] == [found["title"]]
    assert [step["says"] for step in again["incidents"][0]["steps"]] == [step["says"] for step in found["steps"]]
    finding = told.findings[told.findings["rule"] == "unknown-host"].iloc[0]
    explained, _ = next_of(told.audit).commands(finding["id"])
    assert main(shlex.split(explained)[1:]) == 0
    assert finding["detail"][:40] in " ".join(capsys.readouterr().out.split())


def test_an_id_without_the_options_of_its_audit_is_told_to_depend_on_them(intruder, tmp_path, capsys):
    name = of(intruder.audit)[0].findings[0]
    for command in (
        ["explain", name, CAPTURE],
        ["slice", CAPTURE, "--finding", name, "-w", str(tmp_path / "x"), "--progress", "never"],
    ):
        assert main(command) == 2
        assert "depends on policy and inventory: repeat --inventory, --policy" in capsys.readouterr().err


def test_an_address_that_was_not_seen_is_told(intruder):
    with pytest.raises(ConfigError, match="no connection from or to"):
        intruder.of_host("192.0.2.1")


@pytest.mark.parametrize("name", ["json", "ndjson", "sarif", "ocsf", "markdown", "table"])
def test_every_report_names_the_actor(intruder, name, tmp_path):
    intruder.write(name, tmp_path / "out")
    text = (tmp_path / "out").read_text(encoding="utf-8")
    assert "10.0.8.99, in no inventory, got access to" in text.replace("\n  ", " ").replace("\\", "")


def test_the_first_screen_of_the_table_says_who_how_and_what_it_took(intruder):
    screen = " ".join(" ".join(intruder.to_table().splitlines()[:24]).split())
    for words in (
        "10.0.8.99, in no inventory, got access to",
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
        "tried 15 targets on diego_database/0: 5 closed (refused), 5 filtered (ICMP: communication administratively prohibited), "
        "5 without an answer"
    )
