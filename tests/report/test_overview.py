"""What the page says of an audit is what its tables hold."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from auditor.report import _overview as overview
from auditor.report._places import OUTSIDE
from tests.report import make


def test_each_documented_row_with_what_was_seen_on_it(audit):
    rows = {row.path: row for row in overview.path_rows(audit)}
    assert list(rows) == audit.coverage["path"].tolist()
    row = rows["diego-12"]
    assert row.connections == int(audit.coverage.set_index("path").loc["diego-12", "connections"])
    assert next(iter(row.verdicts)) == "violated"
    assert row.components == ["rep → bbs"]
    assert row.ends == "4 → 1"
    assert row.findings == {"critical": 1, "high": 2, "info": 2}
    assert rows["diego-24"].findings == {}  # its only finding is waived
    assert rows["diego-24"].components == ["rep → ?"]
    assert (rows["diego-01"].connections, rows["diego-01"].components) == (0, [])


def test_edges_count_every_connection_once(audit):
    edges = overview.edges(audit)
    assert sum(edge.count for edge in edges) == len(audit.connections)
    kinds = {}
    for edge in edges:
        kinds[edge.kind] = kinds.get(edge.kind, 0) + edge.count
    assert kinds == {"documented": 15, "violated": 2, "undeclared": 10, "ambient": 2, "out_of_scope": 1}
    assert overview.Edge("diego_cell", OUTSIDE, "ambient", 1) in edges
    assert overview.Edge("diego_cell", "10.0.0.9", "undeclared", 5) in edges


def test_findings_come_worst_first_and_whole(audit):
    groups = overview.groups(audit)
    assert [group.severity for group in groups][:2] == ["critical", "critical"]
    heads = [each for group in groups for each in group.told]
    assert sum(group.total for group in groups) == len(heads)
    told = {each.id: each for head in heads for each in (head, *head.consequences)}
    assert set(told) == set(audit.findings["id"])
    near = told["f03"]
    assert near.near == ("diego-03 (differs in port): diego-03 documents 1801, not 1800",)
    assert [line.service for line in near.connections] == ["1800/tcp"] * 3
    assert near.missing == ()
    assert told["f02"].factors == ("mutual_tls violated: no client certificate",)
    assert told["f02"].evidence[0].frames == (("cell-0.pcap", "61"),)
    assert told["f09"].missing == ("1 of 1 with packets missing", "1 of 1 begun before the capture")
    assert told["f07"].waived["ticket"] == "OPS-1"


def test_many_findings_of_a_rule_are_told_in_part_and_counted_whole(audit, monkeypatch):
    monkeypatch.setattr(overview, "SHOWN_FINDINGS", 0)
    told = {group.rule: (group.total, len(group.told)) for group in overview.groups(audit)}
    assert told["capture-incomplete"] == (1, 0)
    assert told["certificate-identity"] == (2, 2), "nothing high stands behind 'and more'"


def test_an_audit_from_a_store_that_has_public_columns_alone(audit):
    inner = [
        "outcome",
        "breach",
        "would_be",
        "says",
        "sibling",
        "capture",
        "first_frame",
        "payload_bytes",
        "incomplete",
        "facts",
    ]
    public = replace(audit, connections=audit.connections.drop(columns=inner))
    assert len(overview.groups(public)) == len(overview.groups(audit))
    assert sum(edge.count for edge in overview.edges(public)) == len(audit.connections)
    assert overview.drawn_timeline(public) is not None


@pytest.mark.parametrize(
    ("value", "text"),
    [(True, "yes"), (None, "undecided"), ("a", "a"), ([1, 2], "1, 2"), ({"a": [1]}, '{"a":[1]}'), ([["a"]], '[["a"]]')],
)
def test_values_of_evidence(value, text):
    assert overview.value_text(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (59.94, "59.9 s"), (117, "1 min 57 s"), (3600, "1 h 0 min"), (200_000, "2 d 7 h")],
)
def test_lengths_of_time(seconds, text):
    assert overview.span_words(0, int(seconds * 10**9)) == text


def test_doubts_of_a_whole_audit_are_few():
    answer = overview.answer(make.audit(clean=True, complete=True))
    assert answer.tone == "good"
    assert not any("damaged" in line or "undecided" in line for line in answer.doubts)
    assert any("does not say whether packets were dropped" in line for line in answer.doubts)
    assert any("documented paths were not seen" in line for line in answer.doubts)


def test_missing_lists_do_no_harm(audit):
    table = audit.connections.copy()
    table["near_miss"] = pd.Series([None] * len(table), dtype=object)
    assert overview.groups(replace(audit, connections=table))[0].told[0].near == ()
