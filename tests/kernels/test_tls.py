"""The walk over TLS of many connections: compiled, interpreted, and by its naive twin, the inspector."""

from __future__ import annotations

import ssl

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.errors import WireError
from auditor.inspectors import _tls_facts
from auditor.inspectors._examine import Examiner
from auditor.inspectors.tls import inspect
from auditor.kernels import tls as kernel
from auditor.model.evidence import Attachment
from auditor.model.streams import Streams
from auditor.wire import tls as wire
from auditor.wire.reader import printable
from tests.inspectors import test_tls
from tests.inspectors.handshakes import Recorded, contexts, shake
from tests.inspectors.heads import Batch, Segments, head_of

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


def talk(version: ssl.TLSVersion, **how: bool) -> Recorded:
    return shake(*contexts(version, **how))


def both(told: Recorded) -> tuple[Segments, Segments]:
    return told.client, told.server


HANDSHAKES = [
    talk(V12, require=True),
    talk(V12, ask=True, show=False),
    talk(V13, require=True),
    talk(V13),
    shake(*contexts(V12, alpn=("h2",))),
    Recorded([(1, test_tls.SSL2_HELLO), (3, bytes(9))], [(2, test_tls.ssl2_answer(b"der") + bytes(7))]),
]


@st.composite
def damaged(draw: st.DrawFn) -> Streams:
    """A real handshake with bytes changed, cut out, put in or lost, and its segments."""
    told = draw(st.sampled_from(HANDSHAKES))
    heads = []
    for side in both(told):
        parts = [(frame, bytearray(data)) for frame, data in side]
        for _ in range(draw(st.integers(0, 3))):
            _, part = draw(st.sampled_from(parts))
            at = draw(st.integers(0, max(min(len(part) - 1, draw(st.sampled_from([20, 120, 10_000]))), 0)))
            act = draw(st.sampled_from(["set", "cut", "insert", "end"]))
            if act == "set" and part:
                part[at] = draw(st.sampled_from([0, 1, 2, 11, 20, 21, 22, 23, 255]) | st.integers(0, 255))
            elif act == "cut":
                del part[at : at + draw(st.integers(1, 40))]
            elif act == "insert":
                part[at:at] = draw(st.binary(max_size=12))
            else:
                del part[at:]
        kept = parts[draw(st.sampled_from([0, 0, 0, 1])) :]
        heads.append(
            head_of(
                [(frame, bytes(part)) for frame, part in kept],
                gap=draw(st.booleans()),
                ended=draw(st.booleans()),
                midstream=draw(st.sampled_from([False, False, True])),
            )
        )
    return Streams(*heads)


def by_kernel(both_heads: Streams, examiner: Examiner, *, compiled: bool) -> tuple[dict[str, object] | None, object]:
    batch = Batch()
    batch.add(both_heads.orig, both_heads.resp)
    arena, heads, pairs, *_ = batch.arrays()
    rows = np.zeros(1, kernel.TLS_ROW)
    starts = np.zeros((1, 2), np.int32)
    walk = kernel.walk_tls if compiled else kernel.walk_tls.py_func  # type: ignore[attr-defined]
    with np.errstate(over="ignore"):
        walk(arena, heads, pairs, starts, False, rows)
    filled = np.where(pairs >= 0, heads["filled_bytes"][pairs], 0)
    within = np.stack([starts, filled.astype(np.int32)], axis=2)
    found = _tls_facts.TlsFacts(examiner.certificates).of_rows(rows, arena, pairs, within)[0]
    return (None, None) if found is None else (dict(found[0]), found[0])


@given(damaged())
def test_kernel_and_inspector_say_the_same(case: Streams) -> None:
    examiner = Examiner()
    told, facts = by_kernel(case, examiner, compiled=True)
    expected: dict[str, object] = {}
    frames: dict[str, tuple[int, ...]] = {}
    for each in inspect(case):
        if isinstance(each, Attachment):
            continue
        expected[each.kind] = each.value
        frames[each.kind] = each.frames
    if told is not None:
        assert told == expected
        for kind, numbers in frames.items():
            assert set(facts.frames(kind)) <= set(numbers)  # type: ignore[attr-defined]
            assert bool(facts.frames(kind)) == bool(numbers)  # type: ignore[attr-defined]


@pytest.mark.night
@given(damaged())
def test_compiled_and_interpreted_kernel_agree(case: Streams) -> None:
    examiner = Examiner()
    assert by_kernel(case, examiner, compiled=True)[0] == by_kernel(case, examiner, compiled=False)[0]


def test_connections_of_a_batch_do_not_mix() -> None:
    examiner = Examiner()
    told = [talk(V12, require=True), talk(V13), talk(V12)]
    batch, alone = Batch(), []
    for each in told:
        batch.add(head_of(each.client), head_of(each.server))
        one = Batch()
        one.add(head_of(each.client), head_of(each.server))
        alone += one.examine(examiner).facts
    together = batch.examine(examiner).facts
    assert [dict(facts or {}) for facts in together] == [dict(facts or {}) for facts in alone]
    assert together[0] is not None and together[1] is not None
    assert together[0]["tls.version"] != together[1]["tls.version"]


