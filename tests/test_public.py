"""Captures that others made, and what Zeek, nDPI, Arkime, tshark and ndpiReader said of them.

Where we differ, the difference has one of a few causes, and each cause is checked against the packets of that very capture: a difference
without a cause that holds fails. The numbers of each class are printed (``pytest -rP``) and may only shrink.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.public import (
    FOLLOWED_ELSEWHERE,
    GRE,
    LINKTYPE_IPV6,
    LINKTYPE_NETLINK,
    TUNNEL_PORTS,
    Evidence,
    Outcome,
    evidence,
    expected,
    key_of,
    outcomes,
    plain,
    told_connections,
)

pytestmark = pytest.mark.slow
TOOLS = {
    "baseline": ("tcp_connections", "udp_connections"),
    "tshark": ("tshark_tcp", "tshark_udp"),
    "ndpiReader": ("ndpiReader42_tcp", "ndpiReader42_udp"),
}
Pair = tuple[str, str]
MALFORMED = "malformed on purpose"


@pytest.fixture(scope="module")
def audits(public_captures: Path) -> dict[str, Outcome]:
    return outcomes(public_captures)


def pairs(row: dict[str, str]) -> dict[str, Pair]:
    """(TCP, UDP) of each tool that said something."""
    found = {tool: (row[tcp], row[udp]) for tool, (tcp, udp) in TOOLS.items()}
    return {tool: pair for tool, pair in found.items() if pair[0].isdigit()}


def test_every_capture_is_audited_or_refused_in_a_line(public_captures: Path, audits: dict[str, Outcome]) -> None:
    refused = {file: found.error for file, found in audits.items() if found.error is not None}
    for file, error in sorted(refused.items()):
        print(file, error)
    assert len(audits) >= 1_000
    priority = {row["file"]: row["priority"] for row in expected(public_captures)}
    assert all(priority[file] == "M" for file in refused), "only malformed captures may be refused"
    assert all(error and "\n" not in error for error in refused.values())


# Counts


def cause_of(row: dict[str, str], tool: str, theirs: Pair, found: Outcome, folder: Path) -> str:
    """Why this tool counts otherwise; ``unexplained`` where the packets show no cause."""
    said = pairs(row)
    seen = evidence(folder / row["file"])
    gaps = [sum(one.gaps for one in seen.keys(transport)) for transport in ("tcp", "udp")]
    reopened = [sum(one.reopened for one in seen.keys(transport)) for transport in ("tcp", "udp")]
    fragments = [sum(one.whole == 0 for one in seen.keys(transport)) for transport in ("tcp", "udp")]
    unsound = [sum(one.sound == 0 for one in seen.keys(transport)) for transport in ("tcp", "udp")]
    translated = (
        [0, 0]
        if found.table is None
        else [
            int((found.table["translated"].notna() & (found.table["transport"] == transport)).sum())
            for transport in ("tcp", "udp")
        ]
    )
    distinct = [len(seen.keys(transport)) for transport in ("tcp", "udp")]
    ours = [int(number) for number in found.pair]
    more = [a - int(b) for a, b in zip(ours, theirs, strict=True)]
    own_splits = [a - b for a, b in zip(ours, distinct, strict=True)]
    if any(gaps) and more == gaps:
        return "silence longer than our time-out, by the packets' clock"
    if any(reopened) and more == reopened:
        return "ports used again with another sequence number"
    if any(unsound) and all(0 <= each <= most for each, most in zip(more, unsound, strict=True)):
        return "headers that contradict themselves, or end too early"
    if any(translated) and more == translated:
        return "two sides of a NAT, told by their numbers"
    if seen.version != 2 and theirs == ("0", "0"):
        return "a version of pcap that the tool refuses"
    if seen.link_types == {LINKTYPE_IPV6} and seen.ip_versions == {4} and theirs == ("0", "0"):
        return "IPv4 where the link type promises IPv6"
    if any(fragments) and more == fragments:
        return "nothing but fragments, whose first names the ports"
    if LINKTYPE_NETLINK in seen.link_types:
        return "several packets in one netlink frame"
    if seen.tunnelled and all(abs(each) <= seen.tunnelled + sum(distinct) for each in more):
        return "layers of a tunnel counted apart"
    if seen.ports & FOLLOWED_ELSEWHERE or (GRE in seen.protocols and not seen.tunnelled):
        return "an encapsulation that is not followed"
    splits = [a + b for a, b in zip(gaps, reopened, strict=True)]
    if all(0 <= own <= most for own, most in zip(own_splits, splits, strict=True)) and all(each <= 0 for each in more):
        # No fewer connections than tuples: whoever has more has split one.
        return "a tuple that the tool splits"
    if tool == "ndpiReader" and said["baseline"] == said.get("tshark"):
        others = said["baseline"]
        if others == found.pair or cause_of(row, "tshark", others, found, folder) != "unexplained":
            return "ndpiReader alone"
    return MALFORMED if row["file"].startswith("malformed/") else "unexplained"


def test_counts(public_captures: Path, audits: dict[str, Outcome]) -> None:
    sure = Counter[str]()
    agree = Counter[str]()
    causes: Counter[tuple[str, str]] = Counter()
    exceptions: Counter[str] = Counter()
    unexplained = []
    for row in expected(public_captures):
        found = audits[row["file"]]
        if found.error is not None:
            continue  # of priority M, as the test above makes sure
        said = pairs(row)
        agree["files"] += 1
        agree["with any tool"] += found.pair in said.values()
        for tool, theirs in said.items():
            agree[tool] += theirs == found.pair
            if theirs == found.pair:
                continue
            cause = cause_of(row, tool, theirs, found, public_captures)
            causes[tool, cause] += 1
            if cause == "unexplained":
                unexplained.append((row["file"], tool, theirs, found.pair))
        if row["counts_agree"] == "all":
            sure["files"] += 1
            sure["equal"] += said["baseline"] == found.pair
            if said["baseline"] != found.pair:
                exceptions[cause_of(row, "baseline", said["baseline"], found, public_captures)] += 1
    print(dict(agree), "where all tools agree:", dict(sure))
    for (tool, cause), number in sorted(causes.items()):
        print(f"{number:4}  {tool:10}  {cause}")
    print("where all tools agree and we do not:", dict(exceptions))
    assert not unexplained
    assert sure["files"] >= 943 and sure["equal"] >= 932
    assert agree["with any tool"] >= 996
    assert exceptions <= Counter(
        {
            "silence longer than our time-out, by the packets' clock": 3,
            "ports used again with another sequence number": 2,
            "layers of a tunnel counted apart": 2,
            "several packets in one netlink frame": 1,
            "headers that contradict themselves, or end too early": 1,
            "two sides of a NAT, told by their numbers": 1,
            MALFORMED: 1,
            "a version of pcap that the tool refuses": 1,
        }
    )
    assert sum(causes.values()) <= 130


# TLS

VERSIONS = {"SSLv3": "SSL 3.0", "TLSv10": "TLS 1.0", "TLSv11": "TLS 1.1", "TLSv12": "TLS 1.2", "TLSv13": "TLS 1.3"}
VERSIONS |= {"DTLSv10": "DTLS 1.0", "DTLSv12": "DTLS 1.2", "TLSv13-draft23": "TLS 1.3 draft 23"}


def test_tls_as_zeek_logged_it(public_captures: Path, audits: dict[str, Outcome]) -> None:
    rows = 0
    for file, told in told_connections(public_captures).items():
        for each in told:
            if each["record"] != "ssl":
                continue
            rows += 1
            ends = (each["orig_ip"], each["orig_port"]), (each["resp_ip"], each["resp_port"])
            by_key = audits[file].by_key
            found = [one for name in ("tcp", "udp") for one in by_key.get(key_of(name, *ends), []) if one.tls]
            assert found, (file, ends)
            one = max(
                found, key=lambda row: "version" in row.tls
            )  # ports may be used again, for what did not get so far
            assert (plain(one.originator_ip), str(one.originator_port)) == (plain(ends[0][0]), ends[0][1])
            if each["tls_version"] not in {"", "-"}:
                assert one.tls["version"] == VERSIONS[each["tls_version"]], file
            if each["sni"] not in {"", "-"}:
                assert one.tls["sni"] == each["sni"], file
            if each["client_cert"] == "sent":
                assert one.tls["client_certificate"] == "sent", file
            if each["client_cert"] in {"none-in-clear", "requested-not-sent", "empty"}:
                assert one.tls.get("client_certificate") != "sent", file
    assert rows == 20


# Applications

SOURCES = {
    "zeek baseline": "Zeek",
    "arkime .test baseline": "Arkime",
    "nDPI .out baseline": "nDPI",
    "tshark 4.0.17": "tshark",
}
OURS = {"tls": {"tls", "https"}, "http": {"http", "websocket"}}
WRAPPERS = {
    "socks",
    "openvpn",
    "capwap",
    "rdpudp",
    "stun",
    "sip",
    "mptcp",
    "rtcp",
    "ayiya",
    "gtp",
    "geneve",
    "vxlan",
    "pppoe",
}


def claimed(source: str, service: str) -> str | None:
    """Which of the protocols compared here a tool's service column names."""
    text = service.lower()
    if source == "nDPI":
        first = text.split(".")[0].removesuffix("_proxy")
        return first if first in {"tls", "http", "dns", "ssh", "mysql", "nats", "quic", "dtls"} else None
    words = set(re.split(r"[/,]", text))
    for word in ("quic", "dtls"):
        if word in words:
            return word
    if words & {"tls", "ssl"}:
        return "tls"
    return next((word for word in ("ssh", "mysql", "nats", "http", "dns") if word in words), None)


