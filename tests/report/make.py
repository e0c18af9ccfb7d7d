"""A hand-made audit with every kind of column in it, for tests of the reports.

Twenty-five documented paths, thirty connections, twelve findings, three captures: one of them damaged, texts from the wire that mean harm,
nulls wherever a null may be.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from auditor.model.audit import Audit
from auditor.model.columns import CAPTURES, CONNECTIONS, COVERAGE, FINDINGS, Column

START_NS = 1_763_800_000_123_456_000

HOSTILE = (
    "\x1b]0;owned\x07\x1b[31mred.example",  # title and colour
    "invoice\u202egnp.exe",  # right to left override
    "pay\u200bpal.example\ufeff",  # zero width
    "a|b`c`<script>alert(1)</script>",  # Markdown and HTML
    '=HYPERLINK("http://evil.example")',  # a spreadsheet's formula
    "latin1-\udce9-not-utf8",  # a byte that is no UTF-8
    "line\r\nbreak\tand\x9b2Jclear\x7f",  # C1 CSI, DEL
    "[bold]markup[/bold] ](http://evil.example)",
    "tag\U000e0041\u2066isolate\u2069",
)
"""Names as an attacker would choose them: SNI, instance names, file names."""

_ROWS = (
    ("cloud_controller", "diego_database (BBS)", "8889", "HTTPS", "Mutual TLS"),
    ("cloud_controller (Routing API)", "diego_database (Locket)", "8891", "HTTPS", "Mutual TLS"),
    ("diego_brain (Auctioneer)", "diego_cell (Rep)", "1801", "HTTPS", "Mutual TLS"),
    ("diego_brain (Auctioneer)", "diego_database (BBS)", "8889", "HTTPS", "Mutual TLS"),
    ("diego_brain (Auctioneer)", "diego_database (Locket)", "8891", "HTTPS", "Mutual TLS"),
    ("diego_brain (SSH Proxy)", "diego_database (BBS)", "8889", "HTTPS", "Mutual TLS"),
    ("diego_brain (SSH Proxy)", "diego_cell (App instances)", "Varies", "SSH", "SSH"),
    ("diego_brain (TPS Watcher)", "diego_database (Locket)", "8891", "HTTPS", "Mutual TLS"),
    ("diego_cell (local Route Emitter)", "diego_database (BBS)", "8889", "HTTPS", "Mutual TLS"),
    ("diego_cell (Rep)", "diego_brain (CC Uploader)", "9091", "HTTPS", "Mutual TLS"),
    ("diego_cell (Rep)", "diego_brain (File Server)", "8447", "HTTPS", "TLS"),
    ("diego_cell (Rep)", "diego_database (BBS)", "8889", "HTTPS", "Mutual TLS"),
    ("diego_cell (Rep)", "diego_database (Locket)", "8891", "HTTPS", "Mutual TLS"),
    ("diego_database (BBS)", "diego_brain (Auctioneer)", "9016", "HTTPS", "Mutual TLS"),
    ("diego_database (BBS)", "diego_cell (Rep)", "1801", "HTTPS", "Mutual TLS"),
    ("diego_database (BBS)", "diego_database (Locket)", "8891", "HTTPS", "Mutual TLS"),
    ("diego_brain", "cloud_controller", "9023", "HTTPS", "Mutual TLS"),
    ("diego_brain (SSH Proxy)", "cloud_controller", "9024", "HTTPS", "OAuth 2.0"),
    ("diego_brain (SSH Proxy)", "uaa", "443", "HTTPS", "TLS and OAuth 2.0"),
    ("diego_cell (local Route Emitter)", "nats", "4222, 4223, 4224, 4225", "NATS", "Basic authentication"),
    ("diego_cell (Rep)", "cloud_controller", "9023", "HTTPS", "Mutual TLS"),
    ("diego_cell (Rep)", "nfs_server or other blobstore", "Varies", "HTTP", "Signed URLs/TLS"),
    ("diego_database (BBS)", "cloud_controller", "9023", "HTTPS", "Mutual TLS"),
    ("diego_database (BBS)", "mysql_proxy", "3306", "MySQL", "MySQL authentication"),
    ("diego_database (Locket)", "mysql_proxy", "3306", "MySQL", "MySQL authentication"),
)


def _evidence(kind: str, value: Any, *frames: int, certainty: str = "proven", capture: int = 0) -> dict[str, Any]:
    return {"kind": kind, "value": value, "certainty": certainty, "frames": [[capture, frame] for frame in frames]}


def _connection(number: int, **given: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": f"c{number:015x}",
        "community_id": f"1:{number:027d}=",
        "start": START_NS + number * 1_000_250_000,
        "duration": round(0.25 * number + 0.000001, 6),
        "transport": "tcp",
        "conn_state": "SF",
        "history": "ShADadFf",
        "originator_ip": f"10.0.4.{10 + number % 4}",
        "originator_port": 40000 + number,
        "originator_instance": f"diego_cell/{number % 4}",
        "originator_role": "diego_cell",
        "originator_roles": ("diego_cell",),
        "originator_component": "rep",
        "originator_packets": 12 + number,
        "originator_bytes": 3456 + number,
        "originator_copies": number % 3,
        "responder_ip": "10.0.4.40",
        "responder_port": 8889,
        "responder_instance": "diego_database/0",
        "responder_role": "diego_database",
        "responder_roles": ("diego_database",),
        "responder_component": "bbs",
        "responder_packets": 10 + number,
        "responder_bytes": 9876,
        "responder_copies": 0,
        "missed_bytes": 0,
        "direction_by": "syn",
        "vantages": (),
        "sightings": (),
        "tunnel": None,
        "translated": None,
        "application": "tls",
        "disposition": "documented",
        "paths": ("diego-12",),
        "near_miss": None,
        "authentication_required": "mutual_tls",
        "authentication_observed": "mutual_tls",
        "authentication_verdict": "verified",
        "authentication_confidence": "high",
        "authentication_outcome": "served",
        "authentication_factors": (
            {"name": "mutual_tls", "verdict": "verified", "says": "client certificate and accepted"},
        ),
        "authentication_evidence": (
            _evidence("tls.client_certificate", "sent", 9 + number),
            _evidence("tls.version", "TLS 1.2", 5 + number),
        ),
        "tls": {
            "version": "TLS 1.2",
            "cipher": "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
            "sni": "bbs.service.cf.internal",
            "alpn": None,
            "resumed": False,
            "client_certificate": "sent",
        },
        "ssh": None,
        "mysql": None,
        "nats": None,
        "http": None,
        "findings": (),
        "outcome": "established",
        "breach": None,
        "would_be": None,
        "says": "documented",
        "sibling": None,
        "capture": 0,
        "first_frame": 1 + number * 7,
        "payload_bytes": 4000,
        "incomplete": "",
        "facts": None,
    }
    unknown = set(given) - set(row)
    assert not unknown, unknown
    return {**row, **given}


_NONE = {
    "authentication_required": None,
    "authentication_observed": None,
    "authentication_verdict": "not_applicable",
    "authentication_confidence": None,
    "authentication_outcome": "unknown",
    "authentication_factors": (),
    "authentication_evidence": (),
    "tls": None,
    "originator_component": None,
    "responder_component": None,
}


def connections() -> list[dict[str, Any]]:
    rows = [_connection(number) for number in range(8)]
    rows += [  # 8: TLS without the client's certificate, accepted
        _connection(
            8,
            paths=("diego-03",),
            originator_role="diego_brain",
            originator_roles=("diego_brain",),
            originator_component="auctioneer",
            responder_role="diego_cell",
            responder_roles=("diego_cell",),
            responder_port=1801,
            responder_ip="10.0.4.11",
            authentication_verdict="violated",
            authentication_outcome="served",
            authentication_observed="tls",
            authentication_confidence="medium",
            authentication_factors=({"name": "mutual_tls", "verdict": "violated", "says": "no client certificate"},),
            tls={
                "version": "TLS 1.3",
                "cipher": "TLS_AES_128_GCM_SHA256",
                "sni": None,
                "client_certificate": "inferred_absent",
            },
            findings=("f02",),
        ),
        _connection(  # 9: plaintext where TLS is documented, from a machine that names itself badly
            9,
            application="http",
            authentication_verdict="violated",
            authentication_outcome="served",
            authentication_observed="none",
            tls=None,
            http={"method": "POST", "host": HOSTILE[6], "authorization": None, "status": 200},
            originator_instance=HOSTILE[0],
            findings=("f01",),
        ),
    ]
    for number in range(10, 13):  # undeclared port, near miss
        rows.append(
            _connection(
                number,
                **_NONE | {"authentication_evidence": (_evidence("http.request", True, 4, capture=1),)},
                responder_role="diego_cell",
                responder_ip="10.0.4.13",
                responder_roles=("diego_cell", "rep"),
                disposition="undeclared",
                paths=(),
                responder_port=1800,
                application="http",
                near_miss={"path": "diego-03", "differs": "port", "says": "diego-03 documents 1801, not 1800"},
                findings=("f03",),
                breach="port",
                says="documented on 1801",
                capture=1,
            )
        )
    for number in range(13, 18):  # BOSH DNS, which a sibling overlay explains
        rows.append(
            _connection(
                number,
                **_NONE,
                transport="udp",
                conn_state="SF",
                history="Dd",
                responder_port=53,
                responder_ip="10.0.0.9",
                responder_instance=None,
                responder_role=None,
                responder_roles=(),
                application="dns",
                disposition="undeclared",
                paths=(),
                near_miss=None,
                findings=("f04",),
                breach="unknown_host",
                sibling="bosh-dns",
            )
        )
    rows += [
        _connection(
            18,
            **_NONE,
            transport="icmp",
            originator_port=None,
            responder_port=None,
            application="none",
            conn_state="OTH",
            history="",
            disposition="ambient",
            paths=("ping",),
        ),
        _connection(
            19,
            **_NONE,
            responder_ip="203.0.113.7",
            responder_port=443,
            responder_instance=None,
            responder_role=None,
            responder_roles=(),
            disposition="ambient",
            paths=(),
            findings=("f08",),
            breach="cell_egress",
        ),
        _connection(
            20,
            **_NONE | {"originator_ip": "2001:db8::15", "responder_ip": "2001:db8::16", "application": "unknown"},
            disposition="out_of_scope",
            paths=(),
            originator_role="router",
            originator_roles=("router",),
            responder_role="uaa",
            responder_roles=("uaa",),
            responder_port=8443,
        ),
        _connection(
            21,
            authentication_verdict="unverifiable",
            authentication_observed=None,
            authentication_confidence=None,
            authentication_evidence=(_evidence("capture.midstream", None, certainty="inferred"),),
            tls=None,
            application="unknown",
            conn_state="OTH",
            history="^dA",
            direction_by="listener",
            missed_bytes=14600,
            findings=("f09", "f10"),
            incomplete="midstream,gap",
            capture=2,
        ),
        _connection(
            22,
            authentication_verdict="inherited",
            tunnel={"kind": "vxlan", "id": 5001, "outer": "c" + "0" * 14 + "1"},
            vantages=("cell-0 eth0", "db-0 eth0"),
        ),
        _connection(
            23,
            paths=("diego-24", "diego-25"),
            application="mysql",
            responder_port=3306,
            responder_role="mysql_proxy",
            responder_roles=("mysql_proxy",),
            responder_component=None,
            originator_role="diego_database",
            originator_roles=("diego_database",),
            authentication_required={"all": ["tls", "oauth2"]},
            authentication_verdict="rejected",
            authentication_outcome="refused",
            tls=None,
            mysql={"version": HOSTILE[3], "plugin": "mysql_native_password"},
            findings=("f07",),
        ),
        _connection(
            24,
            paths=("diego-20",),
            application="nats",
            responder_port=4222,
            responder_role="nats",
            responder_roles=("nats",),
            tls=None,
            authentication_required="basic",
            authentication_verdict="inferred",
            nats={"auth_required": True, "tls_required": False},
            responder_component=None,
        ),
        _connection(
            25,
            paths=("diego-07",),
            application="ssh",
            responder_port=61002,
            responder_role="diego_cell",
            responder_roles=("diego_cell",),
            tls=None,
            authentication_required="ssh",
            authentication_verdict="inferred",
            ssh={"client": HOSTILE[1], "server": "SSH-2.0-diego-ssh"},
            responder_component=None,
        ),
        _connection(
            26,
            responder_instance=HOSTILE[4],
            originator_instance=HOSTILE[7],
            tls={"version": "TLS 1.2", "sni": HOSTILE[2], "client_certificate": "sent"},
        ),
        _connection(
            27,
            originator_instance=HOSTILE[5],
            tls={"version": "TLS 1.2", "sni": HOSTILE[8], "client_certificate": "sent"},
        ),
        _connection(
            28,
            **_NONE,
            conn_state="S0",
            history="S",
            responder_port=2222,
            disposition="undeclared",
            paths=(),
            application="none",
            near_miss={"path": "diego-07", "differs": "port", "says": HOSTILE[3]},
            outcome="attempt",
            findings=("f06",),
            breach="attempt",
            would_be="port",
            responder_bytes=0,
            responder_packets=0,
            duration=0.0,
        ),
        _connection(
            29,
            **_NONE,
            conn_state="REJ",
            history="Sr",
            disposition="undeclared",
            paths=(),
            application="none",
            near_miss={"path": "diego-10", "differs": "direction", "says": "diego-10 leads the other way"},
            findings=("f05",),
            breach="connection",
            start=START_NS + 29 * 1_000_250_000 + 789,
            capture=2,
        ),
    ]
    return rows


def _finding(number: int, rule: str, severity: str, rows: list[int], **given: Any) -> dict[str, Any]:
    starts = [START_NS + row * 1_000_250_000 for row in rows]
    row = {
        "id": f"f{number:02d}",
        "fingerprint": f"{number:032x}",
        "status": None,
        "rule": rule,
        "severity": severity,
        "confidence": "high",
        "title": f"{rule} on a path",
        "detail": f"{len(rows)} connections show it.",
        "connections": tuple(f"c{row:015x}" for row in rows),
        "evidence": (_evidence("connection.first_frame", True, *(1 + row * 7 for row in rows[:2])),),
        "count": len(rows),
        "first_seen": min(starts),
        "last_seen": max(starts) + 250_000_000,
        "path": None,
        "remediation": "Find out who opened it; block it, or have the path documented.",
        "waived": None,
    }
    return {**row, **given}


def findings() -> list[dict[str, Any]]:
    return [
        _finding(
            1,
            "plaintext",
            "critical",
            [9],
            path="diego-12",
            title=f"HTTP in the clear from {HOSTILE[0]}",
            detail=f"POST to {HOSTILE[6]} was answered.",
            remediation="Turn TLS on at both ends, then change what crossed.",
        ),
        _finding(
            2,
            "missing-client-certificate",
            "critical",
            [8],
            path="diego-03",
            confidence="medium",
            title="TLS session accepted without a client certificate",
            evidence=(_evidence("tls.client_certificate", "absent", 61, certainty="inferred"),),
        ),
        _finding(
            3,
            "undeclared-port",
            "high",
            [10, 11, 12],
            path="diego-03",
            title="diego_cell to diego_cell on 1800/tcp: documented on 1801",
        ),
        _finding(4, "unknown-host", "high", [13, 14, 15, 16, 17], title="10.0.0.9 is in no inventory"),
        _finding(
            5, "undeclared-connection", "high", [29], path="diego-10", title="diego_cell to diego_database on 8889/tcp"
        ),
        _finding(6, "undeclared-attempt", "medium", [28], path="diego-07", title="Unanswered SYN to 2222/tcp"),
        _finding(
            7,
            "authentication-rejected",
            "medium",
            [23],
            path="diego-24",
            title="MySQL turned the login away",
            waived={
                "reason": "password rotation | under way",
                "owner": "ops",
                "ticket": "OPS-1",
                "until": "2026-12-31",
            },
        ),
        _finding(8, "cell-egress", "info", [19], title="Cells talk to 203.0.113.7", evidence=()),
        _finding(9, "unverifiable-authentication", "info", [21], path="diego-12", confidence=None, title="Midstream"),
        _finding(
            10, "capture-incomplete", "info", [21], path="diego-12", confidence="low", title="14600 bytes missing"
        ),
        _finding(11, "certificate-identity", "high", [26], path="diego-12", title=f"Certificate for {HOSTILE[3]}"),
        _finding(12, "certificate-identity", "high", [27], path="diego-12", title=f"Certificate for {HOSTILE[8]}"),
    ]


def coverage(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    table = []
    for number, (source, destination, ports, application, authentication) in enumerate(_ROWS, 1):
        path = f"diego-{number:02d}"
        verdicts: dict[str, int] = {}
        attempts = 0
        for row in rows:
            if path in row["paths"] and row["outcome"] == "attempt":
                attempts += 1
            elif path in row["paths"]:
                verdict = row["authentication_verdict"]
                verdicts[verdict] = verdicts.get(verdict, 0) + 1
        table.append(
            {"path": path, "row": number, "source": source, "destination": destination, "ports": ports, "application": application,
             "authentication": authentication, "connections": sum(verdicts.values()), "verdicts": verdicts, "attempts": attempts, "disposition": "documented"}
        )  # fmt: skip
    return table


def captures() -> list[dict[str, Any]]:
    last = START_NS + 40 * 1_000_000_000
    one = {"sha256": None, "format": "pcap", "packets": 812, "bytes": 1_234_567, "first_packet": START_NS, "last_packet": last,
           "link_types": (1,), "vantage": None, "dropped": None, "problems": (), "doubled": 0, "clock": None, "unseen": 0, "time_digits": 6}  # fmt: skip
    return [
        {**one, "path": "cell-0.pcap"},
        {**one, "path": "db-0.pcapng.zst", "format": "pcapng+zstd", "sha256": "ab" * 32, "dropped": 17, "vantage": "db-0 eth0",
         "link_types": (1, 276), "doubled": 3, "unseen": 5,
         "clock": {"against": 0, "ahead_s": -0.25, "delay_s": None, "packets": 8}},
        {**one, "path": f"dir/{HOSTILE[0]}|x.pcap", "packets": 3, "time_digits": 9, "first_packet": START_NS + 7, "last_packet": None,
         "problems": ({"kind": "truncated", "says": "the file ends inside a record", "frame": 3, "offset": 1204},)},
    ]  # fmt: skip


def _frame(rows: list[dict[str, Any]], columns: tuple[Column, ...]) -> pd.DataFrame:
    names = list(rows[0]) if rows else [column.name for column in columns]
    frame = pd.DataFrame({name: pd.Series([row[name] for row in rows], dtype=object) for name in names})
    for column in columns:
        values = frame[column.name]
        if column.kind == "text" and HOSTILE[5] not in set(values):  # pandas keeps no lone surrogates in a Categorical
            frame[column.name] = values.astype("category")
        elif column.kind in ("int", "time"):
            frame[column.name] = values.astype("Int64" if column.nullable else "int64")
        elif column.kind == "float":
            frame[column.name] = values.astype(np.float64)
    return frame


def audit(*, clean: bool = False, complete: bool = False, inventory: str = "given") -> Audit:
    """The whole of it; ``clean``: only what is as documented; ``complete``: no damaged input."""
    rows, found, files = connections(), findings(), captures()
    if clean:
        rows, found = [row for row in rows[:26] if not row["findings"] and row["disposition"] == "documented"], []
    if complete:
        files = files[:1]
    rows = [{**row, "capture": min(row["capture"], len(files) - 1)} for row in rows]
    table = _frame(rows, CONNECTIONS)
    for name in ("capture", "first_frame", "payload_bytes"):
        table[name] = table[name].astype("int64")
    dispositions = [row["disposition"] for row in rows]
    verdicts = [row["authentication_verdict"] for row in rows]
    reasons = {} if complete else {"damaged_captures": 1, "dropped_packets": 17, "midstream": 1}
    summary = {
        "connections": len(rows),
        **{word: dispositions.count(word) for word in ("documented", "undeclared", "ambient", "out_of_scope")},
        "verdicts": {word: verdicts.count(word) for word in dict.fromkeys(verdicts)},
        "findings": {
            "by_severity": {
                word: sum(each["severity"] == word and not each["waived"] for each in found)
                for word in ("critical", "high", "medium", "low", "info")
            },
            "by_rule": {
                rule: sum(each["rule"] == rule for each in found) for rule in sorted({each["rule"] for each in found})
            },
        },
        "sufficiency": {"complete": complete, "undecided_percent": 0.0 if complete else 4.8, "reasons": reasons},
        "inventory": inventory,
    }
    info = {
        "id": "a" * 16,
        "started": "2026-11-22T16:48:00.000000Z",
        "finished": "2026-11-22T16:48:01.500000Z",
        "version": "0.1.0",
        "policies": [{"name": "tas-diego", "version": "1", "sha256": "cd" * 32}],
        "inventories": [] if inventory == "inferred" else [{"path": "vms.json", "sha256": "ef" * 32}],
        "options": {"scope": "diego", "strict": False, "fail_on": "medium", "max_undecided": 5.0},
    }
    return Audit(
        info=info,
        summary=summary,
        captures=_frame(files, CAPTURES),
        connections=table,
        findings=_frame(found, FINDINGS),
        coverage=_frame(coverage(rows), COVERAGE),
    )


def large(rows: int, *, hostile: bool = False) -> Audit:
    """An audit with ``rows`` connections, each with its own id, times, ports and evidence, for measuring."""
    small = audit(clean=not hostile)
    times = rows // len(small.connections) + 1
    table = pd.concat([small.connections] * times, ignore_index=True).iloc[:rows].copy()
    number = np.arange(rows)
    table["start"] = START_NS + number * 1_003_000
    table["id"] = pd.Series([f"c{n:015x}" for n in number], dtype="str")
    table["community_id"] = pd.Series([f"1:{n:027d}=" for n in number], dtype="str")
    table["authentication_evidence"] = pd.Series(
        [(_evidence("tls.version", "TLS 1.2", n),) for n in number.tolist()], dtype=object
    )
    return Audit(small.info, small.summary, small.captures, table, small.findings, small.coverage)
