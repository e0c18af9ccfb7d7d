"""Columns of any dtype become the same arrays and values."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from auditor.model.columns import TABLES
from auditor.report import _columns as columns
from tests.report import make

NS = 1_700_000_000_123_456_789


def series(*values, dtype=object):
    return pd.Series(list(values), dtype=dtype)


def test_every_list_column_says_what_it_holds():
    lists = {column.name for table in TABLES.values() for column in table if column.kind == "list"}
    assert lists == set(columns.ELEMENTS)


@pytest.mark.parametrize("dtype", ["object", "str", "category"])
def test_text_of_any_dtype(dtype):
    array = columns.text_array(series("a", None, "é", "a").astype(dtype))
    assert array.to_pylist() == ["a", None, "é", "a"]
    assert array.type == pa.string()


def test_text_with_a_lone_surrogate_is_shown_as_its_byte():
    assert columns.text_array(series("a\udcff", None)).to_pylist() == ["a\\xff", None]


@pytest.mark.parametrize("given", [series(1, None, 3), series(1, pd.NA, 3), pd.Series([1, None, 3], dtype="Int64")])
def test_ints_with_nulls(given):
    assert columns.int_array(given).to_pylist() == [1, None, 3]


def test_times_have_the_digits_of_their_capture():
    ns = np.array([NS, NS, 0], np.int64)
    missing = np.array([False, False, True])
    both = columns.rfc3339(ns, missing, np.array([6, 9, 9], np.uint8))
    assert both.to_pylist() == ["2023-11-14T22:13:20.123456Z", "2023-11-14T22:13:20.123456789Z", None]
    assert columns.rfc3339(ns[:1], missing[:1], 6).to_pylist() == ["2023-11-14T22:13:20.123456Z"]


def test_times_before_1970_and_as_timestamps():
    before = columns.rfc3339(np.array([-1_000], np.int64), np.array([False]), 6)
    assert before.to_pylist() == ["1969-12-31T23:59:59.999999Z"]
    stamps = pd.to_datetime(pd.Series([NS, None], dtype="Int64"), unit="ns", utc=True)
    values, missing = columns.int_parts(stamps)
    assert values.tolist() == [NS, 0]
    assert missing.tolist() == [False, True]


def test_json_cells_are_cut_apart_rightly():
    shared = ("a", "b\nc")
    values = [shared, None, (), {"k": "é|\x9b"}, "word", shared, pd.NA, {"n": [1, None, 2.5, True]}]
    cells = columns.json_array(series(*values)).to_pylist()
    assert [None if cell is None or cell == "word" else json.loads(cell) for cell in cells] == [
        ["a", "b\nc"], None, [], {"k": "é|\x9b"}, None, ["a", "b\nc"], None, {"n": [1, None, 2.5, True]},
    ]  # fmt: skip
    assert cells[4] == "word"


def test_json_cells_of_many_different_objects():
    values = [(number, f"é{number}") for number in range(1000)]
    assert [tuple(json.loads(cell)) for cell in columns.json_array(series(*values)).to_pylist()] == values


def test_what_json_does_not_know_is_made_plain():
    assert json.loads(columns.encode({"a": np.int64(3), "b": np.array([1, 2]), "c": pd.NA})) == {
        "a": 3, "b": [1, 2], "c": None,
    }  # fmt: skip
    assert columns.encode("\ud800\x7f") == b'"\\\\ud800\\u007f"'


def test_lists_for_parquet_keep_their_shape():
    evidence = ({"kind": "k", "value": {"any": 1}, "certainty": "proven", "frames": [[0, 7], (1, 8)]},)
    array = columns.list_array(series(evidence, None, ()), columns.ELEMENTS["evidence"])
    assert array.to_pylist() == [
        [{"kind": "k", "value": '{"any":1}', "certainty": "proven", "frames": [[0, 7], [1, 8]]}], None, [],
    ]  # fmt: skip


def test_chosen_columns_keep_the_order_they_were_chosen_in():
    frame = make.audit().connections
    assert columns.chosen(frame, "connections") == TABLES["connections"]
    assert [column.name for column in columns.chosen(frame[["responder_ip", "capture", "id"]], "connections")] == [
        "responder_ip",
        "id",
    ]