def test_rows_are_cleared_before_use() -> None:
    told = talk(V12)
    batch = Batch()
    batch.add(head_of(told.client[:1]), head_of(b""))
    arena, heads, pairs, *_ = batch.arrays()
    starts = np.zeros((1, 2), np.int32)
    clean, dirty = np.zeros(1, kernel.TLS_ROW), np.frombuffer(b"\xaa" * kernel.TLS_ROW.itemsize, kernel.TLS_ROW).copy()
    for rows in (clean, dirty):
        kernel.walk_tls(arena, heads, pairs, starts, False, rows)
    for name in ("flags", "version", "cipher", "alert", "spans", "marks", "n_records", "n_order", "stop"):
        assert np.array_equal(clean[name], dirty[name])


def test_tls_that_starts_behind_another_protocol() -> None:
    told = talk(V12, require=True)
    examiner = Examiner()
    prefix = b"INFO {}\r\n"
    batch = Batch()
    batch.add(head_of(told.client), head_of([(1, prefix), *told.server]))
    arena, heads, pairs, *_ = batch.arrays()
    rows = np.zeros(1, kernel.TLS_ROW)
    kernel.walk_tls(arena, heads, pairs, np.array([[0, len(prefix)]], np.int32), False, rows)
    found = _tls_facts.TlsFacts(examiner.certificates).of_rows(rows, arena, pairs)[0]
    assert found is not None
    assert found[0]["tls.client_certificate"] == "sent"
    assert found[0].frames("tls.version") == (told.server[0][0],)


def https_by_facts(row: np.void, client: bytes, server: bytes) -> bool:
    """The naive twin: facts of the names, and what follows from these."""

    def cut(data: bytes, place: int) -> bytes:
        at, size = row["spans"][place].tolist()
        return data[at : at + size]

    told: dict[str, object] = {"tls.version": wire.version_name(int(row["version"]))}
    if row["flags"] & kernel.ALPN_SELECTED:
        told["tls.alpn"] = printable(cut(server, kernel.SPAN_SERVER_ALPN), 64)
    if row["flags"] & kernel.ALPN_OFFERED:
        try:
            told["tls.alpn_offered"] = _tls_facts.split_alpn(cut(client, kernel.SPAN_CLIENT_ALPN))
        except WireError:
            told["tls.alpn_offered"] = None
    return _tls_facts.is_https(told)


NAMES = st.sampled_from(
    [b"h2", b"http/1.1", b"http/1.0", b"http/0.9", b"http/1.2", b"h3", b"H2", b"nats", b"", b"h2\0"]
)


@given(
    st.lists(NAMES, max_size=18),
    NAMES | st.binary(max_size=70),
    st.sampled_from([0, kernel.ALPN_OFFERED, kernel.ALPN_SELECTED, kernel.ALPN_OFFERED | kernel.ALPN_SELECTED]),
    st.sampled_from([0, 0x0303, 0x0304, 0x7F1C, 0x0305, 0xFF04]),
    st.integers(-9, 9),
    st.binary(max_size=12),
)
def test_https_by_the_names(
    offered: list[bytes], selected: bytes, flags: int, version: int, less: int, noise: bytes
) -> None:
    names = b"".join(bytes([len(name)]) + name for name in offered) + (noise if less % 3 == 0 else b"")
    names = names[: max(len(names) - max(less, 0), 0)]
    client, server = b"\1\2" + names + b"\2h2", b"\3" + selected + b"/"
    batch = Batch()
    batch.add(head_of(client), head_of(server))
    arena, _, pairs, *_ = batch.arrays()
    rows = np.zeros(1, kernel.TLS_ROW)
    rows["flags"], rows["version"] = flags, version
    rows["spans"][0, kernel.SPAN_CLIENT_ALPN] = 2, len(names)
    rows["spans"][0, kernel.SPAN_SERVER_ALPN] = 1, len(selected)
    for compiled in (True, False):
        told = np.ones(1, np.bool_)
        (kernel.is_https if compiled else kernel.is_https.py_func)(arena, pairs, rows, told)  # type: ignore[attr-defined]
        assert bool(told[0]) == https_by_facts(rows[0], client, server)


@given(st.lists(damaged(), min_size=1, max_size=3))
def test_of_hellos_alone_the_application_is_the_same(cases: list[Streams]) -> None:
    """What is asked of a brief walk is what the whole one says, in rows that were used before."""
    batch = Batch()
    for case in cases:
        batch.add(case.orig, case.resp)
    arena, heads, pairs, *_ = batch.arrays()
    starts = np.zeros((len(cases), 2), np.int32)
    rows = np.frombuffer(b"\xaa" * (kernel.TLS_ROW.itemsize * len(cases)), kernel.TLS_ROW).copy()
    clean = np.zeros(len(cases), kernel.TLS_ROW)
    told = np.zeros(len(cases), np.bool_)
    kernel.walk_tls(arena, heads, pairs, starts, True, rows)
    kernel.walk_tls(arena, heads, pairs, starts, True, clean)
    kernel.is_https(arena, pairs, rows, told)
    for name in ("flags", "version", "cipher", "spans", "stop"):
        assert np.array_equal(rows[name], clean[name]), name
    assert told.tolist() == [
        https_by_facts(row, case.orig.data, case.resp.data) for row, case in zip(rows, cases, strict=True)
    ]
