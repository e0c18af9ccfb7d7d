"""Rows of any columns in any format."""

from __future__ import annotations

import csv
import io
import json

import pyarrow as pa
import pytest
from pyarrow import parquet

from auditor.errors import ConfigError
from auditor.report._plain import write_table
from tests.report.make import HOSTILE

TABLE = pa.table(
    {
        "n": pa.array([1, None], pa.int64()),
        "at": pa.array([1_795_300_000_000_000_001, None], pa.timestamp("ns", "UTC")),
        "name": ["=1+1", None],
        "list": [["a", "b"], []],
        "share": [0.5, None],
        "yes": [True, None],
    }
)


def written(name, table=TABLE):
    out = io.BytesIO()
    write_table(table, name, out)
    return out.getvalue().decode()


def test_each_format_says_the_same():
    first = {
        "n": 1,
        "at": "2026-11-21T22:26:40.000000001Z",
        "name": "=1+1",
        "list": ["a", "b"],
        "share": 0.5,
        "yes": True,
    }
    second = {"n": None, "at": None, "name": None, "list": [], "share": None, "yes": None}
    assert json.loads(written("json")) == [first, second]
    lines = [json.loads(line) for line in written("ndjson").splitlines()]
    assert lines == [{"kind": "row", **first}, {"kind": "row", **second}]
    rows = list(csv.DictReader(io.StringIO(written("csv"))))
    assert rows[0] == {"n": "1", "at": first["at"], "name": "'=1+1", "list": '["a","b"]', "share": "0.5", "yes": "true"}
    assert written("table").splitlines()[1].split() == ["1", first["at"], "=1+1", "a,b", "0.5", "yes"]
    assert written("markdown").splitlines()[1] == "| --- | --- | --- | --- | --- | --- |"
    assert json.loads(written("json", TABLE.slice(0, 0))) == []


@pytest.mark.parametrize("name", ["table", "markdown", "csv", "json", "ndjson"])
def test_texts_from_strangers_do_no_harm(name):
    texts = [text for text in HOSTILE if text.isprintable() or "\udce9" not in text]
    table = pa.table({"name": texts})
    out = written(name, table)
    assert not any(ord(c) < 0x20 and c not in "\n\r" for c in out)
    assert not any(c in out for c in "\x7f\x9b\u202e\u200b\ufeff\u2066\U000e0041")
    if name == "markdown":
        assert "<script>" not in out


def test_parquet_is_a_folder(tmp_path):
    write_table(TABLE, "parquet", tmp_path, "change")
    assert parquet.read_table(tmp_path / "changes.parquet").equals(TABLE)
    with pytest.raises(ConfigError):
        write_table(TABLE, "csv", tmp_path)


def test_a_table_fits_the_terminal_and_says_what_is_left_out():
    table = pa.table(
        {
            "audit": [1, 2],
            "id": ["ab" * 8] * 2,
            "last": pa.array([1_763_800_000_123_456_000] * 2, pa.timestamp("ns", "UTC")),
            "captures": [3, 4],
            "findings": [5, 6],
        }
    )
    out = io.BytesIO()
    write_table(table, "table", out, width=48, spare=("captures", "id"))
    lines = out.getvalue().decode().splitlines()
    assert max(map(len, lines[:3])) <= 48
    assert lines[0].split() == ["AUDIT", "LAST", "FINDINGS"]
    assert "2025-11-22 08:26" in lines[1]
    assert lines[3].startswith("To fit 48 columns: without CAPTURES, ID")
    whole = io.BytesIO()
    write_table(table, "table", whole)
    assert "2025-11-22T08:26:40.123456" in whole.getvalue().decode()
