"""What holds for every protocol of the catalogue, so that a new file is covered by being there."""

from __future__ import annotations

import base64
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.catalogue import discover
from auditor.errors import WireError
from auditor.inspectors._examine import Examiner
from auditor.kernels.signatures import MAX_SIGNATURE
from auditor.model.evidence import Attachment, Evidence, Handover
from auditor.model.roles import Inspector, Match
from auditor.model.streams import Streams
from tests.inspectors import (
    test_dns,
    test_dtls,
    test_http,
    test_ipsec,
    test_mysql,
    test_nats,
    test_quic,
    test_ssh,
    test_upgrade,
)
from tests.inspectors.handshakes import contexts, shake
from tests.inspectors.heads import Batch, head_of, says, streams

INSPECTORS: tuple[Inspector, ...] = discover("auditor.inspectors", "INSPECTOR")
TLS = shake(*contexts(ssl.TLSVersion.TLSv1_2, require=True))
CONVERSATIONS: dict[str, tuple[bytes, bytes]] = {
    "tls": (b"".join(d for _, d in TLS.client), b"".join(d for _, d in TLS.server)),
    "ssh": (
        test_ssh.CLIENT + test_ssh.CLIENT_OFFER + test_ssh.packet(30, b"x" * 36) + test_ssh.NEWKEYS + b"\x9e" * 40,
        test_ssh.SERVER + test_ssh.SERVER_OFFER + test_ssh.packet(31, b"y" * 99) + test_ssh.NEWKEYS + b"\x9e" * 40,
    ),
    "http": (
        test_http.request("GET /a?md5=b&expires=1 HTTP/1.1", "Authorization: Basic YTpi") * 2,
        test_http.OK + b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ),
    "mysql": (
        test_mysql.login() + test_mysql.packet(3, b"p" * 20) + test_mysql.packet(0, b"\x03select"),
        test_mysql.greeting()
        + test_mysql.packet(2, b"\xfemysql_native_password\0" + b"s" * 21)
        + test_mysql.packet(4, test_mysql.OK),
    ),
    "nats": (
        test_nats.connect(user="u", **{"pass": "p"}) + b"PING\r\nPUB a 3\r\nabc\r\n",
        test_nats.info(auth_required=True) + b"+OK\r\nPONG\r\nMSG a 1 3\r\nabc\r\n",
    ),
    "dns": (test_dns.QUERY, test_dns.ANSWER),
    "ipsec": (test_ipsec.message(0x20, 34), test_ipsec.message(0x20, 34)),
    "quic": (test_quic.hellos()[0][0][1], test_quic.hellos()[1][0][1]),
    "dtls": (
        b"".join(part for _, part in test_dtls.conversation()[0]),
        b"".join(part for _, part in test_dtls.conversation()[1]),
    ),
    **{name: (a + test_upgrade.TLS_CLIENT, b + test_upgrade.TLS_SERVER) for name, (a, b) in test_upgrade.TALKS.items()},
}
CARRIERS = {"dtls"}
"""They tell versions of TLS in their own words."""
by_name = pytest.mark.parametrize("inspector", INSPECTORS, ids=lambda each: each.name)


def ask(inspector: Inspector, both: Streams) -> None:
    """Any bytes give a Match, Evidence or WireError, never another error."""
    assert isinstance(inspector.probe(both), Match)
    try:
        told = list(inspector.inspect(both))
    except WireError as error:
        assert error.kind in {"short", "malformed"}
        return
    for each in told:
        assert isinstance(each, Evidence | Handover | Attachment)
        if isinstance(each, Evidence):
            hash(each.value)
            own = {inspector.name, f"_{inspector.name}", "_link", "_roles"}
            assert each.kind.split(".")[0] in (own | {"tls"} if inspector.name in CARRIERS else own)
    kinds = [each.kind for each in told if isinstance(each, Evidence)]
    assert len(kinds) == len(set(kinds))


def test_every_inspector_is_covered_and_documented() -> None:
    assert {each.name for each in INSPECTORS} == set(CONVERSATIONS)
    for inspector in INSPECTORS:
        module = inspector.probe.__module__
        assert len((__import__(module, fromlist=["x"]).__doc__ or "").strip()) > 40
        assert inspector.probe.__doc__ and inspector.inspect.__doc__
        assert inspector.transports <= {"tcp", "udp"}
        for signature in inspector.signatures:
            assert 0 < len(signature.value) <= MAX_SIGNATURE


