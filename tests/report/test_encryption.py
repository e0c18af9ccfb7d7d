"""What crosses in the clear, by path and by VM."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pandas as pd
import pytest

from auditor.api import Report
from auditor.errors import ConfigError
from auditor.model.audit import Audit
from auditor.report._encryption import view
from auditor.report._encryption_forms import FORMS, MOST_VMS

HANDSHAKE = {"server_hello": True, "version": "TLS 1.3"}


def declared(path: str, application: str, authentication: str = "None") -> dict[str, Any]:
    return {
        "path": path, "source": "here", "destination": "there", "ports": "1", "application": application, "authentication": authentication,
    }  # fmt: skip


COVERAGE = [
    declared("rep-to-bbs", "HTTPS", "Mutual TLS"), declared("route-emitter-to-nats", "NATS", "Basic authentication"),
    declared("vxlan-between-cells", "VXLAN"), declared("bbs-to-mysql", "MySQL"), declared("vm-to-syslog", "Syslog"),
]  # fmt: skip


def seen(path: str | None, application: str, required: Any = None, **more: Any) -> dict[str, Any]:
    row = {
        "start": 1_000_000_000, "duration": 2.0, "transport": "tcp", "originator_ip": "10.0.4.20", "originator_instance": "diego_cell/0",
        "originator_role": "diego_cell", "originator_bytes": 100, "responder_ip": "10.0.4.24", "responder_port": 4222,
        "responder_instance": "nats/0", "responder_role": "nats", "responder_bytes": 50, "application": application, "tls": None, "nats": None,
        "http": None, "paths": (path,) if path else (), "disposition": "documented" if path else "undeclared", "breach": None,
        "authentication_required": required, "outcome": "established",
    }  # fmt: skip
    return {**row, **more}


def audit_of(*rows: dict[str, Any]) -> Audit:
    frame = pd.DataFrame(list(rows)).astype(object)
    captures = pd.DataFrame({"path": [], "packets": [], "bytes": [], "first_packet": [], "last_packet": [], "problems": [], "dropped": []})  # fmt: skip
    return Audit({}, {}, captures, frame, pd.DataFrame(), pd.DataFrame(COVERAGE))


def told(*rows: dict[str, Any]) -> dict[str, Any]:
    return {each["path"]: each for each in view(audit_of(*rows))["paths"]}


def test_what_is_in_the_clear_by_whom_how_much_and_since_when() -> None:
    nats = told(
        seen("route-emitter-to-nats", "nats", "basic", nats={"pass": True, "user": True}),
        seen("route-emitter-to-nats", "nats", "basic", start=9_000_000_000, originator_instance="diego_cell/1"),
        seen("route-emitter-to-nats", "nats", "basic", tls=HANDSHAKE),
    )["route-emitter-to-nats"]
    assert nats["clear"] == {
        "connections": 2, "bytes": 300, "first_seen": 1_000_000_000, "last_seen": 11_000_000_000, "applications": ["nats"],
        "originators": ["diego_cell/0", "diego_cell/1"], "responders": ["nats/0"],
    }  # fmt: skip
    assert nats["credentials"] == ["NATS password or token"]
    assert nats["encrypted"] == {"connections": 1, "bytes": 150}
    assert nats["tls_declared"] is False, "in the clear as documented"


def test_where_tls_was_declared_comes_first() -> None:
    found = view(
        audit_of(
            seen("route-emitter-to-nats", "nats", "basic", originator_bytes=10**9),
            seen("rep-to-bbs", "http", "mutual_tls"),
        )
    )
    assert [(each["path"], each["tls_declared"]) for each in found["paths"]] == [("rep-to-bbs", True), ("route-emitter-to-nats", False)]  # fmt: skip


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        (seen("rep-to-bbs", "tls"), "encrypted"),
        (seen("rep-to-bbs", "https"), "encrypted"),
        (seen("bbs-to-mysql", "mysql", tls=HANDSHAKE), "encrypted"),
        (seen("bbs-to-mysql", "mysql"), "clear"),
        (seen(None, "ssh"), "encrypted"),
        (seen("rep-to-bbs", "http", tls={"alert_to_plaintext": True}), "clear"),
        (seen("rep-to-bbs", "unknown"), "unknown"),
        (seen("vxlan-between-cells", "unknown", transport="udp"), "clear"),
        (seen("vm-to-syslog", "unknown"), "unknown"),
        (seen("rep-to-bbs", "none"), None),
        (seen(None, "unknown", transport="icmp"), None),
        (seen("rep-to-bbs", "none", outcome="attempt"), None),
        (seen(None, "http", originator_role=None, responder_role=None), None),
    ],
)
def test_kinds(row: dict[str, Any], kind: str | None) -> None:
    summary = view(audit_of(row, seen("rep-to-bbs", "tls")))["summary"]
    strangers = summary.pop("without_role")["connections"]
    counts = {each: summary[each]["connections"] - (each == "encrypted") for each in summary}
    assert {each for each, count in counts.items() if count} == ({kind} if kind else set())
    assert strangers == (row["application"] == "http" and row["originator_role"] is None)


def test_undeclared_connections_stand_by_their_roles_and_applications_are_one_line() -> None:
    found = told(seen(None, "http", responder_port=9022), seen(None, "smtp", breach="cell_egress", responder_role=None))
    assert set(found) == {"diego_cell to nats 9022/tcp", "cell-egress"}


def test_each_vm_has_what_it_sends_and_takes_in_the_clear() -> None:
    vms = {each["instance"]: each for each in view(audit_of(seen("route-emitter-to-nats", "nats", "basic")))["vms"]}
    assert set(vms) == {"diego_cell/0", "nats/0"}
    assert vms["nats/0"]["clear"]["peers"] == ["diego_cell/0"]
    assert vms["nats/0"]["clear"]["paths"] == ["route-emitter-to-nats"]


@pytest.mark.parametrize("form", sorted(FORMS))
def test_every_form_names_what_is_in_the_clear(form: str) -> None:
    hostile = "a|b<script>\x1b[31m/0"
    text = Report(audit_of(seen("rep-to-bbs", "http", "mutual_tls", originator_instance=hostile))).encryption(form)
    assert "rep-to-bbs" in text.replace("\\", "")
    assert "1970-01-01T00:00:01.000000Z" in text.replace("\\", "")
    assert "\x1b" not in text
    assert form in ("json", "csv", "table") or "<script>" not in text
    if form == "json":
        document = json.loads(text)
        assert document["schema"] == "auditor.encryption/1"
        assert document["paths"][0]["clear"]["connections"] == 1
    if form == "csv":
        [row] = csv.DictReader(io.StringIO(text))
        assert (row["path"], row["tls_declared"], row["clear_bytes"]) == ("rep-to-bbs", "true", "150")


def test_nothing_in_the_clear_is_said() -> None:
    report = Report(audit_of(seen("rep-to-bbs", "tls")))
    assert "nothing unencrypted was seen" in report.encryption("table")
    assert "Nothing unencrypted was seen." in report.encryption("markdown")


def test_a_large_foundation_is_told_in_part_and_says_so() -> None:
    rows = [seen("route-emitter-to-nats", "nats", originator_instance=f"diego_cell/{number}") for number in range(30)]
    text = Report(audit_of(*rows)).encryption("table")
    assert f"and {31 - MOST_VMS} VMs more with fewer bytes (--format json has all)" in text
    assert len(json.loads(Report(audit_of(*rows)).encryption("json"))["vms"]) == 31


def test_there_is_no_other_form() -> None:
    with pytest.raises(ConfigError, match="unknown format 'pdf'"):
        Report(audit_of(seen("rep-to-bbs", "tls"))).encryption("pdf")


def test_the_sample(real: Audit) -> None:
    document = json.loads(Report(real).encryption("json"))
    worst = document["paths"][0]
    assert worst["tls_declared"]
    assert worst["clear"]["connections"]
    assert document["summary"]["encrypted"]["connections"] > 0