def begins_as(protocol: str, data: bytes) -> bool:
    """Whether the first payload of an end could begin that protocol: looser than our inspectors, and apart from them."""
    if protocol == "tls":
        return bool(re.match(rb"[\x14-\x17]\x03[\x00-\x04]|\x80.\x01\x03", data, re.DOTALL)) and len(data) > 5
    if protocol == "http":
        return bool(re.match(rb"[A-Z]{3,11} \S+|HTTP/1|PRI \* HTTP/2", data)) and b" " in data
    if protocol == "ssh":
        return data.startswith(b"SSH-")
    if protocol == "mysql":
        return len(data) > 16 and data[3:5] == b"\x00\x0a" and any(data[12:40])
    if protocol == "dns":
        for at in (0, 2):
            head = data[at : at + 12]
            if (
                len(head) == 12
                and head[2] >> 3 & 15 <= 6
                and head[4:6] == b"\0\1"
                and head[6] == 0
                and data[at + 12 : at + 13] < b"\x40"
            ):
                return True
        return False
    if protocol == "quic":
        return (
            len(data) > 20
            and data[0] & 0xC0 == 0xC0
            and data[1:5] in {b"\0\0\0\1", b"\x6b\x33\x43\xcf", b"\xff\0\0\x1d"}
        )
    assert protocol == "dtls"
    return bool(re.match(rb"[\x14-\x17]\xfe[\xfd-\xff]", data))


