"""The connections inside the page are those of the audit, in few bytes and always the same ones."""

from __future__ import annotations

import base64
import gzip
import json
from collections import Counter
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from auditor.report import _embedded as embedded
from auditor.report._json import encode
from tests.report import make
from tests.report.pages import unpacked


@given(st.binary(max_size=2000))
def test_packed_is_gzip_in_base64_and_the_same_each_time(data):
    text = embedded.pack(data)
    assert gzip.decompress(base64.b64decode(text)) == data
    assert text == embedded.pack(data)
    assert not set("<>&\"'") & set(text)


def test_columns_say_what_the_table_says(audit):
    table = audit.connections
    told = embedded.columns(table)
    head = json.loads(encode(embedded.head(told, table, {})))
    assert head["rows"] == len(table)
    starts = int(head["epoch"]) + np.cumsum(told["start"])
    assert starts[-1] == int(head["epoch"]) + head["last"]
    assert starts.tolist() == (table["start"].to_numpy(np.int64) // 1000).tolist()
    for name in ("originator_ip", "responder_role", "authentication_verdict", "application"):
        words = [*told[name].words, None]
        values = [value if isinstance(value, str) else None for value in table[name].astype(object)]
        assert [words[code] for code in told[name].codes] == values
    paths = told["paths"]
    assert [paths.words[code] for code in paths.codes] == [list(each) for each in table["paths"]]
    assert told["originator_port"][18] == -1
    names = told["name"]
    assert names.words[names.codes[0]] == "bbs.service.cf.internal"
    assert names.codes[18] == -1


def test_the_head_has_the_first_rows_and_the_choices_of_the_filters(audit, monkeypatch):
    monkeypatch.setattr(embedded, "FIRST", 7)
    table = audit.connections
    rules = {"F-1": ["plaintext", "critical", "x"]}
    head = json.loads(encode(embedded.head(embedded.columns(table), table, rules)))
    for name in ("originator_ip", "authentication_verdict"):
        first = head["first"][name]
        words = [*first["words"], None]
        expected = [value if isinstance(value, str) else None for value in table[name].astype(object)[:7]]
        assert [words[code] for code in first["codes"]] == expected
    assert len(head["first"]["start"]) == 7
    assert "id" not in head["first"]
    assert "id" in head["names"]
    counted = table["authentication_verdict"].astype(object).value_counts().to_dict()
    assert dict(head["choices"]["verdict"]) == counted
    assert head["choices"]["nobody"][0] == table["originator_role"].isna().sum()
    findings = Counter(each for row in table["findings"] for each in row)
    assert dict(head["choices"]["finding"]) == findings
    assert head["choices"]["rule"] == ([["plaintext", findings["F-1"]]] if findings["F-1"] else [])


@given(st.lists(st.integers(-(2**53), 2**53), max_size=40) | st.lists(st.integers(-1, 70_000), max_size=40))
def test_numbers_are_packed_in_the_narrowest_type_that_holds_them(values):
    [(_, made)] = embedded.packed({"x": np.array(values, np.int64)})
    kind = np.dtype(made["type"])
    assert np.frombuffer(gzip.decompress(base64.b64decode(made["data"])), kind.newbyteorder("<")).tolist() == values
    if values and kind.itemsize > 1:
        narrower = {2: np.int8, 4: np.int16, 8: np.int32}[kind.itemsize]
        assert min(values) < np.iinfo(narrower).min or max(values) > np.iinfo(narrower).max


def test_details_come_in_pieces_in_order(audit, monkeypatch):
    monkeypatch.setattr(embedded, "CHUNK", 7)
    every = np.arange(len(audit.connections))
    pieces = [unpacked(piece) for piece in embedded.details(audit, every)]
    assert [len(piece) for piece in pieces] == [7, 7, 7, 7, 2]
    assert [record["id"] for piece in pieces for record in piece] == audit.connections["id"].tolist()
    some = [unpacked(piece) for piece in embedded.details(audit, every[[3, 9, 20]])]
    assert [record["id"] for record in some[0]] == audit.connections["id"].iloc[[3, 9, 20]].tolist()


def test_an_audit_of_nothing_is_packed_too(audit):
    empty = replace(audit, connections=audit.connections.iloc[:0])
    data = embedded.columns(empty.connections)
    assert embedded.head(data, empty.connections, {})["rows"] == 0
    assert {name for name, _ in embedded.packed(data)} == set(data)
    assert list(embedded.details(empty, np.arange(0))) == []


def test_those_that_matter_are_kept(monkeypatch):
    monkeypatch.setattr(embedded, "MOST", 17)
    table = make.audit().connections
    kept = table.iloc[embedded.shown_rows(table)]
    assert len(kept) == 17
    assert (kept["findings"].map(len) > 0).sum() == (table["findings"].map(len) > 0).sum()
