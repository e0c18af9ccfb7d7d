"""What stands in front of a conversation is taken off, and the conversation examined as if it stood alone."""

from __future__ import annotations

import ipaddress
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.inspectors._examine import Examiner
from auditor.inspectors._prefaces import MAX_PREFACES
from auditor.model.streams import HEAD_BYTES
from tests.inspectors import test_http, test_mysql, test_nats, test_ssh, test_upgrade
from tests.inspectors.handshakes import contexts, shake
from tests.inspectors.heads import Batch, Segments, head_of, says

TLS = shake(*contexts(ssl.TLSVersion.TLSv1_2, require=True))
TLS13 = shake(*contexts(ssl.TLSVersion.TLSv1_3, require=True))
TALKS: dict[str, tuple[Segments, Segments]] = {
    "tls": (TLS.client, TLS.server),
    "tls 1.3": (TLS13.client, TLS13.server),
    "http": ([(11, test_http.request("GET /a HTTP/1.1", "Authorization: Basic YTpi"))], [(12, test_http.OK)]),
    "ssh": ([(11, test_ssh.CLIENT + test_ssh.CLIENT_OFFER)], [(12, test_ssh.SERVER + test_ssh.SERVER_OFFER)]),
    "nats": ([(11, test_nats.connect(user="u", **{"pass": "p"}))], [(12, test_nats.info(auth_required=True))]),
    "mysql": (
        [(13, test_mysql.login())],
        [(12, test_mysql.greeting()), (14, test_mysql.packet(2, test_mysql.OK))],
    ),
    "smtp": (
        [(11, test_upgrade.TALKS["smtp"][0]), (13, test_upgrade.TLS_CLIENT)],
        [(10, test_upgrade.TALKS["smtp"][1]), (14, test_upgrade.TLS_SERVER)],
    ),
}
V1 = b"PROXY TCP4 192.0.2.7 198.51.100.9 40001 443\r\n"
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def v2(command: int = 0x21, family: int = 0x11, addresses: bytes | None = None, tlvs: bytes = b"") -> bytes:
    if addresses is None:
        ends = [ipaddress.ip_address(each).packed for each in ("192.0.2.7", "198.51.100.9")]
        addresses = b"".join(ends) + (40001).to_bytes(2, "big") + (443).to_bytes(2, "big")
    body = addresses + tlvs
    return SIGNATURE + bytes([command, family]) + len(body).to_bytes(2, "big") + body