def excuse(protocol: str, service: str, key: Any, rows: list[Any], seen: Evidence) -> str:
    """Why we do not say what a tool says; ``unexplained`` where the packets show no cause."""
    if not rows:
        if seen.ports & TUNNEL_PORTS or seen.tunnelled or GRE in seen.protocols:
            return "tunnelled: tuple not followed, or named by the ports of another layer"
        return "several packets in one netlink frame" if LINKTYPE_NETLINK in seen.link_types else "unexplained"
    if not any(row.payload_bytes for row in rows):
        return "no payload: named by port"
    data = [each for each in seen.payloads(key) if each]
    if set(re.split(r"[/,]", service.lower())) & WRAPPERS or any(each[4:8] == b"\x21\x12\xa4\x42" for each in data):
        return "inside another protocol (SOCKS, OpenVPN, CAPWAP, STUN, ...)"
    if all(row.history.startswith("^") for row in rows) and rows[0].transport == "tcp":
        return "first bytes not captured"
    if not any(begins_as(protocol, each) for each in data):
        return "does not begin so: other content, other version, or too little"
    return "unexplained"


def test_applications(public_captures: Path, audits: dict[str, Outcome]) -> None:
    agree: Counter[tuple[str, str, bool]] = Counter()
    causes: Counter[str] = Counter()
    unexplained = []
    for file, told in told_connections(public_captures).items():
        for each in told:
            source = SOURCES[each["truth_source"]]
            protocol = claimed(source, each["service"])
            if protocol is None or each["record"] not in {"conn", "stream", "flow", "session"}:
                continue
            ends = (each["orig_ip"], each["orig_port"]), (each["resp_ip"], each["resp_port"])
            key = key_of(each["proto"], *ends)
            rows = audits[file].by_key.get(key, [])
            good = {row.application for row in rows} & OURS.get(protocol, {protocol})
            same = bool(good) or (protocol == "tls" and any(row.tls for row in rows))
            agree[protocol, source, same] += 1
            if not same:
                cause = excuse(protocol, each["service"], key, rows, evidence(public_captures / file))
                if cause == "unexplained" and file.startswith("malformed/"):
                    cause = MALFORMED
                causes[cause] += 1
                if cause == "unexplained":
                    unexplained.append((file, source, each["service"], key, [row.application for row in rows]))
    print("protocol  said by    agree  differ")
    for protocol, source in sorted({(protocol, source) for protocol, source, _ in agree}):
        print(f"{protocol:8}  {source:8}  {agree[protocol, source, True]:6} {agree[protocol, source, False]:7}")
    for cause, number in causes.most_common():
        print(f"{number:4}  {cause}")
    assert not unexplained
    share = {
        protocol: sum(n for (p, _, same), n in agree.items() if p == protocol and same)
        / sum(n for (p, _, _), n in agree.items() if p == protocol)
        for protocol in {protocol for protocol, _, _ in agree}
    }
    print({protocol: round(value, 3) for protocol, value in sorted(share.items())})
    assert share["dns"] >= 0.98 and share["http"] >= 0.94 and share["mysql"] >= 0.9
    assert share["tls"] >= 0.87 and share["ssh"] >= 0.8
    assert sum(n for (_, _, same), n in agree.items() if same) >= 1_500


