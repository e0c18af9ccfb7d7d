"""Zeek's logs, read by a reader of its users."""

from __future__ import annotations

import pytest
from parsezeeklogs import read_zeek

from auditor.api import Report


def rows(path) -> list[dict]:
    return list(read_zeek(str(path)))


@pytest.fixture(scope="module")
def logs(real, tmp_path_factory):
    folder = tmp_path_factory.mktemp("zeek") / "logs"
    Report(real).write("zeek", folder)
    return folder


def test_the_connections(logs, real):
    found = rows(logs / "conn.log")
    assert len(found) == len(real.connections)
    for row, (_, ours) in zip(found, real.connections.iterrows(), strict=True):
        assert row["uid"] == ours["id"]
        assert (row["id.orig_h"], row["id.resp_h"]) == (ours["originator_ip"], ours["responder_ip"])
        assert row["id.resp_p"] == ours["responder_port"]
        assert (row["conn_state"], row["history"]) == (ours["conn_state"], ours["history"] or None)
        assert (row["orig_pkts"], row["resp_ip_bytes"]) == (ours["originator_packets"], ours["responder_bytes"])
        assert row["community_id"] == ours["community_id"]
        assert row["duration"] == pytest.approx(ours["duration"], abs=1e-6)


def test_what_tls_shows(logs, real):
    found = rows(logs / "ssl.log")
    assert len(found) == int(real.connections["tls"].notna().sum())
    assert {row["version"] for row in found} <= {"TLSv10", "TLSv11", "TLSv12", "TLSv13", None}
    assert "bbs.service.cf.internal" in {row["server_name"] for row in found}


def test_the_findings(logs, real):
    found = rows(logs / "notice.log")
    ordered = real.findings.sort_values("first_seen", kind="stable")
    assert [row["auditor_fingerprint"] for row in found] == ordered["fingerprint"].tolist()
    assert [float(str(row["ts"])) for row in found] == sorted(float(str(row["ts"])) for row in found)
    by_mark = {row["auditor_fingerprint"]: row for row in found}
    worst = real.findings.iloc[0]
    assert by_mark[worst["fingerprint"]]["note"] == "Auditor::MissingClientCertificate"
    assert by_mark[worst["fingerprint"]]["n"] == worst["count"]


def test_the_certificates(logs, real):
    found = rows(logs / "x509.log")
    assert {row["fingerprint"] for row in found} == {each["sha256"] for each in real.certificates}
    cell = next(row for row in found if "CN=" in str(row["certificate.subject"]) and row["client_cert"] is True)
    assert cell["certificate.issuer"]
    shown = [row for row in rows(logs / "ssl.log") if row["cert_chain_fps"]]
    assert shown


def test_nothing_from_the_wire_breaks_a_row(audit, tmp_path):
    Report(audit).write("zeek", tmp_path / "logs")
    for name, count in (("conn.log", len(audit.connections)), ("notice.log", len(audit.findings))):
        text = (tmp_path / "logs" / name).read_text()
        lines = [line for line in text.split("\n") if line and not line.startswith("#")]
        wide = next(line for line in text.split("\n") if line.startswith("#fields")).count("\t")
        assert [line.count("\t") + 1 for line in lines] == [wide] * count
        assert "\x1b" not in text


def test_one_table_alone(real, tmp_path):
    Report(real).write("zeek", tmp_path / "logs", table="findings")
    assert [each.name for each in (tmp_path / "logs").iterdir()] == ["notice.log"]
