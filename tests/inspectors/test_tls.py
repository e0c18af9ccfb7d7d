"""TLS conversations, made by a real stack, and what is told of them."""

from __future__ import annotations

import ssl
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.inspectors._examine import Examiner
from auditor.inspectors.tls import inspect, probe
from auditor.model.evidence import Attachment, Evidence
from auditor.model.roles import Match
from auditor.model.streams import HEAD_BYTES
from tests.inspectors.handshakes import Recorded, contexts, identities, shake
from tests.inspectors.heads import Batch, Segments, head_of, says, streams

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@pytest.fixture(scope="module")
def examiner() -> Examiner:
    return Examiner()


def talk(version: ssl.TLSVersion, **how: bool) -> Recorded:
    return shake(*contexts(version, **how))


def both(told: Recorded) -> tuple[Segments, Segments]:
    return told.client, told.server


def naive(client: Segments | bytes, server: Segments | bytes, **more: bool) -> dict[str, object]:
    return {each.kind: each.value for each in inspect(streams(client, server, **more)) if isinstance(each, Evidence)}


def test_mutual_tls_12_shows_both_certificates_and_the_proof(examiner: Examiner) -> None:
    told = talk(V12, require=True)
    application, client, facts = says(examiner, *both(told))
    assert (application, client) == ("tls", 0)
    assert facts["tls.version"] == "TLS 1.2"
    assert facts["tls.cipher"].startswith("TLS_ECDHE_ECDSA_WITH_")
    assert facts["tls.sni"] == "server.test"
    assert facts["tls.certificate_requested"] is True
    assert facts["tls.client_certificate"] == "sent"
    assert facts["tls.certificate_verify"] is True
    assert facts["tls.client_finished"] and facts["tls.server_finished"]
    assert facts["tls.client_application_data"] and facts["tls.server_application_data"]
    assert facts["tls.resumed"] is False
    _, der = identities()
    for side, name in (("client", "client.test"), ("server", "server.test")):
        chain = facts[f"tls.{side}_certificates"]
        assert examiner.certificates.get(chain[0]) == der[name]


def test_frames_name_the_messages(examiner: Examiner) -> None:
    told = talk(V12, require=True)
    _, _, facts = says(examiner, *both(told))
    client_frames, server_frames = ([frame for frame, _ in side] for side in both(told))
    assert facts.frames("tls.sni") == (client_frames[0],)
    assert facts.frames("tls.version") == facts.frames("tls.certificate_requested") == (server_frames[0],)
    assert facts.frames("tls.client_certificate") == facts.frames("tls.certificate_verify") == (client_frames[1],)
    assert facts.frames("tls.server_finished") == (server_frames[1],)
    assert facts.frames("tls.client_application_data") == (client_frames[2],)
    shown = {each.kind: each.frames for each in facts.evidence()}
    assert shown["tls.client_certificates"] == (client_frames[1],)


def test_empty_certificate_is_seen_and_its_refusal(examiner: Examiner) -> None:
    accepted = says(examiner, *both(talk(V12, ask=True, show=False)))[2]
    assert accepted["tls.client_certificate"] == "empty"
    assert "tls.certificate_verify" not in accepted
    assert accepted["tls.server_application_data"]
    told = talk(V12, require=True, show=False)
    assert told.failed
    refused = says(examiner, *both(told))[2]
    assert refused["tls.client_certificate"] == "empty"
    assert refused["tls.server_alert"] == ("fatal", "handshake_failure")
    assert "tls.server_application_data" not in refused
    assert "tls.server_finished" not in refused


def test_lengths_and_order_of_the_dialogue_are_told_in_every_version(examiner: Examiner) -> None:
    declined = says(examiner, *both(talk(V12, ask=True, show=False)))[2]
    assert len(declined["tls.client_records"]) == len(declined["tls.server_records"]) == 1
    assert "_link.session_id" in declined or "_link.ticket_issued" in declined
    shown = says(examiner, *both(talk(V12, ask=True)))[2]
    assert len(shown["tls.client_records"]) == len(shown["tls.server_records"]) == 1
    assert shown["tls.order"] == "CScs"


def test_not_asked(examiner: Examiner) -> None:
    facts = says(examiner, *both(talk(V12)))[2]
    assert facts["tls.certificate_requested"] is False
    assert facts["tls.client_certificate"] == "not_asked"


