"""Attempts by names: whoever chooses an SNI, a banner, the name of a user, a VM or a file writes to the screens, spreadsheets and shells of others.

One capture has every hostile name in every field that its owner may choose, and so have the files beside it. It is audited once; then every format, page and text
is read by the reader it is for.
"""

from __future__ import annotations

import base64
import csv
import html
import io
import json
import os
import re
import struct
import subprocess
import unicodedata
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pandas as pd
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import auditor
from auditor import cli
from auditor.api import find_format, format_names
from auditor.model.columns import TABLES
from tests.adversary.talk import CLIENT, SERVER, Talk, datagram
from tests.adversary.test_segments import OK, mysql_packet
from tests.capture.make import Blocks

CELL, BRAIN, DATABASE, MYSQL, NATS, CC, STRANGER = (
    "10.0.4.20", "10.0.4.30", "10.0.4.40", "10.0.4.70", "10.0.4.60", "10.0.4.10", "203.0.113.9"
)  # fmt: skip

NAMES = (
    b"<script>document.title='owned'</script>",
    b"\"'><img src=x onerror=document.title='owned'>",
    b"</script></textarea></style><svg onload=document.title='owned'>",
    b"<!--<script>{{7*7}}${7*7}",
    b"javascript:document.title='owned'",
    b"=cmd|' /C calc'!A0",
    b"+1+cmd|' /C calc'!A0",
    b"-2+3+cmd|' /C calc'!A0",
    b"@SUM(1+1)*cmd|' /C calc'!A0",
    b"\t=1+1",
    b"\r=1+1",
    b'line\r\nCEF:0|forged|forged|1|1|forged|10|\r\n{"kind":"finding","forged":1}\n#close\tforged',
    b"\x1b[2J\x1b[31mred\x1b]0;owned\x07",
    b"\x1b]8;;http://evil.example\x1b\\click\x1b]8;;\x1b\\\x1b]52;c;b3duZWQ=\x07\x1bP+q\x1b\\",
    b"c1\x9b2J\x9d0;owned\x9c",
    "c1 \x9b31m\x85next\u2028line\u2029paragraph".encode(),
    b"bell\x07nul\x00back\x08\x08del\x7f",
    "invoice\u202egnp.exe\u2066x\u2069".encode(),
    "pay\u200bpal\u00ad\ufeff\U000e0041\u3164.example".encode(),
    b"bad utf-8 \xff\xfe\xc0\xaf\xed\xa0\x80 end",
    "not in XML \x0b\x0c\ufffe\uffff ]]> &lt; &#x1b;".encode(),
    b"a|b`c```](http://evil.example)![x](http://evil.example/x.png)\n# head\n| - |",
    b"[link]: http://evil.example www.evil.example <http://evil.example>",
    b'label"} 1\nforged_total{x="\\',
    b"$(touch owned-1);`touch owned-2`;touch owned-3\ntouch owned-4\n'$(touch owned-5)'\"$(touch owned-6)\"",
    b"|touch owned-7&&touch owned-8 #!!",
    b"%n%s%x%s{0}{0.__class__}",
    b"../../../../tmp/owned\\..\\owned",
    b"\\x1b\\u202e\\",
    b"long" * 400,
)
"""What each may do is plain from it; whoever obeys one runs a script, a formula, a command, or writes a line of its own."""

# The capture ---------------------------------------------------------------------------------------------------------


def vector(size: int, body: bytes) -> bytes:
    return len(body).to_bytes(size, "big") + body


def record(*messages: tuple[int, bytes]) -> bytes:
    body = b"".join(bytes([kind]) + vector(3, told) for kind, told in messages)
    return b"".join(b"\x16\3\3" + vector(2, body[at : at + 16_000]) for at in range(0, len(body), 16_000))


def client_hello(name: bytes) -> bytes:
    sni = b"\0\0" + vector(2, vector(2, b"\0" + vector(2, name)))
    alpn = b"\0\x10" + vector(2, vector(2, vector(1, name[:200] or b"x")))
    return record((1, b"\3\3" + bytes(range(32)) + b"\0" + vector(2, b"\xc0\x2b") + b"\1\0" + vector(2, sni + alpn)))


