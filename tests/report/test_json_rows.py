"""Rows that compiled code writes, against records that are encoded one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import auditor
from auditor.model.audit import Audit
from auditor.model.facts import pack_marks, unpack_marks
from auditor.report import _json_rows
from auditor.report._json import encode_lines
from auditor.report._records import records

SAMPLES = Path(__file__).parents[2] / "captures" / "sample"


def both(audit: Audit, table: str, kind: str | None) -> tuple[bytes, bytes]:
    """What the two ways write."""
    one = b"".join(encode_lines(chunk) for chunk in records(audit, table, kind, encoded=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_json_rows, "WORTH_ROWS", 0)
        patch.setattr(_json_rows, "CHUNK_ROWS", 50)
        return one, b"".join(_json_rows.lines(audit, table, kind))


@pytest.mark.parametrize(
    "path",
    sorted(each for each in SAMPLES.iterdir() if each.suffix in (".pcap", ".pcapng", ".zst")),
    ids=lambda path: path.name,
)
def test_real_audits(path: Path) -> None:
    audit = auditor.audit(str(path)).audit
    for table, kind in (("connections", None), ("connections", "connection"), ("findings", None), ("coverage", "x")):
        if len(getattr(audit, table)):
            one, other = both(audit, table, kind)
            assert other == one


def with_columns(**columns: Any) -> Audit:
    """An audit whose connections have these columns."""
    plain = auditor.audit(str(SAMPLES / "diego.pcapng")).audit
    frame = pd.DataFrame(columns)
    return Audit(plain.info, plain.summary, plain.captures, frame, plain.findings, plain.coverage)


TEXTS = st.one_of(st.none(), st.text(st.characters(), max_size=8))


@given(
    st.lists(
        st.tuples(
            TEXTS,
            st.one_of(st.none(), st.integers(-5, 70_000)),
            st.floats(),
            st.integers(0, 2**62),
            st.one_of(st.none(), st.dictionaries(st.text(max_size=3), st.integers(), max_size=2)),
        ),
        min_size=1,
        max_size=9,
    )
)
def test_whatever_a_column_holds(rows: list[Any]) -> None:
    texts, ports, spans, starts, objects = (list(each) for each in zip(*rows, strict=True))
    tunnels = np.empty(len(rows), object)
    tunnels[:] = objects
    audit = with_columns(
        id=pd.Series(texts, dtype=object),
        transport=pd.Categorical(texts),
        originator_port=pd.array(ports, "Int64"),
        duration=np.array(spans),
        start=np.array(starts, np.int64),
        tunnel=tunnels,
    )
    one, other = both(audit, "connections", None)
    assert other == one


@given(st.lists(st.lists(st.tuples(st.integers(0, 2**41), st.integers(0, 2**41)), min_size=3, max_size=3), min_size=1))
def test_marks_come_out_as_they_went_in(rows: list[list[tuple[int, int]]]) -> None:
    marks = np.array(rows, np.int64)
    packed = pack_marks(marks)
    kept = [k for k, each in enumerate(packed) if each is not None]
    if kept:
        found = unpack_marks([each for each in packed if each is not None])
        assert (found == marks[kept]).all()