# Zeek's conn.log

LETTERS = "ShHaAdDfFrRs"


def logged(path: Path) -> list[dict[str, str]]:
    """Rows of a Zeek log."""
    fields: list[str] = []
    rows = []
    for line in path.read_text().splitlines():
        if line.startswith("#fields"):
            fields = line.split("\t")[1:]
        elif not line.startswith("#"):
            rows.append(dict(zip(fields, line.split("\t"), strict=False)))
    return rows


def letters(history: str) -> str:
    """History without what we do not tell or tell elsewhere: each letter once, no mark of a guess."""
    return "".join(dict.fromkeys(letter for letter in history if letter in LETTERS))


def seen_by(row: Any, turned: bool) -> tuple[Any, ...]:
    """What is compared of ours: ends, history, packets and bytes; ``turned``: with its ends exchanged."""
    ends = [(row.originator_ip, str(row.originator_port)), (row.responder_ip, str(row.responder_port))]
    counts = [(row.originator_packets, row.originator_bytes), (row.responder_packets, row.responder_bytes)]
    text = letters(row.history)
    if turned:
        return *ends[::-1], text.swapcase(), *counts[::-1]
    return *ends, text, *counts


def test_connections_as_zeek_logged_them(public_captures: Path, audits: dict[str, Outcome]) -> None:
    same: Counter[str] = Counter()
    other: Counter[str] = Counter()
    unexplained = []
    for row in expected(public_captures):
        for name in filter(None, (each.strip() for each in row["truth_files"].split(";"))):
            if not name.endswith("conn.log") or not (public_captures / name).exists():
                continue
            by_key: dict[Any, list[dict[str, str]]] = {}
            for each in logged(public_captures / name):
                if each.get("proto") in {"tcp", "udp"} and "id.orig_h" in each:
                    ends = (each["id.orig_h"], each["id.orig_p"]), (each["id.resp_h"], each["id.resp_p"])
                    by_key.setdefault(key_of(each["proto"], *ends), []).append(each)
            for key, theirs in by_key.items():
                ours = audits[row["file"]].by_key.get(key, [])
                verdict = compare(theirs, ours, key, evidence(public_captures / row["file"]))
                (same if verdict == "same" else other)[verdict] += 1
                if verdict == "unexplained":
                    unexplained.append((row["file"], key, theirs, [seen_by(one, False) for one in ours]))
    total = same["same"] + sum(other.values())
    print(
        f"{same['same']} of {total} tuples of Zeek's conn logs: same originator, state, history, packets, bytes, missed bytes"
    )
    for cause, number in other.most_common():
        print(f"{number:4}  {cause}")
    assert not unexplained
    alike = same["same"] + other["the same, but Zeek counts packets that were captured twice"]
    assert alike >= 108 and alike / total >= 0.83


