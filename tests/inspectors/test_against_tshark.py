"""TLS, SSH, MySQL and HTTP fields against tshark's, on public captures."""

from __future__ import annotations

import ipaddress
import subprocess
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from auditor.capture import open_capture
from auditor.conntrack import Tracker, conclude, opened_by
from auditor.decode import Decoder
from auditor.inspectors._examine import Examiner
from auditor.wire.tls import version_name
from auditor.wire.tls_ciphers import cipher_name

CAPTURES = [
    "arkime/openssl-tls1.pcap",
    "arkime/openssl-tls1_2.pcap",
    "arkime/curl-enabled-tls13.pcap",
    "arkime/http-digestauth.pcap",
    "arkime/mysql-allow.pcap",
    "arkime/mysql-deny.pcap",
    "ja4/tls12.pcap",
    "ja4/http1-with-cookies.pcapng",
    "ndpi/http_auth.pcap",
    "ndpi/mysql.pcapng",
    "ndpi/tls_client_certificate_with_missing_server_one.pcapng",
    "ndpi/tls_verylong_certificate.pcap",
    "pcapplusplus/PacketExamples/SSL-MultipleRecords1.pcap",
    "pcapplusplus/PacketExamples/SSL-PartialCertificate2.pcap",
    "scapy/ssh_ed25519.pcap",
    "suricata-verify/tls/tls-certs-alert/input.pcap",
    "zeek/mysql/plain-amazon-rds.pcap",
    "zeek/mysql/tls-12-amazon-rds.pcap",
    "zeek/ssh/single-conn.pcap",
    "zeek/ssh/ssh_kex_curve25519.pcap",
]
FIELDS = (
    "tcp.stream", "ip.src", "ipv6.src", "tcp.srcport", "ip.dst", "ipv6.dst", "tcp.dstport", "tls.handshake.type",
    "tls.handshake.extensions_server_name", "tls.handshake.ciphersuite", "tls.handshake.version",
    "tls.handshake.extensions.supported_version", "ssh.protocol", "mysql.version", "http.request.method",
    "http.response.code",
)  # fmt: skip
Ends = frozenset[tuple[str, int]]


@dataclass
class Told:
    """What tshark says of one connection."""

    streams: set[str] = field(default_factory=set)
    types: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    cipher: str | None = None
    version: str | None = None
    ssh: list[str] = field(default_factory=list)
    mysql: list[str] = field(default_factory=list)
    methods: list[str] = field(default_factory=list)
    codes: list[str] = field(default_factory=list)


def by_tshark(tshark: str, path: Path) -> dict[Ends, Told]:
    command = [
        tshark,
        "-n",
        "-r",
        str(path),
        "-Y",
        "tls.handshake or ssh.protocol or mysql.version or http",
        "-T",
        "fields",
    ]
    for each in FIELDS:
        command += ["-e", each]
    lines = subprocess.run([*command, "-E", "aggregator=;"], capture_output=True, text=True, check=False).stdout
    told: dict[Ends, Told] = defaultdict(Told)
    for line in lines.splitlines():
        row = dict(zip(FIELDS, line.split("\t"), strict=True))
        many = {name: [each for each in text.split(";") if each] for name, text in row.items()}
        source, target = row["ip.src"] or row["ipv6.src"], row["ip.dst"] or row["ipv6.dst"]
        if not row["tcp.stream"].isdigit() or ";" in source + target:
            continue
        each = told[frozenset({(source, int(row["tcp.srcport"])), (target, int(row["tcp.dstport"]))})]
        each.streams.add(row["tcp.stream"])
        types = many["tls.handshake.type"]
        each.types += types
        each.names.update(many["tls.handshake.extensions_server_name"])
        if "2" in types and many["tls.handshake.ciphersuite"]:
            each.cipher = many["tls.handshake.ciphersuite"][0]
            each.version = (many["tls.handshake.extensions.supported_version"] or many["tls.handshake.version"])[-1]
        each.ssh += many["ssh.protocol"]
        each.mysql += many["mysql.version"]
        each.methods += many["http.request.method"]
        each.codes += many["http.response.code"]
    return told


def by_us(path: Path) -> dict[Ends, tuple[str, Any]]:
    """Application and facts of each TCP connection whose ends had no other."""
    examiner = Examiner()
    tracker, decoder = Tracker(examiner), Decoder()
    with open_capture(str(path)) as reader:
        for batch in reader.batches():
            for packets in decoder.decode(batch):
                tracker.feed(packets, batch.buf)
        left = decoder.finish()
        if len(left):
            tracker.feed(left, np.zeros(1, np.uint8))
    part = tracker.finish()
    table = conclude(part, *opened_by(part), examiner.applications)

    def text(number: int) -> str:
        address = ipaddress.IPv6Address(number)
        return str(address.ipv4_mapped or address)

    found: dict[Ends, list[tuple[str, Any]]] = defaultdict(list)
    for i in range(len(table)):
        if table.proto[i] == 6:
            ends = frozenset(
                {
                    (text(table.addresses[table.orig_h[i]]), int(table.orig_p[i])),
                    (text(table.addresses[table.resp_h[i]]), int(table.resp_p[i])),
                }
            )
            found[ends].append((table.applications[table.application[i]], table.facts[i] or {}))
    return {ends: one[0] for ends, one in found.items() if len(one) == 1}


@pytest.mark.tshark
@pytest.mark.parametrize("name", CAPTURES)
def test_fields_agree_with_tshark(name: str, tshark: str, public_captures: Path) -> None:
    path = public_captures / name
    theirs, ours = by_tshark(tshark, path), by_us(path)
    compared = 0
    for ends, told in theirs.items():
        if len(told.streams) != 1 or ends not in ours:
            continue
        application, facts = ours[ends]
        if told.types:
            compared += 1
            assert application in {"tls", "https", "mysql"}
            if "1" in told.types:
                assert facts["tls.client_hello"]
                assert facts.get("tls.sni") == (min(told.names) if told.names else None)
            if told.cipher is not None and told.version is not None:
                assert facts["tls.cipher"] == cipher_name(int(told.cipher, 16))
                assert facts["tls.version"] == version_name(int(told.version, 16))
            assert (facts.get("tls.certificate_requested") is True) == ("13" in told.types)
            assert (facts.get("tls.certificate_verify") is True) == ("15" in told.types)
            seen = "tls.server_certificates" in facts or "tls.client_certificate" in facts
            assert seen or "11" not in told.types
        if told.ssh:
            compared += 1
            assert application == "ssh"
            banners = {
                f"SSH-{facts[f'ssh.{side}_version']}-{facts[f'ssh.{side}_software']}"
                for side in ("client", "server")
                if f"ssh.{side}_software" in facts
            }
            assert banners == {banner.strip() for banner in told.ssh}
        if told.mysql:
            compared += 1
            assert application == "mysql"
            assert facts["mysql.server_version"] == told.mysql[0]
        if told.methods or told.codes:
            compared += 1
            assert application == "http"
            if told.methods:
                assert facts["http.method"] == told.methods[0]
            kept = facts.get("http.statuses", ())
            assert list(kept) == [int(code) for code in told.codes][: len(kept)]
    assert compared
