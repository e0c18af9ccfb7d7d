"""Protocol trees: whole, bounded, and without a credential, whatever speaks."""

from __future__ import annotations

import base64
import itertools
import json
import ssl
import subprocess
from pathlib import Path
from urllib.parse import quote

import pytest
from lxml import etree

from auditor.errors import InputError, MissingToolError
from auditor.tshark._tree import collect, frame
from auditor.tshark.dissect import Dissection, Flow, as_json, as_text, display_filter, dissect
from tests.tshark.talks import Secure, Talk, Wire, secured, write
from tests.tshark.test_process import fake

P = "planted"
"""Every secret of these conversations begins so, and nothing else does."""

BASIC = base64.b64encode(f"admin:{P}-basic".encode())


def mysql_packet(number: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "little") + bytes([number]) + body


def conversations(wire: Wire, keylog: Path) -> None:
    """One after another, each with secrets of its own; ports of the client tell them apart."""
    ports = itertools.count(41_000)

    def talk(port: int) -> Talk:
        return Talk(wire, cport=next(ports), sport=port).opens()

    request = (
        f"GET /read/aa/bb?md5={P}-md5&expires=1 HTTP/1.1\r\nHost: blobstore\r\nAuthorization: Basic ".encode()
        + BASIC
        + f"\r\nCookie: SESSION={P}-cookie; a={P}-c2\r\nX-Api-Key: {P}-key\r\nX-Odd: {P}-odd-header\r\n"
        f"Referer: https://u:{P}-ui@h/p?token={P}-ref\r\n\r\n".encode()
    )
    response = (
        f"HTTP/1.1 302 Found\r\nSet-Cookie: sid={P}-set; Path=/\r\nLocation: https://h/cb?code={P}-code#access_token={P}-frag\r\n"
        f'Content-Type: application/json\r\nContent-Length: 31\r\n\r\n{{"access_token":"{P}-json"}}'.encode()
    )
    for port in (80, 8080, 9022, 22, 443, 3306, 53, 4222):  # the same words where something else is expected
        talk(port).says(request).answers(response).closes()
    talk(8080).says(request, mss=7).answers(response, mss=11).closes()
    form = f"grant_type=password&client_secret={P}-form&password={P}%2Fform2".encode()
    talk(8080).says(
        b"POST /oauth/token HTTP/1.1\r\nHost: uaa\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n"
        % len(form)
        + form
    ).answers(
        f"HTTP/1.1 401 {P}\r\nWWW-Authenticate: Bearer realm=x\r\nContent-Length: 0\r\n\r\n".replace(P, "no").encode()
    ).closes()
    for query in (
        f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={P}-ac&X-Amz-Security-Token={P}-st&X-Amz-Signature={P}-s4",
        f"AWSAccessKeyId={P}-ak&Expires=1&Signature={P}-s2%3D",
        f"GoogleAccessId={P}-gi&Expires=1&Signature={P}-gs",
        f"X-Goog-Signature={P}-xg",
        f"sv=2020-08-04&se=2030&sig={P}%2Bsas",
        f"{P}-without-a-name",
    ):
        talk(8080).says(f"GET /b?{query} HTTP/1.1\r\nHost: s3\r\n\r\n".encode()).answers(
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        ).closes()
    late = talk(8080)  # the capture begins within a header
    late.next_c += 5
    late.says(
        f"en: {P}-lost\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nAuthorization: Bearer {P}-bearer\r\n\r\n".encode()
    ).closes()
    talk(4222).answers(b'INFO {"auth_required":true,"nonce":"abc"}\r\n').says(
        f'CONNECT {{"user":"nats","pass":"{P}-nats","auth_token":"{P}-at","jwt":"{P}-jwt","sig":"{P}-sig"}}\r\nPING\r\n'.encode()
    ).answers(b"PONG\r\n").closes()
    split = talk(4222)
    split.answers(b'INFO {"auth_required":true}\r\n').says(f'CONNECT {{"pass":"{P}-na'.encode()).says(
        b'ts2"}\r\n'
    ).closes()
    greeting = (
        b"\x0a8.0.30\0\x07\0\0\0" + b"plantedA" + b"\0\xff\xf7\x21\x02\0\xff\xc1\x15" + bytes(10) + b"plantedB1234\0"
    )
    greeting += b"mysql_native_password\0"
    login = (
        (0x000FA685).to_bytes(4, "little")
        + b"\0\0\0\x01\x21"
        + bytes(23)
        + b"root\0"
        + b"\x14planted0123456789abc"
        + b"db\0"
    )
    login += b"mysql_native_password\0"
    talk(3306).answers(mysql_packet(0, greeting)).says(mysql_packet(1, login)).answers(
        mysql_packet(2, b"\0\0\0\x02\0\0\0")
    ).says(mysql_packet(0, f"\x03CREATE USER x IDENTIFIED BY '{P}-sql'".encode())).answers(
        mysql_packet(1, f"\xff\x15\x04#28000near '{P}-sql'".encode("latin-1"))
    ).closes()
    clear = login[:-22] + b"mysql_clear_password\0"
    talk(3306).answers(mysql_packet(0, greeting)).says(mysql_packet(1, clear)).answers(
        mysql_packet(2, b"\xfemysql_clear_password\0")
    ).says(mysql_packet(3, f"{P}-clear\0".encode())).closes()
    talk(21).answers(b"220 hi\r\n").says(b"USER u\r\n").answers(b"331 pw\r\n").says(
        f"PASS {P}-ftp\r\n".encode()
    ).closes()
    talk(6379).says(f"*2\r\n$4\r\nAUTH\r\n${len(P) + 6}\r\n{P}-redis\r\n".encode()).answers(b"+OK\r\n").closes()
    talk(25).answers(b"220 x\r\n").says(b"AUTH PLAIN " + base64.b64encode(f"\0u\0{P}-smtp".encode()) + b"\r\n").closes()
    talk(110).answers(b"+OK\r\n").says(f"USER u\r\nPASS {P}-pop\r\n".encode()).closes()
    bind = b"\x30\x1c\x02\x01\x01\x60\x17\x02\x01\x03\x04\x04cn=a\x80\x0cplanted-ldap"
    talk(389).says(bind).closes()
    talk(5432).says(b"\0\0\0\x17\0\x03\0\0user\0u\0\0").answers(b"R\0\0\0\x08\0\0\0\x03").says(
        b"p\0\0\0\x11planted-pgsq\0"
    ).closes()
    talk(8080).says(
        b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: cGxhbnRlZC13cy1rZXkhIQ==\r\n"
        b"Sec-WebSocket-Version: 13\r\n\r\n"
    ).answers(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n").says(
        b"\x81\x8a" + bytes(4) + b"planted-ws"
    ).closes()
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        inside = Talk(wire, cport=next(ports), sport=8889)
        secured(inside, keylog, Secure(version=version, says=request, answers=response))
    h2 = Talk(wire, cport=next(ports), sport=8889)
    headers = (
        b"\x82\x87"
        + literal(b":path", f"/x?sig={P}-h2".encode())
        + literal(b"authorization", f"Bearer {P}-h2b".encode())
    )
    headers += literal(b"cookie", f"a={P}-h2c".encode()) + literal(b"x-odd", f"{P}-h2-odd".encode())
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + h2_frame(4, 0, 0, b"") + h2_frame(1, 4, 1, headers)
    preface += h2_frame(0, 1, 1, f'{{"password":"{P}-h2-body"}}'.encode())
    secured(h2, keylog, Secure(alpn=("h2",), says=preface, answers=h2_frame(4, 0, 0, b"") + h2_frame(1, 5, 1, b"\x88")))
    nats = Talk(wire, cport=next(ports), sport=4224)
    secured(
        nats,
        keylog,
        Secure(says=f'CONNECT {{"pass":"{P}-tls"}}\r\nPING\r\n'.encode()),
        answers=b'INFO {"tls_required":true}\r\n',
    )