def test_tls_12_ticket_ties_resumption_to_its_origin(examiner: Examiner) -> None:
    ends = contexts(V12, require=True)
    first = shake(*ends)
    second = shake(*ends, session=first.session)
    full, resumed = (says(examiner, *both(each))[2] for each in (first, second))
    assert full["_link.ticket_issued"] == resumed["_link.ticket_offered"]
    assert len(full["_link.ticket_issued"]) == 16
    assert resumed["tls.resumed"] is True
    assert resumed["tls.client_certificate"] == "unknown"
    assert not [each for each in full.evidence() if each.kind.startswith("_")]


def test_tls_13_lengths_and_order_of_both_flights(examiner: Examiner) -> None:
    mutual = says(examiner, *both(talk(V13, require=True)))[2]
    declined = says(examiner, *both(talk(V13, ask=True, show=False)))[2]
    not_asked = says(examiner, *both(talk(V13)))[2]
    assert mutual["tls.version"] == "TLS 1.3"
    assert mutual["tls.client_certificate"] == "unknown"
    assert len(mutual["tls.client_records"]) == 4  # certificate, verify, Finished, data
    assert declined["tls.client_records"][:2] == (25, 69)
    assert not_asked["tls.client_records"][0] == 69
    assert len(mutual["tls.server_records"]) == len(not_asked["tls.server_records"]) + 1  # CertificateRequest
    assert mutual["tls.order"].startswith("CSsssssccc")
    assert not_asked["tls.order"].startswith("CSssssc")
    for facts in (mutual, declined, not_asked):
        assert "tls.client_application_data" not in facts  # records of type 23 do not tell in TLS 1.3


def test_tls_13_refusal_and_resumption(examiner: Examiner) -> None:
    refused = says(examiner, *both(talk(V13, require=True, show=False)))[2]
    assert refused["tls.server_records"][-1] == 19
    assert refused["tls.order"].endswith("ccs")
    ends = contexts(V13)
    first = shake(*ends)
    resumed = says(examiner, *both(shake(*ends, session=first.session)))[2]
    assert resumed["tls.resumed"] is True
    assert resumed["tls.psk_offered"] is True
    assert resumed["tls.psk_identity_bytes"] > 100
    assert len(resumed["tls.server_records"]) == len([each for each in resumed["tls.order"] if each == "s"])
    assert not [kind for kind in resumed if kind.startswith("_link")]


def test_hello_retry_starts_again(examiner: Examiner) -> None:
    client, server = contexts(V13)
    server.set_ecdh_curve("secp384r1")  # the client's first key share is of another group
    facts = says(examiner, *both(shake(client, server)))[2]
    assert facts["tls.hello_retry"] is True
    assert facts["tls.order"].startswith("CHCSssss")
    assert facts["tls.version"] == "TLS 1.3"
    assert facts["tls.client_records"][0] in {53, 69}


def test_alpn_tells_https(examiner: Examiner) -> None:
    for version in (V12, V13):
        application, _, facts = says(examiner, *both(shake(*contexts(version, alpn=("http/1.1",)))))
        assert application == "https"
        assert facts["tls.alpn_offered"] == ("http/1.1",)
        other, _, facts = says(examiner, *both(shake(*contexts(version, alpn=("postgresql",)))))
        assert other == "tls"
    assert says(examiner, *both(shake(*contexts(V12, alpn=("h2", "http/1.1")))))[2]["tls.alpn"] == "h2"


@pytest.mark.parametrize("version", [V12, V13])
def test_each_direction_alone(examiner: Examiner, version: ssl.TLSVersion) -> None:
    told = talk(version, require=True)
    application, client, facts = says(examiner, told.client, b"")
    assert (application, client) == ("tls", 0)
    assert facts["tls.silent"] == "server"
    assert "tls.version" not in facts
    # Only up to TLS 1.2 is a client's certificate in the clear, so that it tells even without the answer.
    assert facts.get("tls.client_certificate") == ("sent" if version is V12 else None)
    application, client, facts = says(examiner, told.server, b"")
    assert (application, client) == ("tls", 1)
    assert facts["tls.silent"] == "client"
    assert "tls.client_hello" not in facts
    assert facts["tls.version"] == ("TLS 1.2" if version is V12 else "TLS 1.3")
    if version is V12:
        assert facts["tls.certificate_requested"] is True
        assert facts["tls.client_certificate"] == "unknown"