SSL_TLV = b"\x20\x00\x17" + b"\x07\x00\x00\x00\x00" + b"\x21\x00\x07TLSv1.3" + b"\x22\x00\x05admin"
V6 = ipaddress.ip_address("2001:db8::1").packed * 2 + b"\x9c\x41\x01\xbb"
ENDS = {"proxy.source": "192.0.2.7:40001", "proxy.destination": "198.51.100.9:443"}
PREFACES: dict[str, tuple[bytes, dict[str, object]]] = {
    "version 1": (V1, {"proxy.version": 1, **ENDS}),
    "version 1, IPv6": (
        b"PROXY TCP6 2001:db8::1 2001:DB8:0::1 40001 443\r\n",
        {
            "proxy.version": 1,
            "proxy.source": "[2001:db8::1]:40001",
            "proxy.destination": "[2001:db8::1]:443",
        },
    ),
    "version 1, unknown": (b"PROXY UNKNOWN\r\n", {"proxy.version": 1}),
    "version 1, unknown at length": (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", {"proxy.version": 1}),
    "version 2": (v2(), {"proxy.version": 2, **ENDS}),
    "version 2 with TLVs": (v2(tlvs=SSL_TLV + b"\x04\x00\x03\0\0\0"), {"proxy.version": 2, **ENDS}),
    "version 2, IPv6": (
        v2(family=0x21, addresses=V6),
        {"proxy.version": 2, "proxy.source": "[2001:db8::1]:40001", "proxy.destination": "[2001:db8::1]:443"},
    ),
    "version 2, local": (v2(command=0x20, family=0, addresses=b""), {"proxy.version": 2}),
    "version 2, Unix sockets": (v2(family=0x31, addresses=bytes(216)), {"proxy.version": 2}),
    "two behind each other": (V1 + v2(command=0x20, family=0, addresses=b""), {"proxy.version": 1, **ENDS}),
}


@pytest.fixture(scope="module")
def examiner() -> Examiner:
    return Examiner()


def own(facts: dict[str, object]) -> dict[str, object]:
    return {kind: value for kind, value in facts.items() if kind.startswith("proxy.")}


@pytest.mark.parametrize("preface", sorted(PREFACES))
@pytest.mark.parametrize("talk", sorted(TALKS))
def test_what_is_behind_is_examined_as_if_it_stood_alone(examiner: Examiner, talk: str, preface: str) -> None:
    (client, server), (before, told) = TALKS[talk], PREFACES[preface]
    alone = says(examiner, client, server, known=0)
    for known in (-1, 0):  # whose preface it is, is the client
        application, side, facts = says(examiner, [(3, before), *client], server, known=known)
        assert (application, side) == (alone[0], 0)
        assert own(facts) == told
        assert {kind: value for kind, value in facts.items() if not kind.startswith("proxy.")} == dict(alone[2])
        for kind in alone[2]:
            assert facts.frames(kind) == alone[2].frames(kind), kind
        assert facts.frames("proxy.version") == (3,)
    swapped = Batch()
    swapped.add(head_of(server), head_of([(3, before), *client]))
    out = swapped.examine(examiner)
    assert out.client_side.tolist() == [1]
    brief = swapped.examine(Examiner(collect=False))
    assert brief.application.tolist() == out.application.tolist()


def test_in_one_segment_with_what_follows_and_over_two(examiner: Examiner) -> None:
    first, *rest = TLS.client
    facts = says(examiner, [(first[0], V1 + first[1]), *rest], TLS.server)[2]
    assert facts["tls.client_certificate"] == "sent"
    assert facts.frames("proxy.source") == facts.frames("tls.sni") == (first[0],)
    facts = says(examiner, [(1, V1[:9]), (2, V1[9:]), *((n + 10, each) for n, each in TLS.client)], TLS.server)[2]
    assert facts.frames("proxy.version") == (1, 2) and min(facts.frames("tls.sni")) > 10


def test_the_end_that_was_opened_has_no_preface(examiner: Examiner) -> None:
    application, _, facts = says(examiner, V1, b"SSH-2.0-x\r\n", known=1)
    assert application != "none" and not own(facts or {})


def test_nothing_behind_it_is_nothing_said(examiner: Examiner) -> None:
    application, side, facts = says(examiner, v2(command=0x20, family=0, addresses=b""), b"", known=0)
    assert (application, side) == ("none", 0) and own(facts) == {"proxy.version": 2}


@pytest.mark.parametrize(
    "said",
    [
        b"PROXY TCP4 192.0.2.7 198.51.100.9 40001\r\n",
        b"PROXY TCP4 192.0.2.7 host 40001 443\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.9 70000 443\r\n",
        b"PROXY TCP4 " + b"1" * 200 + b"\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.9 40001 443\n",
        SIGNATURE + b"\x31\x11\x00\x00",
        SIGNATURE + b"\x21\x11\xff\xff" + bytes(90),
        b"PROXYING",
    ],
)
def test_what_only_looks_like_it_is_none(examiner: Examiner, said: bytes) -> None:
    _, _, facts = says(examiner, said + TLS.client[0][1], b"")
    assert not own(facts or {})


def test_no_more_than_a_few_are_taken_off(examiner: Examiner) -> None:
    client = test_http.request("GET /a HTTP/1.1")
    assert says(examiner, V1 * MAX_PREFACES + client, test_http.OK, known=0)[0] == "http"
    assert says(examiner, V1 * (MAX_PREFACES + 1) + client, b"", known=0)[0] == "unknown"


@pytest.mark.parametrize("preface", sorted(PREFACES))
def test_byte_by_byte_it_is_unsure_until_it_is_whole(examiner: Examiner, preface: str) -> None:
    before = PREFACES[preface][0]
    client = before + b"".join(part for _, part in TLS.client)
    for size in range(1, len(before) + 30):
        batch = Batch()
        batch.add(head_of(client[:size], ended=False), head_of(b"", ended=False), known=0)
        out = batch.examine(examiner, settled=False)
        if out.sure[0]:
            assert examiner.applications[out.application[0]] == "tls" and size > len(before)
        assert out.facts == [None]


def test_a_full_head_keeps_what_fits(examiner: Examiner) -> None:
    body = b"x" * HEAD_BYTES
    client = v2(tlvs=b"\x04\x03\xe8" + bytes(1000)) + test_http.request(
        "PUT /a HTTP/1.1", "Content-Length: 9000", body=body
    )
    facts = says(examiner, client, test_http.OK, known=0)[2]
    assert facts["http.method"] == "PUT" and facts["http.statuses"] == (200,)
    whole = SIGNATURE + b"\x21\x11\xff\xff" + bytes(HEAD_BYTES)
    assert says(examiner, whole, b"", known=0)[0] == "unknown"


TUNNEL = test_http.request("CONNECT server.test:443 HTTP/1.1", "Proxy-Authorization: Basic YTpi")
OPENED = b"HTTP/1.1 200 Connection established\r\n\r\n"


@pytest.mark.parametrize("talk", sorted(TALKS))
def test_what_is_in_a_tunnel_is_examined_as_if_it_stood_alone(examiner: Examiner, talk: str) -> None:
    client, server = TALKS[talk]
    alone = says(examiner, client, server, known=0)
    application, side, facts = says(examiner, [(1, TUNNEL), *client], [(2, OPENED), *server], known=0)
    assert (application, side) == (alone[0], 0)
    assert dict(facts) == {**dict(facts), **dict(alone[2])}
    if talk != "http":
        assert facts["http.method"] == "CONNECT" and facts["http.statuses"] == (200,)
        assert facts.frames("http.statuses") == (2,)
    batch = Batch()
    batch.add(head_of([(1, TUNNEL), *client]), head_of([(2, OPENED), *server]), known=0)
    assert batch.examine(Examiner(collect=False)).application.tolist() == batch.examine(examiner).application.tolist()


def test_a_tunnel_behind_a_refusal_and_a_preface(examiner: Examiner) -> None:
    refused = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 3\r\n\r\nno!"
    asked = test_http.request("CONNECT server.test:443 HTTP/1.1")
    client = [(1, V1 + asked), (3, TUNNEL), *TLS.client]
    application, _, facts = says(examiner, client, [(2, refused), (4, OPENED), *TLS.server], known=0)
    assert application == "tls" and facts["tls.client_certificate"] == "sent"
    assert facts["http.statuses"] == (407, 200) and own(facts) == {"proxy.version": 1, **ENDS}


def test_a_tunnel_that_was_not_opened_or_holds_nothing_known_is_http(examiner: Examiner) -> None:
    refused = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
    for client, server in ((TUNNEL, refused), (TUNNEL, b""), (TUNNEL, OPENED), (TUNNEL + b"\1\2\3\4", OPENED)):
        application, _, facts = says(examiner, client, server, known=0)
        assert application == "http" and facts["http.method"] == "CONNECT"


PARTS = st.sampled_from(
    [V1, v2(), SIGNATURE, b"PROXY ", TUNNEL, OPENED, b"\r\n", b"\x16\x03\x01", b"HTTP/1.1 200 \r\n"]
)


@given(st.lists(PARTS | st.binary(max_size=6), max_size=6), st.lists(PARTS | st.binary(max_size=6), max_size=6))
def test_any_bytes_are_examined(client: list[bytes], server: list[bytes]) -> None:
    batch = Batch()
    for known in (-1, 0, 1):
        batch.add(head_of(b"".join(client)), head_of(b"".join(server)), known=known)
    out = batch.examine(Examiner())
    assert batch.examine(Examiner(collect=False)).application.tolist() == out.application.tolist()
    batch.examine(Examiner(), settled=False)
