"""What changed between two audits."""

from __future__ import annotations

import re
from collections import Counter

import pyarrow as pa
import pytest

import auditor
from auditor.jobs.compare import CHANGES, _edges, compare, edges, made_of
from auditor.store.history import open_history


def test_two_audits_of_a_store(tmp_path):
    place = tmp_path / "s"
    healthy = auditor.audit("sample:healthy", store=place)
    diego = auditor.audit("sample:diego", store=place)
    waivers = tmp_path / "w.yml"
    waivers.write_text(
        "waivers:\n- {rule: plaintext, match: {from: diego_cell}, reason: r, owner: o, ticket: t, expires: 2999-01-01}\n"
    )
    auditor.audit("sample:diego", store=place, waivers=waivers)
    with open_history(place) as history:
        first, second, third = history.rows()
        forth, back, same = (
            compare(history, first, second),
            compare(history, second, first),
            compare(history, second, third),
        )
        says = made_of(history, first)
    assert re.fullmatch(r".*healthy\.pcap, captured 20\S+Z to 20\S+Z, audited 20\S+Z", says)
    kinds = Counter(each.change for each in forth)
    assert kinds["new"] == len(diego.findings)
    assert kinds["gone"] == 0
    assert Counter(each.change for each in back)["gone"] == len(diego.findings)
    assert set(kinds) <= set(CHANGES)
    seen = {each.name for each in forth if each.change == "seen"}
    paths = [set(report.coverage.query("connections > 0")["path"]) for report in (healthy, diego)]
    assert seen == paths[1] - paths[0]
    assert any(each.says.startswith("10.0.4.22 to diego_database on 8889/tcp, undeclared") for each in forth)
    assert [each.says for each in forth if each.what == "file"] == [
        "inventory captures/sample/diego.inventory.yml: added",
        "inventory captures/sample/healthy.inventory.yml: left out",
    ] or all("inventory" in each.says for each in forth if each.what == "file")
    changed = [each for each in same if each.change != "continuing"]
    assert [(each.change, each.what) for each in changed] == [("waived", "finding"), ("decided_by", "file")]
    assert sum(each.change == "continuing" for each in same) == len(diego.findings)


def test_what_lies_outside_of_the_later_window_is_not_gone(tmp_path):
    place = tmp_path / "s"
    auditor.audit("sample:intruder", store=place)
    auditor.audit("sample:intruder", store=place, since="2026-11-30T15:12:13Z")
    auditor.audit("sample:intruder", store=place, since="2026-12-30T00:00:00Z")
    with open_history(place) as history:
        whole, part, nothing = history.rows()
        later, never, back = (
            compare(history, whole, part),
            compare(history, whole, nothing),
            compare(history, part, whole),
        )
    kinds = Counter(each.change for each in later)
    assert kinds["outside"] > 0
    assert not {"gone", "disappeared", "silent"} & set(kinds)
    assert {each.change for each in never} == {"outside"}
    assert {each.what for each in never} == {"finding", "path", "edge"}
    assert "outside" not in {each.change for each in back}


@pytest.mark.parametrize("few", [100_000, 0])
def test_ends_are_roles_else_addresses_and_host_ports_are_one_service(monkeypatch, few):
    monkeypatch.setattr("auditor.jobs.compare.FEW_ROWS", few)
    rows = [
        ("diego_brain", "10.0.0.1", "diego_cell", "10.0.0.2", port, "tcp", "documented") for port in (61_001, 65_534)
    ]
    rows.append((None, "192.0.2.1", None, "10.0.0.9", None, "icmp", "out_of_scope"))
    names = [
        "originator_role",
        "originator_ip",
        "responder_role",
        "responder_ip",
        "responder_port",
        "transport",
        "disposition",
    ]
    table = pa.table({name: [row[k] for row in rows] for k, name in enumerate(names)})
    assert edges(table) == {
        ("diego_brain", "diego_cell", "61001-65534/tcp", "documented"): 2,
        ("192.0.2.1", "10.0.0.9", "icmp", "out of scope"): 1,
    }
    assert edges(None) == {}


class Kept:
    """A history of two audits, of which only the connections are asked."""

    def __init__(self, *tables: pa.Table) -> None:
        self.tables = tables

    def table(self, name: str, audit: int, columns: list[str]) -> pa.Table:
        return self.tables[audit].select(columns)


class Which:
    def __init__(self, audit: int) -> None:
        self.audit = audit


def test_a_sweep_is_one_line():
    """Twenty-nine ports of one address are no twenty-nine changes; what it does documented, and what others do, stands by itself."""

    def row(ip: str, port: int, disposition: str = "undeclared") -> dict[str, object]:
        ends = {
            "originator_role": None,
            "originator_ip": ip,
            "responder_role": "diego_database",
            "responder_ip": "10.0.8.40",
        }
        return {**ends, "responder_port": port, "transport": "tcp", "disposition": disposition}

    before = pa.Table.from_pylist([row("10.0.8.20", 8889, "documented")])
    swept = [row("10.0.8.99", port) for port in range(100, 129)]
    after = pa.Table.from_pylist([*swept, row("10.0.8.98", 22), row("10.0.8.99", 8889, "documented")])
    changes = [each.says for each in _edges(Kept(before, after), Which(0), Which(1)) if each.change == "appeared"]
    assert changes == [
        "10.0.8.98 to diego_database on 22/tcp, undeclared, 1 connection",
        "10.0.8.99 to diego_database on 29 services over tcp, undeclared, 29 connections",
        "10.0.8.99 to diego_database on 8889/tcp, documented, 1 connection",
    ]