KEY = ec.generate_private_key(ec.SECP256R1())


def certificate(name: bytes, serial: int) -> bytes:
    """Signed by itself, with the name in CN, O, SAN (DNS, URI)."""
    text = name.decode("utf-8", "replace")
    ia5 = name.decode("ascii", "replace").replace("\ufffd", "?")
    who = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, text[:64]),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, text[:64]),
        ]
    )
    kinds = (x509.DNSName, x509.UniformResourceIdentifier)
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    made = (
        x509.CertificateBuilder(who, who, KEY.public_key(), serial, begin, begin + timedelta(days=3000))
        .add_extension(x509.SubjectAlternativeName([kind(ia5) for kind in kinds]), critical=False)
        .sign(KEY, hashes.SHA256())
    )
    from cryptography.hazmat.primitives.serialization import Encoding

    return made.public_bytes(Encoding.DER)


def tls(talk: Talk, name: bytes, number: int) -> None:
    """A server that shows the name, and a client that shows it, too."""
    chain = (11, vector(3, vector(3, certificate(name, number + 1))))
    hello = (2, b"\3\3" + bytes(32) + b"\0\xc0\x2b\0")
    asks = (13, vector(1, b"\x40") + vector(2, b"\4\3") + vector(2, b""))
    talk.says(CLIENT, client_hello(name)).says(SERVER, record(hello, chain, asks, (14, b"")))
    talk.says(CLIENT, record(chain, (16, vector(1, b"\4" + bytes(64)))))
    talk.says(CLIENT, b"\x14\3\3\0\1\1" + b"\x16\3\3" + vector(2, bytes(40)))
    talk.says(SERVER, b"\x14\3\3\0\1\1" + b"\x16\3\3" + vector(2, bytes(40)))
    talk.says(CLIENT, b"\x17\3\3" + vector(2, bytes(60)))
    talk.says(SERVER, b"\x17\3\3" + vector(2, bytes(60)))


def line(name: bytes) -> bytes:
    """What can stand in one line."""
    return name.replace(b"\r", b"").replace(b"\n", b"")


def http(talk: Talk, name: bytes, number: int) -> None:
    user = base64.b64encode(name + b":word")
    one = line(name)
    talk.says(
        CLIENT,
        b"GET /" + one.replace(b" ", b"%20") + b" HTTP/1.1\r\nHost: " + one + b"\r\nUser-Agent: " + one + b"\r\nX-" + one
        + b": x\r\nAuthorization: Basic " + user + b"\r\n\r\n",
    )  # fmt: skip
    talk.says(
        SERVER,
        b"HTTP/1.1 200 " + one + b"\r\nServer: " + one + b"\r\nWWW-Authenticate: Basic realm=\"" + one
        + b"\"\r\nContent-Type: " + one + b"\r\nLocation: " + one + b"\r\nContent-Length: 0\r\n\r\n",
    )  # fmt: skip


def nats(talk: Talk, name: bytes, number: int) -> None:
    text = name.decode("latin-1")
    info = {"server_id": text, "server_name": text, "version": text, "host": text, "auth_required": True}
    talk.says(SERVER, b"INFO " + json.dumps(info).encode() + b"\r\n")
    asks = {"user": text, "pass": "word", "name": text, "lang": text, "version": text}
    raw = json.dumps(asks).encode() if number % 2 else json.dumps(asks, ensure_ascii=False).encode("utf-8")
    talk.says(CLIENT, b"CONNECT " + raw + b"\r\nPING\r\n").says(SERVER, b"+OK\r\nPONG\r\n")