def test_content_tells_the_client_whichever_side_it_is(examiner: Examiner) -> None:
    told = talk(V12)
    application, client, facts = says(examiner, told.server, told.client)
    assert (application, client, facts["tls.sni"]) == ("tls", 1, "server.test")


def test_midstream_is_tls_of_unknown_roles(examiner: Examiner) -> None:
    told = talk(V12)
    data = b"".join(part for _, part in told.client[2:])
    record = data + data
    batch = Batch()
    batch.add(head_of(record, midstream=True), head_of(b""))
    batch.add(head_of(record, midstream=True), head_of(b""), known=1)
    out = batch.examine(examiner)
    assert [examiner.applications[code] for code in out.application] == ["tls", "tls"]
    assert out.client_side.tolist() == [-1, 1]
    first, second = out.facts
    assert first is not None and second is not None
    assert first["_roles"] == "unknown"
    assert first["tls.midstream"] == "client"
    assert second["tls.server_application_data"] is True
    assert "tls.version" not in first


def test_a_gap_is_told_and_ends_what_is_known(examiner: Examiner) -> None:
    told = talk(V12, require=True)
    batch = Batch()
    batch.add(head_of(told.client[:1]), head_of([(2, told.server[0][1][:300])], gap=True))
    facts = batch.examine(examiner).facts[0]
    assert facts is not None
    assert facts["tls.gap"] == "server"
    assert facts["tls.client_certificate"] == "unknown"
    assert "tls.certificate_requested" not in facts
    assert "tls.server_certificates" not in facts


def test_plain_http_answer_to_a_client_hello(examiner: Examiner) -> None:
    told = talk(V12)
    application, client, facts = says(examiner, told.client[:1], b"HTTP/1.1 400 Bad Request\r\n\r\n")
    assert (application, client) == ("tls", 0)
    assert facts["tls.answered_with"] == "http"
    assert facts["tls.malformed"] == "no TLS record"


def ssl2(*messages: bytes) -> bytes:
    return b"".join((0x8000 | len(each)).to_bytes(2, "big") + each for each in messages)


SSL2_HELLO = ssl2(b"\x01\x00\x02\x00\x03\x00\x00\x00\x10" + b"\x07\x00\xc0" + bytes(16))


def ssl2_answer(certificate: bytes) -> bytes:
    lengths = len(certificate).to_bytes(2, "big") + b"\x00\x03\x00\x10"
    return ssl2(b"\x04\x00\x01\x00\x02" + lengths + certificate + b"\x07\x00\xc0" + bytes(16))


def test_a_session_of_ssl2_is_tls_of_that_version(examiner: Examiner) -> None:
    _, der = identities()
    key, secret = b"\x02\x07\x00\xc0" + bytes(50), b"\xa5" * 41
    client = [(1, SSL2_HELLO), (3, ssl2(key)), (5, ssl2(secret)), (7, ssl2(secret * 2))]
    server = [(2, ssl2_answer(der["server.test"])), (4, ssl2(secret)), (6, ssl2(secret)), (8, ssl2(secret * 9))]
    application, side, facts = says(examiner, client, server)
    assert (application, side) == ("tls", 0)
    assert facts["tls.version"] == facts["tls.hello_version"] == "SSL 2.0" and "tls.cipher" not in facts
    assert facts["tls.client_finished"] and facts["tls.server_finished"]
    assert facts["tls.client_certificate"] == "unknown" and "tls.malformed" not in facts
    assert examiner.certificates.get(facts["tls.server_certificates"][0]) == der["server.test"]
    assert facts.frames("tls.version") == (2,)
    # One way, cut short, refused by a server that knows no SSL 2.0.
    assert says(examiner, client, b"")[2]["tls.client_finished"]
    cut = says(examiner, client[:2], [(2, server[0][1][:40])])[2]
    assert cut["tls.version"] == "SSL 2.0" and cut["tls.cut"] == "server" and "tls.client_finished" not in cut
    refused = says(examiner, SSL2_HELLO, b"\x15\x03\x00\x00\x02\x02\x28")[2]
    assert refused["tls.server_alert"] == ("fatal", "handshake_failure") and "tls.version" not in refused
    assert Examiner(collect=False).applications[2] == "tls"
    batch = Batch()
    batch.add(head_of(client), head_of(server))
    assert batch.examine(Examiner(collect=False)).application.tolist() == [2]


