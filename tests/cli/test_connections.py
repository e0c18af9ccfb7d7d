"""``auditor connections``: which connections, which columns, and whether they are judged."""

from __future__ import annotations

import csv
import io
import json

import pytest

from auditor.cli import main
from auditor.model.columns import CONNECTIONS
from tests.report import make

ROWS = make.connections()


def shown(capsys, *options: str) -> list[dict[str, object]]:
    capsys.readouterr()
    status = main(["connections", "x.pcap", "--format", "ndjson", "--progress", "never", "--quiet", *options])
    assert status in (0, 3)
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_records_have_what_scripts_read(given, capsys):
    given(make.audit())
    first = shown(capsys)[0]
    assert first["kind"] == "connection"
    assert first["transport"] == "tcp"
    assert (first["originator"]["ip"], first["originator"]["port"]) == ("10.0.4.10", 40000)
    assert first["tls"]["version"] == "TLS 1.2"


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (["--to-port", "8889"], lambda row: row["responder_port"] == 8889),
        (["--to-port", "53", "--to-port", "61001-65534"], lambda row: row["responder_port"] in (53, 61002)),
        (["--ip", "203.0.113.7"], lambda row: row["responder_ip"] == "203.0.113.7"),
        (["--ip", "2001:db8::/32"], lambda row: ":" in row["responder_ip"]),
        (
            ["--ip", "10.0.4.10/31"],
            lambda row: row["originator_ip"] in ("10.0.4.10", "10.0.4.11") or row["responder_ip"] == "10.0.4.11",
        ),
        (["--application", "dns", "--application", "ssh"], lambda row: row["application"] in ("dns", "ssh")),
        (["--disposition", "undeclared"], lambda row: row["disposition"] == "undeclared"),
        (["--from-role", "diego_database"], lambda row: "diego_database" in row["originator_roles"]),
        (["--to-role", "nats", "--to-role", "uaa"], lambda row: bool({"nats", "uaa"} & set(row["responder_roles"]))),
        # An alias of cf-deployment stands for the role behind it.
        (["--from-role", "diego-api"], lambda row: "diego_database" in row["originator_roles"]),
        (
            ["--to-port", "8889", "--application", "http"],
            lambda row: row["responder_port"] == 8889 and row["application"] == "http",
        ),
        (["--not", "--application", "tls"], lambda row: row["application"] != "tls"),
        (["--application", "quic"], lambda row: False),
    ],
)
def test_filters(options, wanted, given, capsys):
    given(make.audit())
    assert [row["id"] for row in shown(capsys, *options)] == [row["id"] for row in ROWS if wanted(row)]


def test_fields_in_the_order_asked_for(given, capsys):
    given(make.audit())
    all_of_them = ("--not", "--ip", "255.255.255.255")
    fields = "responder_port,start,originator.ip"
    main(["connections", "x.pcap", "--format", "csv", "--quiet", "--fields", fields, *all_of_them])
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert rows[0] == ["responder_port", "start", "originator_ip"]
    assert rows[1] == ["8889", "2025-11-22T08:26:40.123456Z", "10.0.4.10"]
    assert rows[30][1].endswith("789Z"), "the digits of its capture"


def test_fields_nest_in_ndjson(given, capsys):
    given(make.audit())
    assert shown(capsys, "--fields", "originator_ip,responder_port,tls")[24] == {
        "kind": "connection", "originator": {"ip": "10.0.4.10"}, "responder": {"port": 4222}, "tls": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "judged"),
    [
        ([], False),
        (["--fields", "id,tls,responder_port"], False),
        (["--application", "tls"], False),
        (["--fields", "id,disposition"], True),
        (["--from-role", "diego_cell"], True),
        (["--policy", "tas-diego"], True),
        (["--release", "2.10"], True),
    ],
)
def test_only_what_asks_for_a_judgement_is_judged(options, judged, given, capsys):
    calls = given(make.audit())
    shown(capsys, *options)
    assert ("scope" in calls[0]["options"]) is judged


def test_for_people(given, capsys):
    given(make.audit())
    assert main(["connections", "x.pcap", "--quiet"]) == 3
    day, head, first, *others = capsys.readouterr().out.splitlines()
    assert day == "2025-11-22 (UTC)"
    assert head.split()[:3] == ["TIME", "ORIGINATOR", "RESPONDER"]
    assert first.split()[1:3] == ["10.0.4.10:40000", "10.0.4.40:8889"]
    assert sum(line[:1].isdigit() for line in others) == 29
    assert max(map(len, (head, first, *others))) <= 80


def test_every_column_can_be_asked_for(given, capsys):
    given(make.audit())
    names = ",".join(column.name for column in reversed(CONNECTIONS))
    assert main(["connections", "x.pcap", "--allow-incomplete", "--fields", names, "--format", "csv", "--quiet"]) == 0
    assert capsys.readouterr().out.count("\n") == 31


def test_a_format_that_tells_findings_is_judged(capsys):
    status = main(
        ["connections", "sample:diego", "--format", "cef", "--progress", "never", "--quiet", "--to-port", "1801"]
    )
    assert status == 0
    assert "|missing-client-certificate|" in capsys.readouterr().out
    assert main(["audit", "sample:diego", "--format", "sarif", "--table", "findings"]) == 2
    assert "sarif has no tables" in capsys.readouterr().err
