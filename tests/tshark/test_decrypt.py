"""Keys as proof: what tshark decrypts becomes facts of the names that the inspectors give."""

from __future__ import annotations

import hashlib
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from auditor.errors import InputError, MissingToolError
from auditor.tshark.decrypt import Opened, check, decrypt
from auditor.tshark.dissect import Flow
from tests.tshark.talks import Secure, Talk, Wire, identities, secured, write
from tests.tshark.test_dissect import h2_frame, literal

pytestmark = pytest.mark.tshark

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
DER = identities()[1]
CLIENT, SERVER = (hashlib.sha256(DER[name]).hexdigest() for name in ("client.test", "server.test"))

TWO = (
    b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n"
    b"GET /b?sig=planted&sv=1 HTTP/1.1\r\nHost: b\r\nAuthorization: Bearer planted\r\nCookie: a=planted\r\n\r\n"
)
H2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + h2_frame(4, 0, 0, b"")
H2 += h2_frame(1, 5, 1, b"\x82\x87" + literal(b":path", b"/a") + literal(b"authorization", b"Basic planted"))
H2 += h2_frame(1, 5, 3, b"\x83\x87" + literal(b":path", b"/b?md5=planted&expires=1"))

CASES = {
    "mutual": Secure(),
    "declined": Secure(show=False),
    "refused": Secure(show=False, require=True),
    "not asked": Secure(ask=False),
    "mutual 1.2": Secure(V12),
    "declined 1.2": Secure(V12, show=False),
    "not asked 1.2": Secure(V12, ask=False),
    "two requests": Secure(says=TWO, answers=b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n"),
    "h2": Secure(alpn=("h2",), says=H2, answers=h2_frame(4, 0, 0, b"") + h2_frame(1, 5, 1, b"\x88") + h2_frame(1, 5, 3, literal(b":status", b"403"))),
    "first": Secure(),
}  # fmt: skip


class Told:
    """A capture of all cases and what its keys show, by case."""

    def __init__(self, folder: Path) -> None:
        self.path, self.keylog = folder / "tls.pcap", folder / "keys.log"
        wire = Wire()
        self.flows: dict[str, Flow] = {}
        session = None
        for number, (name, made) in enumerate(CASES.items()):
            session = self._talk(wire, name, 40_000 + number, made)
        made = CASES["first"]
        made.session = session
        self._talk(wire, "resumed", 40_100, made)
        made.session = None
        self._talk(
            wire, "nats", 40_101, Secure(says=b"PING\r\n", answers=b"PONG\r\n"), 4224, b'INFO {"tls_required":true}\r\n'
        )
        self._talk(wire, "again", 40_000, Secure(show=False))  # the port of the first, used again
        write(wire, self.path)
        opened, self.certificates, self.problems = decrypt(self.path, list(self.flows.values()), keylog=self.keylog)
        self.opened = dict(zip(self.flows, opened, strict=True))

    def _talk(
        self, wire: Wire, name: str, port: int, made: Secure, server: int = 8889, answers: bytes = b""
    ) -> ssl.SSLSession | None:
        begun = wire.now_ns + wire.step_ns
        isn = 10_000_000 * (len(self.flows) + 1)
        session = secured(
            Talk(wire, cport=port, sport=server, isn_c=isn, isn_s=isn + 5_000_000), self.keylog, made, answers=answers
        )
        self.flows[name] = Flow(
            "tcp", "10.0.1.10", port, "10.0.2.20", server, begun, wire.now_ns, "nats" if server == 4224 else "tls"
        )
        return session

    def __getitem__(self, name: str) -> dict[str, object]:
        opened = self.opened[name]
        assert isinstance(opened, Opened)
        return dict(opened.facts)


@pytest.fixture(scope="module")
def told(tmp_path_factory, tshark) -> Told:
    return Told(tmp_path_factory.mktemp("decrypt"))


@pytest.mark.parametrize("name", ["mutual", "mutual 1.2", "nats"])
def test_mutual_tls_is_proven(told, name):
    facts = told[name]
    assert facts["tls.decrypted"] == "both"
    assert facts["tls.certificate_requested"] is True
    assert facts["tls.client_certificate"] == "sent"
    assert facts["tls.certificate_verify"] is True
    assert facts["tls.client_finished"] is facts["tls.server_finished"] is True
    assert facts["tls.client_certificates"][0] == CLIENT
    assert facts["tls.server_certificates"][0] == SERVER
    assert facts["tls.server_application_data"] is True
    assert told.certificates[CLIENT] == DER["client.test"]
    assert told.certificates[SERVER] == DER["server.test"]


@pytest.mark.parametrize("name", ["declined", "declined 1.2"])
def test_an_empty_certificate_that_is_accepted(told, name):
    facts = told[name]
    assert facts["tls.client_certificate"] == "empty"
    assert "tls.client_certificates" not in facts
    assert "tls.certificate_verify" not in facts
    assert facts["tls.server_application_data"] is True
    assert "tls.server_alert" not in facts


def test_an_empty_certificate_that_is_refused(told):
    facts = told["refused"]
    assert facts["tls.client_certificate"] == "empty"
    assert facts["tls.server_alert"] == ("fatal", "certificate_required")
    assert "tls.server_application_data" not in facts


@pytest.mark.parametrize("name", ["not asked", "not asked 1.2"])
def test_a_server_that_does_not_ask(told, name):
    facts = told[name]
    assert facts["tls.certificate_requested"] is False
    assert facts["tls.client_certificate"] == "not_asked"


def test_a_resumed_session_says_nothing_of_certificates(told):
    facts = told["resumed"]
    assert facts["tls.client_finished"] is True
    assert not {"tls.client_certificate", "tls.certificate_requested", "tls.server_certificates"} & facts.keys()
    assert told["first"]["tls.client_certificate"] == "sent"


def test_a_port_used_again_is_another_connection(told):
    assert told["mutual"]["tls.client_certificate"] == "sent"
    assert told["again"]["tls.client_certificate"] == "empty"


def test_http_inside(told):
    facts = told["mutual"]
    assert facts["http.version"] == "1.1"
    assert facts["http.method"] == "GET"
    assert facts["http.authorization"] == ("none",)
    assert facts["http.signed_url"] == ("none",)
    assert facts["http.statuses"] == (200,)


def test_of_several_requests_each_has_its_own_credentials(told):
    facts = told["two requests"]
    assert facts["http.requests"] == 2
    assert facts["http.authorization"] == ("none", "bearer")
    assert facts["http.signed_url"] == ("none", "azure_sas")
    assert facts["http.cookie"] is True
    assert facts["http.statuses"] == (200, 401)


def test_http_2_inside(told):
    facts = told["h2"]
    assert facts["tls.alpn"] == "h2"
    assert facts["http.version"] == "2"
    assert facts["http.authorization"] == ("basic", "none")
    assert facts["http.signed_url"] == ("none", "nginx")
    assert facts["http.statuses"] == (200, 403)


def test_frames_show_where(told):
    opened = told.opened["mutual"]
    assert opened is not None
    assert opened.frames["tls.client_certificate"] == (6,)
    assert opened.frames["tls.certificate_requested"] == (5,)
    assert opened.frames["http.authorization"] == (8,)
    assert opened.frames.keys() <= opened.facts.keys()


def test_nothing_of_a_credential_is_in_the_facts(told):
    for opened in told.opened.values():
        assert "planted" not in repr(opened)


def test_without_keys_nothing_is_said(told):
    opened, certificates, problems = decrypt(told.path, list(told.flows.values()))
    assert opened == [None] * len(told.flows)
    assert problems == []
    assert certificates == {}


def test_keys_of_another_connection(told, tmp_path):
    other = tmp_path / "other.log"
    other.write_text("CLIENT_RANDOM " + "00" * 32 + " " + "11" * 48 + "\n")
    opened, _, _ = decrypt(told.path, [told.flows["mutual"], told.flows["mutual 1.2"]], keylog=other)
    assert opened == [None, None]


def test_handshake_secrets_alone_are_enough(told, tmp_path):
    """Asked of users so: with these nobody can read what was said."""
    less = tmp_path / "handshake.log"
    less.write_text(
        "".join(line + "\n" for line in told.keylog.read_text().splitlines() if "HANDSHAKE_TRAFFIC" in line)
    )
    opened, _, _ = decrypt(told.path, [told.flows["mutual"], told.flows["declined"]], keylog=less)
    facts = [each.facts for each in opened if each]
    assert [each["tls.client_certificate"] for each in facts] == ["sent", "empty"]
    assert not any(kind.startswith("http.") for each in facts for kind in each)


def test_one_side_s_secrets_say_only_what_that_side_did(told, tmp_path):
    half = tmp_path / "half.log"
    half.write_text(
        "".join(line + "\n" for line in told.keylog.read_text().splitlines() if line.startswith("SERVER_HANDSHAKE"))
    )
    (opened,), _, _ = decrypt(told.path, [told.flows["declined"]], keylog=half)
    assert opened is not None
    assert opened.facts["tls.decrypted"] == "server"
    assert opened.facts["tls.certificate_requested"] is True
    assert "tls.client_certificate" not in opened.facts
    assert "tls.client_finished" not in opened.facts


def test_secrets_inside_the_capture(told, tmp_path):
    editcap = shutil.which("editcap")
    if editcap is None:
        pytest.skip("editcap is not installed (Debian package wireshark-common)")
    path = tmp_path / "dsb.pcapng"
    subprocess.run(
        [editcap, "--inject-secrets", f"tls,{told.keylog}", str(told.path), str(path)], check=True, capture_output=True
    )
    opened, certificates, _ = decrypt(path, [told.flows["mutual"]])
    assert opened[0] == told.opened["mutual"]
    assert CLIENT in certificates


def test_many_connections_are_found_by_their_ports(told, monkeypatch):
    monkeypatch.setattr("auditor.tshark._talks._MAX_NAMED_FLOWS", 1)
    opened, _, _ = decrypt(told.path, list(told.flows.values()), keylog=told.keylog)
    assert opened == list(told.opened.values())


def test_a_lost_packet_takes_facts_away_and_adds_none(told, tmp_path):
    """Without the client's flight nothing is said of its certificate."""
    from scapy.utils import rdpcap, wrpcap

    frames = rdpcap(str(told.path))
    path = tmp_path / "lost.pcap"
    wrpcap(str(path), [each for k, each in enumerate(frames) if k != 5])
    (opened,), _, _ = decrypt(path, [told.flows["mutual"]], keylog=told.keylog)
    assert opened is not None
    assert "tls.client_certificate" not in opened.facts
    assert opened.facts["tls.certificate_requested"] is True


def test_what_is_missing_is_said_in_a_line(told, tmp_path, monkeypatch):
    flow = [told.flows["mutual"]]
    with pytest.raises(InputError, match=r"gone\.log: no such file"):
        decrypt(told.path, flow, keylog=tmp_path / "gone.log")
    empty = tmp_path / "empty.log"
    empty.touch()
    with pytest.raises(InputError, match="is empty"):
        check(empty)
    text = tmp_path / "x.pcap"
    text.write_text("no capture")
    with pytest.raises(InputError, match="tshark cannot read it"):
        decrypt(text, flow)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingToolError, match="tshark is not installed"):
        decrypt(told.path, flow, keylog=told.keylog)
    with pytest.raises(MissingToolError, match="tshark is not installed"):
        check(told.keylog)