@by_name
def test_its_own_conversation_is_recognised_on_any_port(inspector: Inspector) -> None:
    client, server = CONVERSATIONS[inspector.name]
    transport = 6 if "tcp" in inspector.transports and inspector.name != "dns" else 17
    examiner = Examiner()
    for ports in ((40_000, 9), (40_000, min(inspector.ports)), (3306, 22)):
        assert says(examiner, client, server, transport=transport, ports=ports)[0] == inspector.name
    for other in INSPECTORS:
        if other is not inspector:
            assert other.probe(streams(client, server)) is not Match.YES
            assert other.probe(streams(server, client)) is not Match.YES


@by_name
@given(data=st.data())
def test_any_bytes_are_never_another_error(inspector: Inspector, data: st.DataObject) -> None:
    pair = []
    for said in CONVERSATIONS[inspector.name]:
        start = said[: data.draw(st.integers(0, len(said)))]
        pair.append(start + data.draw(st.binary(max_size=80)))
    ask(inspector, streams(*pair))


@by_name
@given(data=st.data())
def test_damaged_conversations_are_never_another_error(inspector: Inspector, data: st.DataObject) -> None:
    pair = []
    for said in CONVERSATIONS[inspector.name]:
        part = bytearray(said)
        for _ in range(data.draw(st.integers(0, 4))):
            at = data.draw(st.integers(0, max(len(part) - 1, 0)))
            what = data.draw(st.sampled_from(["set", "cut", "insert"]))
            if what == "set" and part:
                part[at] = data.draw(st.integers(0, 255))
            elif what == "cut":
                del part[at : at + data.draw(st.integers(1, 9))]
            else:
                part[at:at] = data.draw(st.binary(max_size=9))
        pair.append(bytes(part))
    ask(inspector, streams(*pair))
    ask(inspector, streams(pair[1], pair[0]))


@by_name
@given(data=st.data())
def test_fed_byte_by_byte_a_probe_takes_nothing_back(inspector: Inspector, data: st.DataObject) -> None:
    said = list(CONVERSATIONS[inspector.name])
    if data.draw(st.booleans()):
        said.reverse()
    for side in (0, 1):
        at = data.draw(st.integers(0, min(len(said[side]), 60)))
        said[side] = said[side][:at] + data.draw(st.binary(max_size=20)) + said[side][at:]
    whole = [min(len(part), 120) for part in said]
    steps = data.draw(st.binary(min_size=1, max_size=24))  # side and size of each piece, again and again
    seen, turn, decided = [0, 0], 0, Match.MORE
    while seen != whole:
        step = steps[turn % len(steps)] + turn
        side = step % 2 if seen[step % 2] < whole[step % 2] else 1 - step % 2
        seen[side] = min(seen[side] + 1 + step // 2 % 12, whole[side])
        turn += 1
        match = inspector.probe(streams(said[0][: seen[0]], said[1][: seen[1]], ended=False))
        if decided is not Match.MORE:
            assert match is decided
        decided = match


@given(
    st.lists(
        st.tuples(st.binary(max_size=60), st.binary(max_size=60), st.sampled_from([6, 17, 1])), min_size=1, max_size=6
    ),
    st.booleans(),
)
def test_the_examiner_takes_any_bytes(said: list[tuple[bytes, bytes, int]], settled: bool) -> None:
    examiner = Examiner()
    batch = Batch()
    for client, server, transport in said:
        batch.add(head_of(client), head_of(server), transport=transport)
    out = batch.examine(examiner, settled=settled)
    for (client, server, _), code in zip(said, out.application, strict=True):
        assert (examiner.applications[code] == "none") == (not client and not server)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(sorted(CONVERSATIONS)), st.booleans(), st.sampled_from([-1, 0, 1]), st.integers(0, 200)
        ),
        min_size=1,
        max_size=12,
    ),
    st.binary(max_size=8),
)
def test_asked_for_the_application_alone_the_examiner_says_the_same(
    said: list[tuple[str, bool, int, int]], strange: bytes
) -> None:
    batch = Batch()
    for name, swapped, known, at in said:
        client, server = CONVERSATIONS[name]
        client = client[:at] + strange + client[at:]
        transport = 6 if "tcp" in next(each for each in INSPECTORS if each.name == name).transports else 17
        ends = (server, client) if swapped else (client, server)
        batch.add(head_of(ends[0]), head_of(ends[1]), known=known, transport=transport)
    whole, brief = batch.examine(Examiner()), batch.examine(Examiner(collect=False))
    assert brief.application.tolist() == whole.application.tolist()


@given(st.binary(max_size=80), st.binary(max_size=80))
def test_a_signature_that_decides_is_enough_for_the_probe(behind: bytes, other: bytes) -> None:
    decisive = [(each, signature) for each in INSPECTORS for signature in each.signatures if signature.decides]
    assert decisive
    for inspector, signature in decisive:
        assert signature.mask is None
        data = b"\0" * signature.at + signature.value + behind
        both = streams(data, other) if signature.side == "client" else streams(other, data)
        assert inspector.probe(both) is Match.YES