def test_ssl2_hello(examiner: Examiner) -> None:
    body = bytes([1]) + struct.pack(">HHHH", 0x0301, 6, 0, 16) + bytes(6) + bytes(range(16))
    hello = struct.pack(">H", 0x8000 | len(body)) + body
    application, client, facts = says(examiner, hello, talk(V12).server)
    assert (application, client) == ("tls", 0)
    assert facts["tls.ssl2_hello"] is True
    assert facts["tls.hello_version"] == "TLS 1.0"
    assert facts["tls.version"] == "TLS 1.2"


def test_names_from_the_wire_are_escaped_and_bounded(examiner: Examiner) -> None:
    told = talk(V12)
    hello = told.client[0][1].replace(b"server.test", b"\x1b[31mred\r\nx")
    facts = says(examiner, hello, b"")[2]
    assert facts["tls.sni"] == r"\x1b[31mred\x0d\x0ax"


def refragmented(data: bytes, size: int) -> bytes:
    """The same handshake messages in smaller records, RFC 5246 section 6.2.1."""
    out, at = b"", 0
    while at < len(data):
        kind, length = data[at], int.from_bytes(data[at + 3 : at + 5], "big")
        body = data[at + 5 : at + 5 + length]
        if kind == 22:
            for start in range(0, length, size):
                part = body[start : start + size]
                out += data[at : at + 3] + len(part).to_bytes(2, "big") + part
        else:
            out += data[at : at + 5 + length]
        at += 5 + length
    return out


def test_messages_spread_over_records_are_put_together(examiner: Examiner) -> None:
    told = talk(V12, require=True)
    whole = says(examiner, *both(told))[2]
    server = [(2, refragmented(told.server[0][1], 200)), *told.server[1:]]
    at = told.client[1][1].index(b"\x14\x03\x03\x00\x01\x01")  # ChangeCipherSpec: what follows must stay in one piece
    flight = told.client[1][1]
    client = [told.client[0], (3, refragmented(flight[:at], 100) + flight[at:]), *told.client[2:]]
    spread = says(examiner, client, server)[2]
    assert dict(spread) == dict(whole)
    assert spread.frames("tls.client_certificates") == (3,)


def test_facts_are_shared_between_connections_that_look_alike(examiner: Examiner) -> None:
    ends = contexts(V12, require=True)
    first, second = (says(examiner, *both(shake(*ends)))[2] for _ in range(2))
    assert first.shared is second.shared
    assert first.own != second.own


@pytest.mark.parametrize("version", [V12, V13])
def test_fed_byte_by_byte_the_probe_never_changes_its_mind(version: ssl.TLSVersion) -> None:
    told = talk(version)
    for side in both(told):
        data = b"".join(part for _, part in side)[:1500]
        for given_bytes in (data, data[5:], bytes([0x80]) + data, data[:7] + b"GET / HTTP/1.1\r\n"):
            decided = Match.MORE
            for size in range(len(given_bytes) + 1):
                said = probe(streams(given_bytes[:size], b""))
                if decided is not Match.MORE:
                    assert said is decided
                decided = said


@given(st.binary(max_size=400), st.binary(max_size=400))
def test_any_bytes_are_only_evidence(client: bytes, server: bytes) -> None:
    for prefix in (b"", b"\x16\x03\x01", b"\x16\x03\x03\x00\x40\x02\x00\x00\x3c\x03\x03"):
        assert isinstance(probe(streams(prefix + client, server)), Match)
        for each in inspect(streams(prefix + client, prefix + server)):
            assert isinstance(each, Evidence | Attachment)


def test_head_that_is_full_counts_the_record_it_ends_in(examiner: Examiner) -> None:
    told = talk(V13)
    record = b"\x17\x03\x03" + (16_401).to_bytes(2, "big") + bytes(16_401)
    server = [*told.server, (99, record), (100, record)]
    facts = says(examiner, told.client, server)[2]
    assert facts["tls.server_records"][-1] == 16_401
    assert facts["tls.limit"] == "server"
    assert "tls.cut" not in facts
    assert len(head_of(server).data) == HEAD_BYTES
    assert dict(facts) == naive(told.client, server)