def test_the_key_log_is_never_copied(told, tmp_path, monkeypatch):
    """All that tshark gets is its path: what it leaves behind holds no key."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    decrypt(told.path, [told.flows["mutual"]], keylog=told.keylog)
    assert list(tmp_path.rglob("*")) == []


def test_a_capture_that_others_made(public_captures, tshark):
    """Two connections to one web server, their keys inside."""
    flows = [Flow("tcp", "10.0.0.1", 1, "10.0.0.2", 443)]
    path = public_captures / "pcapsql" / "fuzz_pcap_reader" / "tls12-dsb.pcapng"
    said = subprocess.run(
        [tshark, "-n", "-r", str(path), "-Y", "tls.handshake.type==1", "-T", "fields", "-e", "ip.src", "-e", "tcp.srcport", "-e", "ip.dst", "-e", "tcp.dstport"],
        capture_output=True, check=True, text=True,
    ).stdout  # fmt: skip
    for line in said.splitlines():
        src, sport, dst, dport = line.split("\t")
        flows.append(Flow("tcp", src, int(sport), dst, int(dport), application="tls"))
    opened, certificates, problems = decrypt(path, flows)
    assert opened[0] is None
    assert len(opened) == 3
    for each in opened[1:]:
        assert each is not None
        assert each.facts["tls.client_certificate"] == "not_asked"
        assert each.facts["http.statuses"] == (200,)
        assert set(each.facts["tls.server_certificates"]) == set(certificates)
    assert problems == []
