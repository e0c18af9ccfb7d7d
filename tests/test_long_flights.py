"""Handshakes of TLS that are longer than the first bytes that are kept: by whatever segments they came, facts are those of the whole stream."""

from __future__ import annotations

import atexit
import datetime
import random
import shutil
import ssl
import tempfile
from functools import cache
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from auditor.conntrack import Tracker, TrackLimits, merge
from auditor.inspectors._examine import Examiner
from auditor.inspectors.tls import inspect
from auditor.model.evidence import Evidence
from auditor.model.facts import SIGNATURE_FITS
from auditor.model.streams import HEAD_BYTES, StreamHead, Streams
from tests.conversation import Talk, Wire
from tests.inspectors.handshakes import Recorded, shake

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@cache
def folder() -> Path:
    """A folder with a server's and a client's certificate of more than 20 KiB each, an ordinary one, and one with a chain of ten."""
    made = Path(tempfile.mkdtemp(prefix="long-flights-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    now = datetime.datetime(2026, 1, 1)
    key = ec.generate_private_key(ec.SECP256R1())

    def certificate(name: str, *, ca: bool = False, names: int = 0) -> x509.Certificate:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        others = [x509.DNSName(f"host-{k:04}.{name}.example.internal") for k in range(names)]
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if ca else x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca")]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(now + datetime.timedelta(days=3650))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name), *others]), critical=False)
            .sign(key, hashes.SHA256())
        )

    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (made / "ca.pem").write_bytes(certificate("ca", ca=True).public_bytes(pem))
    for name, names in (("server.test", 600), ("client.test", 600), ("small.test", 0)):
        (made / f"{name}.pem").write_bytes(certificate(name, names=names).public_bytes(pem) + secret)
    ten = b"".join(certificate(f"intermediate {k}", ca=True, names=50).public_bytes(pem) for k in range(10))
    (made / "chain.test.pem").write_bytes((made / "small.test.pem").read_bytes() + ten)
    return made


@cache
def long_talk(version: ssl.TLSVersion, server: str, client: str, asks: bool) -> Recorded:
    """A handshake and a word each way; ``client``: whose certificate it shows ('': none)."""
    made = folder()
    ours, theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_verify_locations(made / "ca.pem")
    theirs.load_cert_chain(made / f"{server}.pem")
    ours.check_hostname = False
    if client:
        ours.load_cert_chain(made / f"{client}.pem")
    if asks:
        theirs.load_verify_locations(made / "ca.pem")
        theirs.verify_mode = ssl.CERT_OPTIONAL
    for context in (ours, theirs):
        context.minimum_version = context.maximum_version = version
    return shake(ours, theirs)


TALKS = {
    "12, long server's": (V12, "server.test", "", False),
    "12, long both": (V12, "server.test", "client.test", True),
    "12, long client's": (V12, "small.test", "client.test", True),
    "12, chains of ten": (V12, "chain.test", "chain.test", True),
    "12, declined": (V12, "server.test", "", True),
    "13, long both": (V13, "server.test", "client.test", True),
    "13, chains of ten": (V13, "chain.test", "chain.test", True),
    "13, declined": (V13, "server.test", "", True),
}


def turns(told: Recorded) -> list[tuple[bool, bytes]]:
    """What was said, in order; True: by the client."""
    every = [(frame, True, data) for frame, data in told.client] + [(frame, False, data) for frame, data in told.server]
    return [(who, data) for _, who, data in sorted(every)]


def on_wire(said: list[tuple[bool, bytes]], mss: int, preface: bytes = b"") -> Wire:
    wire = Wire()
    talk = Talk(wire, sport=8889).opens()
    if preface:
        talk.says(preface)
    for who, data in said:
        (talk.says if who else talk.answers)(data, mss)
    return wire


def facts_of(wire: Wire) -> dict[str, object]:
    """Through the connection table, as an audit does."""
    tracker = Tracker(Examiner(), limits=TrackLimits())
    tracker.feed(*wire.packets())
    part = tracker.finish()
    return {} if part.facts[0] is None else dict(part.facts[0])


_KEPT = (
    *("tls.server_certificates", "tls.client_certificates", "tls.certificate_not_kept"),
    *("_link.ticket_issued", "tls.order", SIGNATURE_FITS),
)
"""What needs bytes that are not kept; and letters of flights that one large frame of each side brought at once."""


def by_whole_stream(client: bytes, server: bytes) -> dict[str, object]:
    """By the inspector, given all that was said."""
    streams = Streams(StreamHead(client, stream_bytes=len(client)), StreamHead(server, stream_bytes=len(server)))
    found = {each.kind: each.value for each in inspect(streams) if isinstance(each, Evidence)}
    return {kind: value for kind, value in found.items() if kind not in _KEPT}


def without_kept(facts: dict[str, object]) -> dict[str, object]:
    return {kind: value for kind, value in facts.items() if kind not in _KEPT}


@pytest.mark.parametrize("name", TALKS)
@pytest.mark.parametrize("mss", [1_448, 536, 8_948, 64_000])
def test_facts_are_those_of_the_whole_stream(name: str, mss: int) -> None:
    told = long_talk(*TALKS[name])
    sizes = [sum(len(data) for _, data in side) for side in (told.client, told.server)]
    assert max(sizes) > 2 * HEAD_BYTES
    facts = facts_of(on_wire(turns(told), mss))
    assert without_kept(facts) == by_whole_stream(
        b"".join(data for _, data in told.client), b"".join(data for _, data in told.server)
    )
    assert not {"tls.gap", "tls.cut", "tls.limit"} & set(facts)


@pytest.mark.parametrize(
    ("server", "client", "too_long"),
    [
        ("server.test", "client.test", "both"),
        ("server.test", "small.test", "server"),
        ("small.test", "client.test", "client"),
    ],
)
def test_which_certificate_was_too_long_to_keep(server: str, client: str, too_long: str) -> None:
    facts = facts_of(on_wire(turns(long_talk(V12, server, client, True)), 1_448))
    assert facts["tls.certificate_not_kept"] == too_long
    assert (facts["tls.client_certificate"], facts["tls.certificate_verify"]) == ("sent", True)


@pytest.mark.parametrize("name", ["12, long both", "13, long both"])
def test_flights_cut_at_every_segment(name: str) -> None:
    """What was seen until then, and no more."""
    said = [
        (who, data[at : at + 1_448])
        for who, data in turns(long_talk(*TALKS[name]))
        for at in range(0, len(data), 1_448)
    ]
    for count in range(1, len(said)):
        client, server = (b"".join(data for who, data in said[:count] if who is mine) for mine in (True, False))
        expected = by_whole_stream(client, server)
        assert without_kept(facts_of(on_wire(said[:count], 1_448))) == expected, count


@pytest.mark.parametrize("name", TALKS)
@pytest.mark.parametrize("seed", range(3))
def test_segments_out_of_order_and_twice_change_nothing(name: str, seed: int) -> None:
    rng = random.Random(seed)
    wire = on_wire(turns(long_talk(*TALKS[name])), 1_000)
    whole = facts_of(wire)
    order = sorted(range(len(wire.sent)), key=lambda at: at + rng.random() * 9)
    moved = Wire()
    for at in order:
        moved.sent.append(wire.sent[at])
        if rng.random() < 0.1:
            moved.sent.append(wire.sent[at])
    assert without_kept(facts_of(moved)) == without_kept(whole)


def test_a_segment_that_is_missing_is_told_or_changes_nothing() -> None:
    for name in ("12, long both", "13, long both"):
        wire = on_wire(turns(long_talk(*TALKS[name])), 1_000)
        whole = without_kept(facts_of(wire))
        for gone in range(3, len(wire.sent)):
            lossy = Wire()
            lossy.sent += [each for at, each in enumerate(wire.sent) if at != gone]
            facts = without_kept(facts_of(lossy))
            if facts != whole and gone < len(wire.sent) - 3:
                assert {"tls.gap", "tls.cut", "tls.silent"} & set(facts), (name, gone)


def merged(*wires: Wire) -> dict[str, object]:
    """Through the connection table, of several captures."""
    parts = []
    for capture, wire in enumerate(wires):
        tracker = Tracker(Examiner(), capture=capture, alone=False)
        tracker.feed(*wire.packets())
        parts.append(tracker.finish())
    part = merge(parts, Examiner())
    assert len(part.rows) == 1
    return {} if part.facts[0] is None else dict(part.facts[0])


@pytest.mark.parametrize("name", ["12, long both", "13, long both"])
def test_of_two_places_the_better_one_counts(name: str) -> None:
    wire = on_wire(turns(long_talk(*TALKS[name])), 1_448)
    whole = without_kept(facts_of(wire))
    rng = random.Random(1)
    for _ in range(6):
        poor = Wire()
        poor.sent += [each for each in wire.sent if rng.random() < 0.8]
        assert without_kept(merged(wire, poor)) == whole
        assert without_kept(merged(poor, wire)) == whole


@pytest.mark.parametrize("name", ["12, long both", "13, long both"])
def test_a_flight_that_goes_on_in_the_next_capture(name: str) -> None:
    """It is followed as far as the first bytes of that one are kept; what lies behind them is no loss."""
    wire = on_wire(turns(long_talk(*TALKS[name])), 1_448)
    whole = without_kept(facts_of(wire))
    same = 0
    for cut in range(4, len(wire.sent) - 1):
        parts = Wire(), Wire()
        parts[0].sent += wire.sent[:cut]
        parts[1].sent += wire.sent[cut:]
        facts = without_kept(merged(*parts))
        assert "tls.gap" not in facts, cut
        same += facts == whole
        assert facts == whole or facts["tls.limit"], cut
    assert same > 4


def test_behind_a_preface_it_is_the_same() -> None:
    preface = b"PROXY TCP4 10.0.1.2 10.0.1.3 40001 8889\r\n"
    told = long_talk(*TALKS["12, long both"])
    facts = facts_of(on_wire(turns(told), 1_448, preface))
    plain = without_kept(facts_of(on_wire(turns(told), 1_448)))
    assert {kind: value for kind, value in without_kept(facts).items() if kind.startswith("tls.")} == plain


def test_a_long_talk_is_followed_as_far_as_is_told() -> None:
    told = long_talk(*TALKS["13, declined"])
    record = b"\x17\x03\x03" + (16_401).to_bytes(2, "big") + bytes(16_401)
    facts = facts_of(on_wire([*turns(told), (False, record * 60)], 1_448))
    assert facts["tls.limit"] == "server"
    assert facts["tls.server_records_more"] is True
    assert "tls.gap" not in facts
    assert "tls.cut" not in facts