def mysql(talk: Talk, name: bytes, number: int) -> None:
    name = name.replace(b"\0", b"")
    greeting = (
        b"\x0a8.0.36-" + line(name)[:40] + b"\0" + struct.pack("<I", 7) + b"abcdefgh\0" + struct.pack("<HBHH", 0xA209, 255, 2, 8)
        + bytes([21]) + bytes(10) + b"ijklmnopqrst\0mysql_native_password\0"
    )  # fmt: skip
    login = (
        struct.pack("<IIB", 0x0008_A209, 1 << 24, 255) + bytes(23) + name + b"\0\0" + name + b"\0" + name[:60] + b"\0"
    )
    talk.says(SERVER, mysql_packet(0, greeting)).says(CLIENT, mysql_packet(1, login)).says(SERVER, OK)


def ssh(talk: Talk, name: bytes, number: int) -> None:
    talk.says(SERVER, b"SSH-2.0-" + line(name)[:240] + b"\r\n").says(CLIENT, b"SSH-2.0-" + line(name)[:240] + b"\r\n")


def smtp(talk: Talk, name: bytes, number: int) -> None:
    talk.says(SERVER, b"220 " + line(name) + b" ESMTP\r\n").says(CLIENT, b"EHLO " + line(name) + b"\r\n")


def unknown(talk: Talk, name: bytes, number: int) -> None:
    talk.says(CLIENT, name).says(SERVER, name)


PROTOCOLS = (
    (tls, CELL, DATABASE, 8889),
    (http, CELL, CC, 9023),
    (nats, CELL, NATS, 4222),
    (mysql, DATABASE, MYSQL, 3306),
    (ssh, BRAIN, CELL, 61_001),
    (smtp, CELL, BRAIN, 8447),
    (tls, CELL, STRANGER, 443),
    (http, STRANGER, CELL, 8080),
    (unknown, CELL, BRAIN, 9091),
)


def dns(name: bytes, number: int) -> bytes:
    """A question and an answer in one."""
    labels = b"".join(vector(1, name[at : at + 60]) for at in range(0, min(len(name), 180), 60)) + b"\0"
    return (
        struct.pack(">HHHHHH", number, 0x8180, 1, 1, 0, 0) + labels + b"\0\1\0\1" + labels + b"\0\1\0\1\0\0\0\x3c\0\4"
        + bytes([203, 0, 113, 9])
    )  # fmt: skip


def crafted() -> bytes:
    """A pcapng: names in comments of the section, interfaces, packets and name records, and in all that is said in it."""
    made = Blocks()
    everywhere = b" ".join(NAMES)[:3000]
    options = {1: everywhere, 2: everywhere, 3: everywhere, 4: everywhere}
    made.block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1) + made.options(options))
    for name in NAMES:
        about = made.options({1: name, 2: name, 3: name, 11: b"\0" + name, 12: name, 15: name})
        made.block(1, struct.pack("<HHI", 1, 0, 0) + about)
    entry = bytes([203, 0, 113, 9]) + NAMES[0] + b"\0"
    made.block(4, struct.pack("<HH", 1, len(entry)) + entry + bytes(-len(entry) % 4) + bytes(4))
    frames = []
    port = 20_000
    for number, name in enumerate(NAMES):
        for say, client, server, service in PROTOCOLS:
            port += 1
            talk = Talk(client, server, service, sport=port, now_ns=1_794_819_601_000_000_000 + port * 10**6).opens()
            say(talk, name, number)
            talk.closes()
            frames += [(now, frame, number) for now, frame, _ in talk.frames]
        asked = datagram(CELL, STRANGER, port, 53, dns(name, number))
        frames.append((1_794_819_601_000_000_000 + port * 10**6, asked, number))
    for now, frame, number in sorted(frames):
        stamp = now // 1_000
        head = struct.pack("<IIIII", number, stamp >> 32, stamp & 0xFFFF_FFFF, len(frame), len(frame))
        made.block(6, head + frame + bytes(-len(frame) % 4) + made.options({1: NAMES[number]}))
    return made.bytes


# What lies beside it -------------------------------------------------------------------------------------------------

