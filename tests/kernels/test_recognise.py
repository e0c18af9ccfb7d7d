"""The first look: the same answers as the probes, compiled or not."""

from __future__ import annotations

import ssl

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from auditor.inspectors import tls
from auditor.inspectors._examine import Examiner
from auditor.inspectors._table import build
from auditor.kernels import recognise
from auditor.model.roles import Inspector, Match, Signature
from tests.inspectors.handshakes import contexts, shake
from tests.inspectors.heads import Batch, head_of, streams

CLIENT = b"".join(data for _, data in shake(*contexts(ssl.TLSVersion.TLSv1_2)).client)
SERVER = b"".join(data for _, data in shake(*contexts(ssl.TLSVersion.TLSv1_3)).server)
STARTS = [
    CLIENT,
    SERVER,
    CLIENT[5:],
    CLIENT[-40:],
    b"\x17\x03\x03\x00\x05abcde\x17\x03\x03\x00\x01a",
    b"\x15\x03\x01\x00\x02\x02\x28",
    b"\x80\x1f\x01\x03\x01\x00\x06\x00\x00\x00\x10" + bytes(22),
    b"GET / HTTP/1.1\r\n\r\n",
    b'INFO {"server_id":"a"}\r\n',
    b"CONNECT {}\r\n",
    b"",
]


def looked(client: bytes, server: bytes, *, settled: bool, compiled: bool = True) -> tuple[np.ndarray, ...]:
    batch = Batch()
    batch.add(head_of(client, ended=False), head_of(server, ended=False))
    arena, heads, pairs, _, transport, _ = batch.arrays()
    table = Examiner()._table
    candidates, decided, tls_code = np.zeros((1, 2), np.int64), np.ones((1, 2), np.int64), np.zeros(1, np.uint8)
    tls_client, alerted = np.zeros(1, np.int8), np.zeros(1, np.int8)
    look = recognise.first_look if compiled else recognise.first_look.py_func  # type: ignore[attr-defined]
    look(
        arena, heads, pairs, transport, settled, table.value, table.mask, table.at, table.size, table.server,
        table.protocol, table.transport, table.decides, candidates, decided, tls_code, tls_client, alerted,
    )  # fmt: skip
    assert not (decided & ~candidates).any()
    return candidates, tls_code, tls_client, alerted


@st.composite
def said(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from(STARTS) | st.binary(max_size=40)))
    for _ in range(draw(st.integers(0, 2))):
        if data:
            at = draw(st.integers(0, min(len(data) - 1, 16)))
            data[at] = draw(st.sampled_from([0, 1, 2, 3, 20, 21, 22, 23, 0x80]) | st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, 60)) if draw(st.booleans()) else len(data)])


@given(said(), said(), st.booleans())
@example(b"\x15\x03\x01\x00\x02\x03\x28", b"", True)
@example(b"\x14\x03\x01\x00\x01", b"\x17", False)
def test_kernel_and_probe_agree_on_tls(client: bytes, server: bytes, settled: bool) -> None:
    code = int(looked(client, server, settled=settled)[1][0])
    match = tls.probe(streams(client, server))
    if match is Match.YES:
        assert code in {recognise.TLS_HELLO, recognise.TLS_CHAIN}
    elif settled or match is Match.NO:
        assert code == recognise.TLS_NO
    else:
        assert code == recognise.TLS_MORE


@given(said(), said(), st.booleans())
def test_compiled_and_interpreted_agree(client: bytes, server: bytes, settled: bool) -> None:
    for a, b in zip(
        looked(client, server, settled=settled), looked(client, server, settled=settled, compiled=False), strict=True
    ):
        assert np.array_equal(a, b)


@given(said(), said(), st.booleans())
def test_no_probe_says_yes_where_no_signature_holds(client: bytes, server: bytes, settled: bool) -> None:
    examiner = Examiner()
    candidates, tls_code, *_ = looked(client, server, settled=settled)
    if tls_code[0] == recognise.TLS_HELLO:
        return  # then only a side that says something else is looked at
    for place, inspector in enumerate(examiner.inspectors):
        for column, both in enumerate((streams(client, server), streams(server, client))):
            if "tcp" in inspector.transports and inspector.probe(both) is Match.YES:
                assert int(candidates[0, column]) >> place & 1, inspector.name


def test_the_side_of_the_hello_is_the_client() -> None:
    hello, answer = CLIENT, SERVER
    for client, server, side in (
        (hello, answer, 0),
        (answer, hello, 1),
        (hello, b"", 0),
        (b"", answer, 0),
        (answer, b"", 1),
    ):
        _, code, told, _ = looked(client, server, settled=True)
        assert (code[0], told[0]) == (recognise.TLS_HELLO, side)


def test_a_lone_alert_is_no_tls_but_noted() -> None:
    _, code, _, alerted = looked(b"GET / HTTP/1.1\r\n\r\n", b"\x15\x03\x01\x00\x02\x02\x28", settled=True)
    assert (code[0], alerted[0]) == (recognise.TLS_NO, 1)


def test_random_bytes_are_no_tls() -> None:
    rng = np.random.default_rng(1)
    for _ in range(300):
        data = rng.bytes(64)
        assert looked(data, b"\x17" + data, settled=True)[1][0] == recognise.TLS_NO


def test_signatures_that_do_not_fit_are_refused() -> None:
    def made(*signatures: Signature) -> Inspector:
        return Inspector("x", frozenset({"tcp"}), frozenset(), signatures, lambda _: Match.NO, lambda _: iter(()))

    assert build([made(Signature("client", b"x" * recognise.MAX_SIGNATURE))]).size.tolist() == [recognise.MAX_SIGNATURE]
    for wrong in (
        Signature("client", b""),
        Signature("client", b"x" * (recognise.MAX_SIGNATURE + 1)),
        Signature("client", b"xy", 0, b"\xff"),
    ):
        with pytest.raises(ValueError, match="signature"):
            build([made(wrong)])