def literal(name: bytes, value: bytes) -> bytes:
    """A header, never indexed, RFC 7541 section 6.2.3."""
    return b"\x10" + bytes([len(name)]) + name + bytes([len(value)]) + value


def h2_frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + body


@pytest.fixture(scope="module")
def capture(tmp_path_factory, tshark) -> tuple[Path, Path]:
    """A capture of all conversations and its key log."""
    folder = tmp_path_factory.mktemp("dissect")
    wire = Wire()
    conversations(wire, folder / "keys.log")
    return write(wire, folder / "all.pcap"), folder / "keys.log"


def betrayed(text: str) -> list[str]:
    """What of a planted secret is in a text, in whichever form."""
    raw = P.encode()
    forms = {P, raw.hex(), raw.hex(":"), quote(P + "/", safe=""), BASIC.decode()[8:]}
    # In base64 three bytes become four characters: each of three alignments has its own letters.
    for shift in range(3):
        whole = base64.b64encode(b"\0" * shift + raw + b"-").decode()
        forms.add(whole[4 * ((shift + 2) // 3) : 4 * ((shift + len(raw)) // 3)])
    return [form for form in forms if form.lower() in text.lower()]


@pytest.mark.tshark
def test_no_secret_is_shown_of_any_conversation(capture, tshark):
    """Masking, over one tree after another, of all conversations of the capture."""
    path, keylog = capture
    for ways in (
        [],
        ["-o", f"tls.keylog_file:{keylog}"],
        ["-o", f"tls.keylog_file:{keylog}", "-d", "tcp.port==8080,tls", "-d", "tcp.port==8889,tls"],
    ):
        out = subprocess.run(
            [tshark, "-n", "-r", str(path), "-T", "pdml", *ways], capture_output=True, check=True
        ).stdout
        assert len(betrayed(out.decode())) >= 3
        packets = etree.fromstring(out, etree.XMLParser(recover=True, huge_tree=True)).findall("packet")
        streams: dict[str, list] = {}
        for packet in packets:
            stream = next(each.get("show") for each in packet.iter("field") if each.get("name") == "tcp.stream")
            streams.setdefault(stream, []).append(packet)
        assert len(streams) >= 30
        for number, of_stream in streams.items():
            # Also where the frames that give the secret its name are not among those shown.
            for count in {len(of_stream), 5}:
                secrets = collect(of_stream[:count])
                told = Dissection(tuple(frame(each, secrets) for each in of_stream[:count]), False, (), "4")
                for text in ("\n".join(as_text(told)), as_json(told, {})):
                    assert betrayed(text) == [], f"stream {number}"
                    assert text.replace("\n", "").isprintable()


def connection(port: int, server: int, **more) -> Flow:
    return Flow("tcp", "10.0.1.10", port, "10.0.2.20", server, **more)


@pytest.mark.tshark
def test_the_tree_of_http_in_the_clear(capture):
    told = dissect([capture[0]], connection(41_001, 8080))
    text = "\n".join(as_text(told))
    assert told.problems == ()
    assert not told.truncated
    assert len(told.frames) == 8
    assert betrayed(text) == []
    for shown in (
        "Transmission Control Protocol, Src Port: 41001",
        "http.request.uri: /read/aa/bb?md5=(masked)&expires=(masked)",
        "http.authorization: Basic (masked)",
        "Request Method: GET",
        "Host: blobstore",
        "Status Code: 302",
        "http.location: https://h/cb?code=(masked)",
    ):
        assert shown in text
    assert any(line.startswith("        ") for line in text.splitlines()), "nested"


@pytest.mark.tshark
def test_keys_open_the_tree(capture):
    path, keylog = capture
    port = next(int(each) for each in _clients(path, 8889))  # the first of them speaks TLS 1.2
    shut = "\n".join(as_text(dissect([path], connection(port, 8889, application="tls"))))
    opened = as_json(dissect([path], connection(port, 8889, application="tls"), keylog=keylog), {"connection": "x"})
    assert "Handshake Type: Client Hello (1)" in shut
    assert "http.request" not in shut
    assert "commonName=client.test" in opened
    assert "http.authorization: Basic (masked)" in opened
    assert betrayed(shut) == betrayed(opened) == []
    secrets = {line.split()[-1] for line in keylog.read_text().splitlines() if line and not line.startswith("#")}
    assert not any(each in opened for each in secrets)
    whole = json.loads(opened)
    assert whole["schema"] == "auditor.dissect/1"
    assert [each["frame"] for each in whole["frames"]] == sorted(each["frame"] for each in whole["frames"])


def _clients(path: Path, server: int) -> list[str]:
    command = [
        "tshark",
        "-n",
        "-r",
        str(path),
        "-Y",
        f"tcp.dstport=={server} && tcp.flags.syn==1",
        "-T",
        "fields",
        "-e",
        "tcp.srcport",
    ]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout.split()


@pytest.mark.tshark
def test_bounds_of_frames_and_time(capture):
    path = capture[0]
    few = dissect([path], connection(41_001, 8080), limit=3)
    assert (len(few.frames), few.truncated) == (3, True)
    flow = connection(41_001, 8080)
    start = float(few.frames[0]["time"])
    alone = Flow(
        **{
            **{name: getattr(flow, name) for name in flow.__slots__},
            "first_ns": int(start * 1e9) - 1000,
            "last_ns": int(start * 1e9) + 1000,
        }
    )
    assert len(dissect([path], alone).frames) == 1
    twice = dissect([path, path], alone)
    assert [each["frame"] for each in twice.frames] == [few.frames[0]["frame"]] * 2


@pytest.mark.tshark
def test_a_capture_cut_short_is_shown_and_told(capture, tmp_path):
    cut = tmp_path / "cut.pcap"
    cut.write_bytes(capture[0].read_bytes()[:-7])
    told = dissect([cut], connection(41_001, 8080))
    assert len(told.frames) == 8
    assert len(told.problems) == 1
    assert "cut short" in told.problems[0]


@pytest.mark.tshark
def test_what_is_no_capture(tmp_path, tshark):
    path = tmp_path / "x.pcap"
    path.write_bytes(b"this is not a capture at all")
    with pytest.raises(InputError, match=r"x\.pcap: tshark cannot read it"):
        dissect([path], connection(1, 2))
    with pytest.raises(InputError, match="no such file"):
        dissect([tmp_path / "gone.pcap"], connection(1, 2))
    with pytest.raises(InputError, match="no such file"):
        dissect([path], connection(1, 2), keylog=tmp_path / "gone.keys")


def test_without_tshark(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingToolError, match="tshark is not installed"):
        dissect([tmp_path / "x.pcap"], connection(1, 2))


def test_one_that_hangs_is_ended(monkeypatch, tmp_path):
    """pyshark waits for tshark for ever; its process is ended."""
    fake(tmp_path, 'case "$*" in *-v*) echo "TShark (Wireshark) 4.0.17";; *) sleep 60;; esac')
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    path = write(Wire(), tmp_path / "x.pcap")
    with pytest.raises(InputError, match=r"x\.pcap: tshark did not finish in 4 s"):
        dissect([path], connection(1, 2), seconds=4)


@pytest.mark.tshark
def test_preferences_and_plugins_of_the_user_are_not_used(monkeypatch, tmp_path, capture):
    """They could name a key log, or run code."""
    port = int(_clients(capture[0], 8889)[-1])
    folder = tmp_path / ".config" / "wireshark"
    folder.mkdir(parents=True)
    folder.joinpath("preferences").write_text(f"tls.keylog_file: {capture[1]}\n")
    ran = tmp_path / "ran"
    folder.joinpath("init.lua").write_text(f'io.open("{ran}", "w"):close()\n')
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / ".config"))
    monkeypatch.setenv("SSLKEYLOGFILE", str(capture[1]))
    text = "\n".join(as_text(dissect([capture[0]], connection(port, 8889, application="tls"))))
    assert "http" not in text.split("Protocols in frame")[-1].split("Ethernet")[0]
    assert "HyperText Transfer Protocol" not in text
    assert not ran.exists()


def test_filters():
    assert display_filter(Flow("udp", "10.0.0.1", 5, "10.0.0.2", 53, 1_500_000_000_002_000, 0)) == (
        "((ip.src==10.0.0.1 && ip.dst==10.0.0.2 && udp.srcport==5 && udp.dstport==53) || "
        "(ip.src==10.0.0.2 && ip.dst==10.0.0.1 && udp.srcport==53 && udp.dstport==5)) && frame.time_epoch>=1500000.000001000"
    )
    assert display_filter(Flow("icmp6", "::1", None, "::2", None)).endswith("&& icmpv6")
    with pytest.raises(ValueError, match="does not appear to be"):
        display_filter(Flow("tcp", "x || tcp", 1, "10.0.0.2", 2))