SECRET = "Zebra7Quagga"


def planted() -> list[tuple[bytes, bytes]]:
    basic = base64.b64encode(f"diego:{SECRET}".encode()).decode()
    told = shake(*contexts(ssl.TLSVersion.TLSv1_2), secret=SECRET.encode())
    clear = b"\xfemysql_clear_password\0"
    return [
        (test_http.request("GET /x HTTP/1.1", f"Authorization: Bearer {SECRET}", f"Cookie: a={SECRET}"), test_http.OK),
        (test_http.request("GET /x HTTP/1.1", f"Authorization: Basic {basic}"), test_http.OK),
        (test_http.request("GET /x HTTP/1.1", f"Authorization: {SECRET}"), test_http.OK),
        (test_http.request(f"GET /read/{SECRET}?md5={SECRET}&expires=1 HTTP/1.1"), test_http.OK),
        (
            test_http.request(f"GET /?X-Amz-Signature={SECRET} HTTP/1.1"),
            b"HTTP/1.1 403 F\r\nSet-Cookie: " + SECRET.encode(),
        ),
        (
            test_http.request("GET / HTTP/1.1") + SECRET.encode() * 9,
            b"HTTP/1.1 200 OK\r\n" + SECRET.encode() + b"\r\n\r\n",
        ),
        (
            test_nats.connect(**dict.fromkeys(("user", "pass", "auth_token", "jwt", "nkey", "sig"), SECRET)),
            test_nats.info(),
        ),
        (
            test_nats.connect()[:-2] + SECRET.encode(),
            test_nats.info(nonce=SECRET) + b"-ERR '" + SECRET.encode() + b"'\r\n",
        ),
        (b"PUB a 12\r\n" + SECRET.encode() + b"\r\n" + SECRET.encode(), test_nats.info()),
        (test_mysql.login(SECRET.encode()), test_mysql.greeting() + test_mysql.packet(2, test_mysql.OK)),
        (
            test_mysql.login() + test_mysql.packet(3, SECRET.encode() + b"\0"),
            test_mysql.greeting()
            + test_mysql.packet(2, clear)
            + test_mysql.packet(4, test_mysql.ERROR + SECRET.encode()),
        ),
        (b"".join(d for _, d in told.client), b"".join(d for _, d in told.server)),
    ]


def test_no_secret_gets_into_facts() -> None:
    examiner = Examiner()
    forms = [SECRET, base64.b64encode(SECRET.encode()).decode()[:12], SECRET.encode().hex()]
    for client, server in planted():
        for pair in ((client, server), (server, client), (client, b""), (b"", server)):
            _, _, facts = says(examiner, *pair)
            for form in forms:
                assert form not in repr(facts)
                assert form not in repr(list(facts.evidence()) if facts is not None else "")


def test_tickets_and_session_ids_are_only_linked_by_a_hash() -> None:
    ends = contexts(ssl.TLSVersion.TLSv1_2)
    first = shake(*ends)
    second = shake(*ends, session=first.session)
    facts = says(Examiner(), second.client, second.server)[2]
    hello = second.client[0][1]
    assert facts["_link.ticket_offered"] not in hello.hex()
    assert all(
        len(value) == 16 for kind, value in facts.items() if kind.startswith("_link.") and isinstance(value, str)
    )
    assert not any(each.kind.startswith("_") for each in facts.evidence())


def test_heads_that_are_not_settled_get_no_facts() -> None:
    examiner = Examiner()
    batch = Batch()
    hello = TLS.client[0][1]
    batch.add(head_of(hello, ended=False), head_of(b"", ended=False))
    batch.add(head_of(hello[:7], ended=False), head_of(b"", ended=False))
    batch.add(head_of(b"GET / HT", ended=False), head_of(b"", ended=False))
    batch.add(head_of(b"\xff" * 30, ended=False), head_of(b"\xff" * 30, ended=False))
    batch.add(head_of(b""), head_of(b""))
    out = batch.examine(examiner, settled=False)
    assert [examiner.applications[code] for code in out.application] == ["tls", "unknown", "unknown", "unknown", "none"]
    assert out.sure.tolist() == [True, False, False, True, False]
    assert out.facts == [None] * 5
    assert out.client_side.tolist() == [0, -1, -1, -1, -1]


def test_lone_alert_to_unknown_bytes_is_noted() -> None:
    application, side, facts = says(Examiner(), b"\x01\x02hello", b"\x15\x03\x03\x00\x02\x02\x32")
    assert (application, side) == ("unknown", 0)
    assert facts["tls.alert_to_plaintext"] == ("fatal", "decode_error")
