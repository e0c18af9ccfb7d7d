"""What changed between two audits."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pytest

import auditor
from auditor.jobs.compare import CHANGES, compare, edges
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