TEXTS = [name.decode("utf-8", "replace") for name in NAMES if len(name) < 400]
FILE = "=$(touch owned-1)`touch owned-2`;touch owned-3\n'\"\x1b[31m\x07\x9b2J\u202e\udcff<img src=x onerror=document.title=1>|](x)%n,"
"""The name of a file, as far as one may go; it stands in a folder that ends a script."""


@dataclass(frozen=True, slots=True)
class Given:
    """The files of one audit."""

    folder: Path
    capture: Path
    inventory: Path
    policy: Path
    waivers: Path

    @property
    def options(self) -> list[str]:
        return [
            "--inventory",
            str(self.inventory),
            "--policy",
            "tas",
            "--policy",
            str(self.policy),
            "--strict",
            "--scope",
            "all",
        ]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Given:
    folder = tmp_path_factory.mktemp("names") / "<" / "script>document.title='owned'<" / "script>"
    folder.mkdir(parents=True)
    files = Given(
        folder,
        *(
            folder / f"{kind}{FILE}{end}"
            for kind, end in (("-", ".pcapng"), ("i", ".yml"), ("p", ".yml"), ("w", ".yml"))
        ),
    )
    files.capture.write_bytes(crafted())
    roles = {
        CELL: "diego_cell",
        BRAIN: "diego_brain",
        DATABASE: "diego_database",
        MYSQL: "mysql_proxy",
        NATS: "nats",
        CC: "cloud_controller",
    }
    share = -(-len(TEXTS) // len(roles))
    vms = [
        {"name": f"{' '.join(TEXTS[at * share : (at + 1) * share])}"[:500], "ips": [ip], "roles": [role]}
        for at, (ip, role) in enumerate(roles.items())
    ]  # fmt: skip
    files.inventory.write_text(json.dumps({"schema": "auditor.inventory/1", "networks": ["10.0.0.0/16"], "vms": vms}))
    whole = " ".join(TEXTS)
    overlay = {
        "schema": "auditor.policy/1", "name": "ours", "version": TEXTS[0], "title": whole[:400], "overlay": True,
        "origin": {"title": whole[:400]},
        "paths": [
            {"id": "ours-1", "source": {"vm": "diego_cell"}, "destination": {"vm": "diego_brain"}, "ports": [9999], "application": "TCP",
             "authentication": "none", "footnote": whole[:400]},
        ],
    }  # fmt: skip
    files.policy.write_text(json.dumps(overlay))
    waiver = {
        "rule": "plaintext",
        "match": {"to": "cloud_controller"},
        "reason": whole[:300],
        "owner": TEXTS[0],
        "ticket": TEXTS[12],
        "expires": "2999-01-01",
    }
    files.waivers.write_text(json.dumps({"waivers": [waiver]}))
    return files


@pytest.fixture(scope="module")
def store(given: Given) -> Path:
    return given.folder / "store"


@pytest.fixture(scope="module")
def report(given: Given, store: Path) -> auditor.Report:
    policies = ["tas", str(given.policy)]
    return auditor.audit(
        [str(given.capture)],
        inventory=[str(given.inventory)],
        policy=policies,
        waivers=[str(given.waivers)],
        strict=True,
        scope="all",
        store=store,
    )


def acts(text: str) -> set[str]:
    """Characters that a terminal acts on, turns or hides, and lone surrogates; line feeds are ours."""
    return {each for each in text if unicodedata.category(each) in ("Cc", "Cf", "Cs", "Zl", "Zp")} - {"\n"}


class Elements(HTMLParser):
    """Elements and attributes of a page, as its reader makes them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def harmless(page: str, scripts: int) -> None:
    """No element, attribute or link of a page is a stranger's."""
    assert acts(page) <= {"\t"}
    found = Elements(page).found
    assert (
        sum(tag == "script" and about.get("type") in (None, "text/javascript", "module") for tag, about in found)
        <= scripts
    )
    assert not [tag for tag, _ in found if tag in ("img", "iframe", "object", "embed", "base")]
    for tag, about in found:
        assert not [name for name in about if name.startswith("on")], (tag, about)
        for name in ("href", "src", "action", "xlink:href"):
            assert not re.match(r"\s*(javascript|vbscript|data:text)", about.get(name) or "", re.IGNORECASE), (
                tag,
                about,
            )
            assert "evil.example" not in (about.get(name) or ""), (tag, about)


def test_every_field_reaches_the_report(report: auditor.Report) -> None:
    """Else nothing was tried."""
    told = json.loads(report.to_json())
    kinds = set(report.connections["application"])
    assert {"tls", "http", "nats", "mysql", "ssh", "smtp", "dns", "unknown"} <= kinds
    text = json.dumps(told["connections"], ensure_ascii=False)
    assert text.count("onerror=document.title='owned'") > 20
    for key in ("sni", "user_names", "server_version", "user_name", "server_software", "vantages"):
        assert re.search(rf'"{key}": (\[[^]]*|"[^"]*)<script>', text), key
    assert any("<script>" in name for each in told["certificates"] for name in [each["common_name"], *each["names"]])
    assert any("<script>" in str(each["says"]) for one in told["captures"] for each in one["problems"])
    assert "document.title='owned'" in told["captures"][0]["path"]
    assert (report.findings["waived"].notna()).any()


def parsed(name: str, data: bytes) -> list[str]:
    """What the reader of a format takes for texts; it refuses what is not the format's."""
    text = data.decode()
    if name == "csv":
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
        assert {len(row) for row in rows} == {len(rows[0])}
        cells = [cell for row in rows for cell in row]
        assert not [cell for cell in cells if len(cell) > 1 and cell[0] in "=+-@\t\r"]
        return cells
    if name in ("json", "sarif"):
        return [json.dumps(json.loads(text), ensure_ascii=False)]
    if name in ("ndjson", "ocsf", "ecs"):
        lines = text.split("\n")
        assert not lines.pop()
        records = [json.loads(each) for each in lines]
        assert not [each for each in records if "forged" in each or each.get("kind") == "forged"]
        return [json.dumps(each, ensure_ascii=False) for each in records]
    if name == "cef":
        lines = text.split("\n")
        assert not lines.pop()
        for each in lines:
            head = re.split(r"(?<!\\)\|", each.replace("\\\\", ""), maxsplit=7)
            assert head[:3] == ["CEF:0", "Diego flow auditor", "auditor"]
            keys = re.findall(r"(?:^| )([A-Za-z0-9]+)(?<!\\)=", head[7].replace("\\\\", ""))
            assert len(keys) == len(set(keys)), keys
        return lines
    if name == "junit":
        root = ET.fromstring(data)  # noqa: S314  # our own
        assert {each.tag for each in root.iter()} <= {
            "testsuites", "testsuite", "testcase", "failure", "error", "skipped", "properties", "property", "system-out", "system-err"
        }  # fmt: skip
        return [*root.itertext(), *(value for each in root.iter() for value in each.attrib.values())]
    if name == "markdown":
        bare = re.sub(r"`[^`\n]*`", "", text).replace("\\\\", "")
        assert not re.search(r"(?<!\\)<(?!br)", bare)
        assert not re.search(r"(?<!\\)\]\(http://evil", bare)
        assert not re.search(r"(?m)^# head|^\[link\]:", bare)
    return [text]


@pytest.mark.parametrize("name", format_names())
def test_formats(name: str, report: auditor.Report, tmp_path: Path) -> None:
    """Each is read by its reader, has no character that acts, and has no line, cell or field that a name made."""
    form = find_format(name)
    if form.folder:
        (tmp_path / "out").mkdir()
        report.write(name, tmp_path / "out")
        files = [each for each in (tmp_path / "out").iterdir() if each.suffix == ".log"]
        for each in files:
            lines = each.read_bytes().decode().split("\n")
            assert acts("".join(lines)) <= {"\t"}
            [fields] = [line.count("\t") for line in lines if line.startswith("#fields")]
            assert {line.count("\t") for line in lines if line and line[0] != "#"} <= {fields - 1}
            heads = [line.split("\t")[0] for line in lines if line.startswith("#")]
            assert heads.count("#close") <= 1
        assert files or name != "zeek"
        return
    for table in (None, *(TABLES if form.tables else ())):
        out = io.BytesIO()
        report.write(name, out, table=table)
        if name == "html":
            harmless(out.getvalue().decode(), 2)
            continue
        assert acts(out.getvalue().decode()) == set()
        told = parsed(name, out.getvalue())
        assert table is not None or any("owned" in each for each in told)


def test_a_notebook(report: auditor.Report) -> None:
    shown = report._repr_html_()
    harmless(shown, 0)
    assert "plaintext" in shown


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_printed_commands_run_nothing_but_the_program(
    shell: str, report: auditor.Report, given: Given, tmp_path: Path
) -> None:
    """Pasted into a shell as they stand: in the table, and as the pages copy them."""
    from auditor.incidents.again import next_of

    then = next_of(report.audit)
    name = str(report.findings["id"].iloc[0])
    lines = [
        *then.commands(name),
        then.connection("c1"),
        then.host(f"x;touch owned-9 {FILE}"),
        f"auditor audit {then.again}",
    ]
    bare = next_of(
        replace(report.audit, captures=report.audit.captures.assign(path=pd.Series([given.capture.name], dtype=object)))
    ).commands(name)
    script = "auditor() { for each; do printf '%s\\0' \"$each\"; done; printf '\\n\\0'; }\n"
    from auditor.report._text import escape

    for form in (str, escape):
        told = script + "\n".join(form(each) for each in [*lines, *bare]) + "\n"
        run = subprocess.run(
            [shell], input=told.encode("utf-8", "surrogateescape"), cwd=tmp_path, capture_output=True, check=True
        )
        assert list(tmp_path.iterdir()) == []
        assert run.stderr == b""
        words = run.stdout.split(b"\0")
        assert words.count(b"\n") == len(lines) + len(bare)
        files = [word for word in words if word.endswith(b".pcapng") and b"owned" in word]
        assert files
        assert not [word for word in files if word.startswith(b"-")]
        assert form is escape or os.fsencode(given.capture) in files


@pytest.fixture
def said(capfdbinary: pytest.CaptureFixture[bytes]) -> Callable[..., tuple[int, str]]:
    """Status, and all that a command prints: fit for a terminal, and no mishap."""

    def run(*words: object) -> tuple[int, str]:
        status = cli.main([str(each) for each in words])
        out, err = capfdbinary.readouterr()
        text = out.decode() + err.decode()
        assert acts(text) - {"\t"} == set(), words[:2]
        assert "internal error" not in text, (words[:2], text[-300:])
        return int(status), text

    return run


def test_policies_of_others(said: Callable[..., tuple[int, str]], given: Given) -> None:
    """Shown, checked, compared and exported; also under a name that is no UTF-8."""
    assert said("policy", "check", given.policy)[0] == 0
    assert said("policy", "show", given.policy)[0] == 0
    assert "$(touch" in said("policy", "show", given.policy, "--path", "ours-1")[1]
    assert said("policy", "diff", "tas-diego", given.policy)[0] == 1
    for form in ("json", "yaml", "csv", "markdown"):
        status, text = said("policy", "export", given.policy, "--format", form)
        assert status == 0
        assert not re.search(r"(?m)^touch owned", text)
        if form == "yaml":
            import yaml

            told = yaml.safe_load(text)
            assert told == json.loads(said("policy", "export", given.policy, "--format", "json")[1])
            assert "\u202e" in json.dumps(told, ensure_ascii=False)
        if form == "csv":
            assert not [
                cell for row in csv.reader(io.StringIO(text)) for cell in row if len(cell) > 1 and cell[0] in "=+-@\t\r"
            ]
    for target in ("nftables", "iptables", "csv", "asg", "aws"):
        status, text = said("policy", "export", "tas", given.policy, "--to", target, "--inventory", given.inventory)
        assert status == 0
        assert target in ("aws", "asg") or "touch owned" not in text


def test_drafts_from_captures(said: Callable[..., tuple[int, str]], given: Given) -> None:
    assert said("policy", "suggest", given.capture, "--inventory", given.inventory)[0] == 0
    assert said("inventory", "infer", given.capture)[0] == 0
    for what in ("show", "check", "import"):
        assert said("inventory", what, given.inventory)[0] == 0


@pytest.mark.parametrize("apart", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1e"])
def test_the_name_of_a_vm_begins_no_row_of_an_inventory(
    apart: str, said: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    """A spreadsheet's reader ends a row at line feeds alone."""
    (tmp_path / "vms.csv").write_text(
        f"ip,name\n10.0.4.20,diego_cell/x{apart}10.0.4.66,diego_brain/forged\n".replace(
            f"{apart}10.0.4.66,", f"{apart}10.0.4.66;"
        )
    )
    status, text = said("inventory", "show", tmp_path / "vms.csv")
    assert status == 0
    assert not re.search(r"(?m)^10\.0\.4\.66", text)
    (tmp_path / "vms.csv").write_text(f'ip,name\n10.0.4.20,"diego_cell/x{apart}10.0.4.66,diego_brain/forged"\n')
    status, text = said("inventory", "show", tmp_path / "vms.csv")
    assert status == 0
    assert not re.search(r"(?m)^10\.0\.4\.66", text)


def test_what_a_store_tells(
    said: Callable[..., tuple[int, str]], report: auditor.Report, given: Given, store: Path
) -> None:
    """Also of a capture, an inventory and waivers whose names are no UTF-8."""
    name = str(report.findings["fingerprint"].iloc[0])
    for words in (
        ["history", "list"],
        ["history", "list", "--format", "markdown"],
        ["history", "show"],
        ["history", "query"],
        ["history", "query", "SELECT * FROM findings", "--format", "csv"],
        ["history", "query", "SELECT * FROM captures"],
        ["explain", name],
    ):
        assert said(*words, "--store", store)[0] == 0, words


def test_commands_and_mistakes(said: Callable[..., tuple[int, str]], given: Given, tmp_path: Path) -> None:
    """Each file in the place of another one, files that are not there, and unknown words."""
    gone = given.folder / f"gone{FILE}"
    assert said("connections", given.capture, "--inventory", given.inventory, "--verbose")[0] == 0
    assert said("encryption", given.capture, "--inventory", given.inventory)[0] == 0
    for wrong in (gone, given.inventory):
        for words in (
            ["audit", wrong],
            ["audit", given.capture, "--waivers", wrong],
            ["audit", given.capture, "--policy", wrong],
            ["audit", given.capture, "--ca", wrong],
            ["run", wrong],
            ["run", wrong, "--check"],
            ["history", "list", "--store", wrong],
            ["slice", "--verify", wrong],
            ["explain", wrong],
            ["policy", "check", wrong],
            ["policy", "certificates", wrong],
            ["inventory", "check", gone],
        ):
            assert said(*words)[0] == 2, words[:2]
    for words in (
        ["audit", given.capture, "--format", FILE],
        [FILE],
        ["audit", given.capture, "--output", given.folder],
    ):
        assert said(*words)[0] == 2
    (tmp_path / f"x{FILE}.toml").write_text('store = "s"\n[spool]\nfolders = ["."]\n')
    said("run", tmp_path / f"x{FILE}.toml", "--check")


def test_bundles(said: Callable[..., tuple[int, str]], given: Given, report: auditor.Report, tmp_path: Path) -> None:
    """Names of members are names of files anywhere, the manifest has a line for each, and the README is text."""
    found = str(report.findings["id"].iloc[0])
    target = tmp_path / "b.zip"
    assert (
        said("slice", given.capture, *given.options[:-3], "--finding", found, "--bundle", "--redact", "-w", target)[0]
        == 0
    )
    with zipfile.ZipFile(target) as bundle:
        names = bundle.namelist()
        assert all(re.fullmatch(r"((policy|inventory)/)?[A-Za-z0-9._-]+", name) and ".." not in name for name in names)
        assert len({name.lower() for name in names}) == len(names)
        manifest = bundle.read("MANIFEST.sha256").decode()
        assert len(manifest.splitlines()) == len(names) - 1
        for name in ("README.txt", "MANIFEST.sha256", "verdict.json"):
            assert acts(bundle.read(name).decode()) == set()
        assert "owned" in bundle.read("README.txt").decode()


def test_what_is_sent(report: auditor.Report) -> None:
    """A digest's texts, and lines of the log."""
    from auditor.jobs.config import NotifySection
    from auditor.jobs.digest import digest_of
    from auditor.jobs.log import Log

    whole = [*TEXTS, FILE]
    changes = [
        {"change": kind, "fingerprint": f"{k}", "rule": "plaintext", "severity": "high", "title": text, "path": text}
        for k, text in enumerate(whole)
        for kind in ("new", "gone", "aside", "silent")
    ]
    told = digest_of(
        "team",
        NotifySection.model_validate({"name": "team", "url": "json://127.0.0.1:1", "severity": "info"}),
        changes,
        [1],
        10**18,
    )
    assert told
    for text in (told["title"], told["body"]):
        assert acts(text) == set()
        text.encode()
    assert "\n" not in told["title"]
    assert not re.search(r"(?m)^(touch|forged|CEF)", told["body"])
    for as_json in (True, False):
        lines: list[str] = []
        log = Log(json=as_json, write=lines.append)
        for text in whole:
            log.say("event", text, file=text)
        assert len(lines) == len(whole)
        for line_ in lines:
            assert acts(line_) == set()
            assert "\n" not in line_
            line_.encode()
            assert not as_json or json.loads(line_)["event"] == "event"


def pages_of(review: Any) -> Iterator[tuple[str, str]]:
    """Pages that links lead to, of each kind a few."""
    waiting, seen, kinds = ["/"], set(), {}
    while waiting and len(seen) < 16:
        path = waiting.pop(0)
        kind = re.sub(r"[FcI]?-?[0-9a-f]{10,}", "*", path.partition("?")[0])
        kinds[kind] = kinds.get(kind, 0) + 1
        if path in seen or kinds[kind] > 2:
            continue
        seen.add(path)
        where, _, query = path.partition("?")
        answer = review.answer(where, dict(parse_qsl(query)), None, "/t")
        if answer.status != 200 or b"<html" not in answer.body[:500]:
            continue
        page = answer.body.decode()
        yield path, page
        waiting += [
            html.unescape(each)[2:] or "/" for each in re.findall(r'href="(/t[^"#]*)', page) if "/tree" not in each
        ]


@pytest.mark.night
def test_pages_of_the_review(report: auditor.Report, store: Path, tmp_path: Path) -> None:
    from auditor.review.packets import Library
    from auditor.review.pages import Review

    review = Review(store=store, today=lambda: date(2026, 11, 22), waivers=tmp_path / "w.yml", originals=Library())
    seen = dict(pages_of(review))
    assert len(seen) >= 4
    for page in seen.values():
        harmless(page, 3)
    assert any("owned" in page for page in seen.values())


@pytest.mark.night
def test_a_browser_runs_nothing(report: auditor.Report, chromium: tuple[str, str], tmp_path: Path) -> None:
    """The report as a file, and every connection of it looked at."""
    from tests.browser import started

    report.write("html", tmp_path / "report.html")
    with started(chromium, tmp_path / "profile") as browser:
        browser.open(tmp_path / "report.html")
        browser.ready()
        assert browser.driver.title != "owned"
        assert browser.all("img") == []
        assert "owned" in browser.run("return document.body.textContent")
        assert acts(browser.run("return document.body.textContent")) <= {"\t"}
        assert browser.complaints() == []