def packets_of(row: Any) -> int:
    return int(row.originator_packets + row.responder_packets)


def compare(theirs: list[dict[str, str]], ours: list[Any], key: Any, seen: Evidence) -> str:
    """``same``, or why not."""
    if not ours:
        tunnelled = seen.ports & FOLLOWED_ELSEWHERE or GRE in seen.protocols
        return "inside an encapsulation that is not followed" if tunnelled else "unexplained"
    if len(theirs) > len(ours) == 1:
        # Zeek ends a connection with its RST or its time-out, and takes up what comes later as another.
        packets = sum(int(each["orig_pkts"]) + int(each["resp_pkts"]) for each in theirs)
        ended = "R" in ours[0].history.upper() or (key[0] == "udp" and ours[0].duration > 10)
        whole = packets == packets_of(ours[0])
        return "Zeek splits a tuple, and its parts add up to ours" if ended and whole else "unexplained"
    if len(theirs) != len(ours) or len(ours) != 1:
        return "unexplained"
    each, one = theirs[0], ours[0]
    copies = one.originator_copies + one.responder_copies
    said = (
        (each["id.orig_h"], each["id.orig_p"]),
        (each["id.resp_h"], each["id.resp_p"]),
        letters(each["history"]),
        (int(each["orig_pkts"]), int(each["orig_ip_bytes"])),
        (int(each["resp_pkts"]), int(each["resp_ip_bytes"])),
    )
    ours_twice = tuple(
        (one.originator_ip, str(one.originator_port)) == said[0] and count + again
        for count, again in (
            (one.originator_packets, one.originator_copies),
            (one.responder_packets, one.responder_copies),
        )
    )
    if copies and said[:3] == seen_by(one, False)[:3] and ours_twice == (said[3][0], said[4][0]):
        return "the same, but Zeek counts packets that were captured twice"
    if said == seen_by(one, False) and each["conn_state"] == one.conn_state:
        return "same" if int(each["missed_bytes"]) == one.missed_bytes else "unexplained"
    if said == seen_by(one, True) and one.direction_by == "guess" and "^" in each["history"]:
        return "Zeek turns a guess round by port, which decides nothing here"
    fragments = [at for (k, _, _), at in seen.seen.items() if k == key and at.whole < at.packets]
    if fragments and said[2] == letters(one.history) and said[3][0] < one.originator_packets:
        return "Zeek counts a datagram once that came in fragments"
    if "^" in each["history"] and said[3][0] + said[4][0] == packets_of(one) and key[0] == "udp":
        return "Zeek turned the ends round in the middle"
    return "unexplained"
