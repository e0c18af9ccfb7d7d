"""Logs in Zeek's tab-separated form: a folder with ``conn.log``, ``ssl.log``, ``x509.log``, ``notice.log`` and ``reporter.log`` (warnings).

Columns have the names and types that Zeek's own have, so that zeek-cut and whatever reads Zeek's logs read these; what only an auditor
knows stands behind them, under ``auditor_``. ``uid`` is the connection's id. Bytes of payload each way are unset: the report counts
whole packets, and a count that is not known must not read 0. As in Zeek, a byte that is not printable is written ``\\xNN``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

from auditor.model.audit import Audit
from auditor.model.roles import Format
from auditor.report import _story as story
from auditor.report._pairs import Record, began_ns, connections, duration_ns, findings, nanoseconds
from auditor.report._text import escape

_SERVICES = {"tls": "ssl", "https": "ssl,http", "quic": "quic,ssl", "dtls": "dtls"}
_NO_SERVICE = ("none", "unknown")


def _proto(transport: Any) -> str:
    """Zeek counts ICMPv6 as ICMP."""
    return _text("icmp" if transport == "icmp6" else transport)


def _service(application: str) -> str:
    return "-" if application in _NO_SERVICE else _SERVICES.get(application, application)


def _text(value: Any) -> str:
    if value is None:
        return "-"
    text = str(value)
    if text in ("", "-", "(empty)"):
        return "(empty)" if text == "" else f"\\x{ord(text[0]):02x}{text[1:]}"
    # A backslash of the traffic's own would read like an escape.
    return escape(text.replace("\\", "\\x5c"))


def _set(values: Iterable[Any] | None) -> str:
    return ",".join(_text(value).replace(",", "\\x2c") for value in values or ()) or "(empty)"


def _seconds(ns: int) -> str:
    return f"{ns // 1_000_000_000}.{ns % 1_000_000_000 // 1_000:06d}"


def _vector(values: Iterable[Any] | None) -> str:
    return "-" if values is None else _set(values)


def _moment(text: str | None) -> str:
    return "-" if not text else _seconds(max(nanoseconds(text), 0))


def _shown_by(record: Record, side: str) -> str:
    return _set(dict.fromkeys(each["ip"] for each in record["shown_by"] if each["as"] == side))


def _flag(value: Any) -> str:
    return "-" if value is None else "T" if value else "F"


Cells = dict[str, tuple[str, Callable[[Record], str]]]
"""Name of a column: its type, and its cell of a record."""

_ID: Cells = {
    "ts": ("time", lambda c: _seconds(nanoseconds(c["start"]))),
    "uid": ("string", lambda c: _text(c["id"])),
    "id.orig_h": ("addr", lambda c: _text(c["originator"]["ip"])),
    "id.orig_p": ("port", lambda c: str(c["originator"]["port"] or 0)),
    "id.resp_h": ("addr", lambda c: _text(c["responder"]["ip"])),
    "id.resp_p": ("port", lambda c: str(c["responder"]["port"] or 0)),
}

CONN: Cells = {
    **_ID,
    "proto": ("enum", lambda c: _proto(c["transport"])),
    "service": ("string", lambda c: _service(c["application"])),
    "duration": ("interval", lambda c: _seconds(duration_ns(c))),
    "orig_bytes": ("count", lambda c: "-"),
    "resp_bytes": ("count", lambda c: "-"),
    "conn_state": ("string", lambda c: _text(c["conn_state"])),
    "missed_bytes": ("count", lambda c: str(c["missed_bytes"] or 0)),
    "history": ("string", lambda c: _text(c["history"])),
    "orig_pkts": ("count", lambda c: str(c["originator"]["packets"] or 0)),
    "orig_ip_bytes": ("count", lambda c: str(c["originator"]["bytes"] or 0)),
    "resp_pkts": ("count", lambda c: str(c["responder"]["packets"] or 0)),
    "resp_ip_bytes": ("count", lambda c: str(c["responder"]["bytes"] or 0)),
    "tunnel_parents": (
        "set[string]",
        lambda c: _set([c["tunnel"]["outer"]] if (c["tunnel"] or {}).get("outer") else ()),
    ),
    "community_id": ("string", lambda c: _text(c["community_id"])),
    "auditor_disposition": ("string", lambda c: _text(c.get("disposition"))),
    "auditor_paths": ("set[string]", lambda c: _set(c.get("paths"))),
    "auditor_verdict": ("string", lambda c: _text((c.get("authentication") or {}).get("verdict"))),
    "auditor_findings": ("set[string]", lambda c: _set(c.get("findings"))),
}

SSL: Cells = {
    **_ID,
    "version": (
        "string",
        lambda c: _text(c["tls"].get("version") and str(c["tls"]["version"]).replace("TLS 1.", "TLSv1")),
    ),
    "cipher": ("string", lambda c: _text(c["tls"].get("cipher"))),
    "server_name": ("string", lambda c: _text(c["tls"].get("sni"))),
    "resumed": ("bool", lambda c: _flag(c["tls"].get("resumed"))),
    "next_protocol": ("string", lambda c: _text(c["tls"].get("alpn"))),
    "established": ("bool", lambda c: _flag(c["tls"].get("server_finished"))),
    "cert_chain_fps": ("vector[string]", lambda c: _vector(c["tls"].get("server_certificates"))),
    "client_cert_chain_fps": ("vector[string]", lambda c: _vector(c["tls"].get("client_certificates"))),
    "auditor_client_certificate": ("string", lambda c: _text(c["tls"].get("client_certificate"))),
}

X509: Cells = {
    "ts": ("time", lambda x: _seconds(nanoseconds(x["shown_by"][0]["first_seen"]))),
    "fingerprint": ("string", lambda x: _text(x["sha256"])),
    "certificate.subject": ("string", lambda x: _text(x.get("subject"))),
    "certificate.issuer": ("string", lambda x: _text(x.get("issuer_name"))),
    "certificate.not_valid_before": ("time", lambda x: _moment(x.get("not_before"))),
    "certificate.not_valid_after": ("time", lambda x: _moment(x.get("not_after"))),
    "san.dns": ("vector[string]", lambda x: _vector(x.get("names"))),
    "basic_constraints.ca": ("bool", lambda x: _flag(x.get("authority"))),
    "host_cert": ("bool", lambda x: _flag(any(each["leaf"] for each in x["shown_by"]))),
    "client_cert": ("bool", lambda x: _flag(any(each["as"] == "client" for each in x["shown_by"]))),
    "auditor_client_hosts": ("set[addr]", lambda x: _shown_by(x, "client")),
    "auditor_server_hosts": ("set[addr]", lambda x: _shown_by(x, "server")),
}

NOTICE: Cells = {
    "ts": ("time", lambda f: _seconds(nanoseconds(f["first_seen"]))),
    "uid": ("string", lambda f: _text(f["connections"][0] if f["connections"] else None)),
    "id.orig_h": ("addr", lambda f: _text(f["first"] and f["first"]["originator"]["ip"])),
    "id.orig_p": ("port", lambda f: str(f["first"]["originator"]["port"] or 0) if f["first"] else "-"),
    "id.resp_h": ("addr", lambda f: _text(f["first"] and f["first"]["responder"]["ip"])),
    "id.resp_p": ("port", lambda f: str(f["first"]["responder"]["port"] or 0) if f["first"] else "-"),
    "proto": ("enum", lambda f: _proto(f["first"] and f["first"]["transport"])),
    "note": ("enum", lambda f: "Auditor::" + "".join(word.capitalize() for word in f["rule"].split("-"))),
    "msg": ("string", lambda f: _text(f["title"])),
    "sub": ("string", lambda f: _text(f["detail"])),
    "n": ("count", lambda f: str(f["count"] or 0)),
    "suppress_for": ("interval", lambda f: "0.000000"),
    "auditor_severity": ("string", lambda f: _text(f["severity"])),
    "auditor_path": ("string", lambda f: _text(f["path"])),
    "auditor_fingerprint": ("string", lambda f: _text(f["fingerprint"])),
    "auditor_waived": ("bool", lambda f: _flag(bool(f["waived"]))),
}


REPORTER: Cells = {
    "ts": ("time", lambda w: _seconds(w["ts"])),
    "level": ("enum", lambda w: "Reporter::WARNING"),
    "message": ("string", lambda w: _text(w["says"])),
    "location": ("string", lambda w: "(empty)"),
}


def _log(out: IO[bytes], path: str, cells: Cells, rows: Iterable[Record]) -> None:
    head = (
        "#separator \\x09",
        "#set_separator\t,",
        "#empty_field\t(empty)",
        "#unset_field\t-",
        f"#path\t{path}",
        "\t".join(["#fields", *cells]),
        "\t".join(["#types", *(kind for kind, _ in cells.values())]),
    )
    out.write("\n".join(head).encode() + b"\n")
    for row in rows:
        out.write("\t".join(cell(row) for _, cell in cells.values()).encode() + b"\n")


def write(audit: Audit, out: Path, *, table: str | None = None, color: bool = False, width: int = 80) -> None:
    """The logs into the folder ``out``; with ``table`` only ``conn.log``, ``ssl.log`` and ``x509.log`` (connections), or only ``notice.log`` (findings)."""
    out.mkdir(parents=True, exist_ok=True)
    if table in (None, "connections"):
        with (out / "conn.log").open("wb") as file:
            _log(file, "conn", CONN, connections(audit))
        with (out / "ssl.log").open("wb") as file:
            _log(file, "ssl", SSL, (each for each in connections(audit) if each.get("tls")))
        with (out / "x509.log").open("wb") as file:
            shown = sorted(audit.certificates, key=lambda each: (each["shown_by"][0]["first_seen"], each["sha256"]))
            _log(file, "x509", X509, shown)
    if table is None:
        with (out / "reporter.log").open("wb") as file:
            _log(
                file,
                "reporter",
                REPORTER,
                ({"ts": began_ns(audit), "says": says} for says in story.warnings(audit)),
            )
    if table in (None, "findings"):
        with (out / "notice.log").open("wb") as file:
            told = sorted(findings(audit), key=lambda pair: nanoseconds(pair[0]["first_seen"]))  # stable
            _log(file, "notice", NOTICE, ({**finding, "first": first} for finding, first in told))


FORMAT = Format("zeek", "", write, folder=True, tables=True)
