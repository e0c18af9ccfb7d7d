"""Connections for people: a line each, never wider than there is room, and nothing cut without a mark."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from auditor import api
from auditor.model.audit import Audit
from auditor.model.columns import TABLES
from auditor.report import _lines as lines
from tests import golden
from tests.conftest import ROOT
from tests.report import make

SAMPLE = ROOT / "captures" / "sample"


@pytest.fixture(scope="module")
def bare() -> Audit:
    """The connections of the sample, which nobody judged; IPv6 among them."""
    return api.connections(str(SAMPLE / "diego.pcapng")).audit


def with_ends(audit: Audit, originator: str, responder: str) -> Audit:
    """All connections lie between these two."""
    return replace(
        audit,
        connections=audit.connections.assign(originator_ip=originator, responder_ip=responder, responder_port=443),
    )


@pytest.mark.parametrize("width", [50, 60, 80, 100, 140])
@pytest.mark.parametrize("table", list(TABLES))
def test_a_table_is_no_wider_than_there_is_room(width, table, bare, real, written):
    for audit in (real, bare, make.audit()):
        if table == "coverage" and width < 80:
            continue  # its columns are those of the vendor's page
        if not len(getattr(audit, table)):
            continue
        told = written("table", audit, table=table, width=width).decode().splitlines()
        assert max(map(len, told)) <= width
        if table == "connections":
            assert len(told) >= min(len(audit.connections), 1_000) + 1


@pytest.mark.parametrize("width", [80, 100, 140])
def test_what_is_told_of_the_sample(width, bare, real, written):
    golden.check(f"report/connections-{width}.txt", written("table", bare, table="connections", width=width))
    golden.check(f"report/judged-{width}.txt", written("table", real, table="connections", width=width))


def test_addresses_that_do_not_fit_are_shortened_with_a_mark_and_keep_their_port(bare, written):
    first, second = "2001:db8:85a3:1234:5678:8a2e:370:7334", "2001:db8:85a3:1234:5678:8a2e:370:9999"
    audit = with_ends(bare, first, second)
    told = written("table", audit, table="connections", width=80).decode().splitlines()
    row = told[2].split()
    assert row[2].startswith("[2001:db8:") and row[2].endswith(f":{audit.connections['originator_port'].iloc[0]}")
    assert row[3].endswith("9999]:443")
    assert row[2].count("…") == row[3].count("…") == 1
    assert "… marks shortened values (--format csv and --fields show all)" in " ".join(told[-2:])
    wide = written("table", audit, table="connections", width=200).decode()
    assert f"[{first}]:" in wide
    assert f"[{second}]:443" in wide
    assert "…" not in wide


def test_columns_left_out_are_named(bare, written):
    told = written(
        "table", with_ends(bare, "192.168.100.200", "192.168.200.100"), table="connections", width=80
    ).decode()
    head = told.splitlines()[1].split()
    said = re.search(r"To fit 80 columns: without ([A-Z, ]+) \(", " ".join(told.split()))
    assert said
    assert not set(said[1].split(", ")) & set(head)
    assert {*said[1].split(", "), *head} == {
        "TIME", "LASTED", "PROTO", "ORIGINATOR", "RESPONDER", "APP", "STATE", "SENT", "RCVD",
    }  # fmt: skip
    assert "To fit" not in written("table", bare, table="connections", width=140).decode()


def test_a_new_day_is_a_line(bare, written):
    frame = bare.connections.head(3).copy()
    frame.loc[frame.index[2], "start"] += 86_400 * 10**9
    told = written("table", replace(bare, connections=frame), table="connections", width=80).decode().splitlines()
    assert [told[0], told[4]] == ["2026-11-16 (UTC)", "2026-11-17 (UTC)"]
    assert told[1].startswith("TIME ")
    none = written("table", replace(bare, connections=frame.head(0)), table="connections", width=80).decode()
    assert none.split()[:2] == ["START", "DURATION"]


def test_columns_that_somebody_chose_are_as_wide_as_they_are(bare, written):
    chosen = replace(bare, connections=bare.connections[["id", "community_id", "start", "originator_ip", "history"]])
    told = written("table", chosen, table="connections", width=40).decode().splitlines()
    assert told[0].split() == ["ID", "COMMUNITY_ID", "START", "ORIGINATOR_IP", "HISTORY"]
    assert len(told) == len(bare.connections) + 1
    assert bare.connections["community_id"].iloc[0] in told[1]


@pytest.mark.parametrize(
    ("number", "told"),
    [
        ("0", "0"), ("999", "999"), ("1023", "1023"), ("1024", "1.0K"), ("10188", "9.9K"), ("10189", "10K"),
        ("1022975", "999K"), ("1023500", "1.0M"), ("5368709120", "5.0G"), ("-", "-"), ("9" * 18, "888P"),
    ],
)  # fmt: skip
def test_bytes_in_few_characters(number, told):
    assert lines._short(number) == told
    assert len(told) <= 5


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        ("0.000000", "0.000s"), ("0.0504", "0.050s"), ("9.9996", "10.0s"), ("59.94", "59.9s"), ("59.96", "1m00s"),
        ("303", "5m03s"), ("7500", "2h05m"), ("273600", "3d04h"), ("8640000", "100d00h"), ("-", "-"),
    ],
)  # fmt: skip
def test_seconds_in_few_characters(seconds, told):
    assert lines._lasted(seconds) == told
