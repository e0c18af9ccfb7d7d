"""The first look: the same answers as the probes, compiled or not."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from auditor import api, pipeline
from auditor.inspectors import mysql, tls
from auditor.inspectors._examine import Examiner
from auditor.inspectors._table import build
from auditor.kernels import signatures
from auditor.model.roles import Inspector, Match, Signature
from tests.inspectors.handshakes import contexts, shake
from tests.inspectors.heads import Batch, head_of, streams
from tests.inspectors.test_mysql import greeting, packet

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
    look = signatures.first_look if compiled else signatures.first_look.py_func  # type: ignore[attr-defined]
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
        assert code in {signatures.TLS_HELLO, signatures.TLS_CHAIN}
    elif settled or match is Match.NO:
        assert code == signatures.TLS_NO
    else:
        assert code == signatures.TLS_MORE


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
    if tls_code[0] == signatures.TLS_HELLO:
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
        assert (code[0], told[0]) == (signatures.TLS_HELLO, side)


def test_a_lone_alert_is_no_tls_but_noted() -> None:
    _, code, _, alerted = looked(b"GET / HTTP/1.1\r\n\r\n", b"\x15\x03\x01\x00\x02\x02\x28", settled=True)
    assert (code[0], alerted[0]) == (signatures.TLS_NO, 1)


def test_random_bytes_are_no_tls() -> None:
    rng = np.random.default_rng(1)
    for _ in range(300):
        data = rng.bytes(64)
        assert looked(data, b"\x17" + data, settled=True)[1][0] == signatures.TLS_NO


def test_signatures_that_do_not_fit_are_refused() -> None:
    def made(*signatures: Signature) -> Inspector:
        return Inspector("x", frozenset({"tcp"}), frozenset(), signatures, lambda _: Match.NO, lambda _: iter(()))

    assert build([made(Signature("client", b"x" * signatures.MAX_SIGNATURE))]).size.tolist() == [
        signatures.MAX_SIGNATURE
    ]
    for wrong in (
        Signature("client", b""),
        Signature("client", b"x" * (signatures.MAX_SIGNATURE + 1)),
        Signature("client", b"xy", 0, b"\xff"),
    ):
        with pytest.raises(ValueError, match="signature"):
            build([made(wrong)])


def greets(servers: list[bytes], client: bytes = b"", *, compiled: bool = True) -> list[bool]:
    """What the kernel says of these servers, each answered alike."""
    batch = Batch()
    for server in servers:
        batch.add(head_of(client), head_of(server))
    arena, heads, pairs, *_ = batch.arrays()
    told = np.ones(len(servers), np.bool_)
    look = signatures.mysql_greetings if compiled else signatures.mysql_greetings.py_func  # type: ignore[attr-defined]
    look(arena, heads, np.ascontiguousarray(pairs[:, 1]), np.ascontiguousarray(pairs[:, 0]), told)
    return list(map(bool, told))


def greets_by_probe(server: bytes, client: bytes = b"") -> bool:
    """The naive twin: the probe, and of its protocols only the tenth."""
    return mysql.probe(streams(client, server)) is Match.YES and server[4] == 10


GREETINGS = [
    greeting(),
    greeting(tls=False, version=b"5.5.5-10.11.6-MariaDB"),
    greeting(version=b""),
    greeting(version=b"x"),
    *(greeting(version=b"8" * size) for size in (126, 127, 128, 129)),
    packet(0, b"\x0a8.0\0" + b"\1\0\0\0" + b"12345678\0" + b"\xff\xf7"),
    packet(0, b"\x0a8.0\0" + b"\1\0\0\0" + b"12345678\0" + b"\xff"),
    packet(0, b"\x093.23\0" + b"\1\0\0\0" + b"12345678\0"),
    packet(0, b"\xff" + b"\x15\x04#28000No"),
    packet(0, b"\x0a8.0\0" + bytes(1_019)),
    packet(0, b"\x0a8.0\0" + bytes(1_018)),
    packet(1, greeting()[4:]),
]


@pytest.mark.parametrize("said", GREETINGS, ids=range(len(GREETINGS)))
def test_a_greeting_cut_off_anywhere(said: bytes) -> None:
    cuts = [said[:size] for size in range(len(said) + 1)] + [said + b"\7\0\0\2"]
    assert greets(cuts) == [greets_by_probe(cut) for cut in cuts]
    assert greets(cuts[::7], compiled=False) == greets(cuts[::7])


def test_greetings_are_told() -> None:
    assert greets(GREETINGS[:3]) == [True, True, False]


@pytest.mark.parametrize(
    ("client", "mysql_it_is"),
    [
        (b"\x20\0\0\1" + bytes(32), True),
        (b"\x20\0\0", True),
        (b"GET / HTTP/1.1\r\n", False),
        (b"SSH-2.0-x\r\n", False),
        (b"\x16\3\1\1\xfc\1", False),
        (b"\x20\0\0\0" + bytes(32), False),
    ],
)
def test_what_else_is_said_to_a_greeting_is_no_mysql(client: bytes, mysql_it_is: bool) -> None:
    assert greets([greeting()], client) == greets([greeting()], client, compiled=False) == [mysql_it_is]
    assert greets_by_probe(greeting(), client) is mysql_it_is


@given(st.sampled_from(GREETINGS), st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), max_size=4))
def test_damaged_greetings(said: bytes, damage: list[tuple[int, int]]) -> None:
    data = bytearray(said)
    for at, value in damage:
        data[at % len(data)] = value
    assert greets([bytes(data)]) == [greets_by_probe(bytes(data))]


@given(st.binary(max_size=60))
def test_anything_behind_a_header_as_a_greeting(rest: bytes) -> None:
    cases = [rest, b"\x2a\0\0\0\x0a" + rest, b"\x2a\0\0\0\x0a8.0\0" + rest]
    assert greets(cases) == [greets_by_probe(case) for case in cases]


def test_real_servers_and_what_is_spoken_without_asking(public_captures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that servers of real captures said, whole and cut off; and the application is the same where no evidence is wanted."""
    servers: set[bytes] = set()

    class Listening(Examiner):
        def examine(self, arena: Any, heads: Any, pairs: Any, *more: Any) -> Any:
            for slot in pairs[pairs >= 0].tolist():
                servers.add(arena[slot, : min(int(heads["filled_bytes"][slot]), 160)].tobytes())
            return super().examine(arena, heads, pairs, *more)

    monkeypatch.setattr(pipeline, "Examiner", Listening)
    known = 0
    for path in sorted(each for each in public_captures.rglob("*mysql*") if each.suffix in (".pcap", ".pcapng")):
        if path.is_file():
            brief, whole = (api.connections(path, evidence=each).connections["application"] for each in (False, True))
            assert brief.tolist() == whole.tolist(), path
            known += int((whole == "mysql").sum())
    assert known > 3
    assert sum(map(greets_by_probe, servers)) > 3
    cuts = [said[:size] for said in sorted(servers) for size in (*range(0, min(len(said), 128), 3), len(said))]
    assert greets(cuts) == [greets_by_probe(cut) for cut in cuts]


def test_who_said_nothing() -> None:
    batch = Batch()
    for client, server in ((b"a", b""), (b"", b""), (b"", b"b"), (b"a", b"b")):
        batch.add(head_of(client), head_of(server))
    batch.add(head_of(b""), head_of(b"", gap=True))
    _, heads, pairs, *_ = batch.arrays()
    pairs[1] = 2, 3  # slots that hold nothing
    told = np.zeros(len(pairs), np.bool_)
    signatures.silent(heads, pairs, told)
    assert told.tolist() == [False, True, False, False, False]
