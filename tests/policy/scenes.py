"""Connections as a test tells them, and what is said of their authentication: from facts, or from bytes that crossed."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from auditor.conntrack import Tracker, TrackLimits, build_table, decide_originators
from auditor.inspectors._examine import Examiner
from auditor.model.connections import CONN_STATES, INCOMPLETE, ConnectionTable
from auditor.model.facts import Facts
from auditor.model.judgement import Authentication, Classification, Disposition
from auditor.policy.authenticate import authenticate
from auditor.policy.policy import Policy
from tests.conversation import Talk, Wire
from tests.inspectors.handshakes import Recorded

APPLICATIONS = ("none", "unknown", "tls", "https", "http", "ssh", "mysql", "nats", "dns")

SECOND = 1_000_000_000

TLS12 = {
    "tls.client_hello": True, "tls.server_hello": True, "tls.version": "TLS 1.2", "tls.resumed": False,
    "tls.cipher": "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "tls.client_finished": True, "tls.server_finished": True,
    "tls.client_application_data": True, "tls.server_application_data": True,
}  # fmt: skip
MUTUAL12 = {
    **TLS12, "tls.certificate_requested": True, "tls.client_certificate": "sent", "tls.certificate_verify": True,
}  # fmt: skip
SERVER12 = {**TLS12, "tls.certificate_requested": False, "tls.client_certificate": "not_asked"}
DECLINED12 = {**TLS12, "tls.certificate_requested": True, "tls.client_certificate": "empty"}
TLS13 = {
    "tls.client_hello": True, "tls.server_hello": True, "tls.version": "TLS 1.3", "tls.resumed": False,
    "tls.cipher": "TLS_AES_128_GCM_SHA256", "tls.client_certificate": "unknown",
    "tls.post_handshake_auth_offered": False,
}  # fmt: skip
MUTUAL13 = {
    **TLS13, "tls.client_records": (889, 281, 53, 300), "tls.server_records": (23, 131, 954, 281, 53, 1012, 5000),
    "tls.order": "CSsssssccccss",
}  # fmt: skip
SERVER13 = {
    **TLS13, "tls.client_records": (53, 300), "tls.server_records": (23, 954, 281, 53, 147, 5000), "tls.order": "CSsssssccs",
}  # fmt: skip
DECLINED13 = {
    **TLS13, "tls.client_records": (25, 53, 300, 310, 320), "tls.server_records": (23, 131, 954, 281, 53, 147, 500, 510, 520, 530),
    "tls.order": "CSsssssccscscscs",
}  # fmt: skip
REFUSED13 = {
    **TLS13, "tls.client_records": (25, 53, 300), "tls.server_records": (23, 131, 954, 281, 53, 19), "tls.order": "CSssssscccs",
}  # fmt: skip
RESUMED13 = {
    **TLS13, "tls.resumed": True, "tls.client_records": (53, 300), "tls.server_records": (23, 53, 1012, 5000), "tls.order": "CSssccss",
}  # fmt: skip
SSH = {
    f"ssh.{side}_{what}": value for side in ("client", "server") for what, value in (("version", "2.0"), ("newkeys", True), ("encrypted", True))
} | {"ssh.login": "accepted", "ssh.login_confidence": "high", "ssh.login_says": "as long as USERAUTH_SUCCESS"}  # fmt: skip
INFO = {"nats.info": True, "nats.auth_required": True, "nats.tls_required": False}
CONNECT = {
    "nats.connect": True,
    "nats.user": True,
    "nats.pass": True,
    "nats.token": False,
    "nats.jwt": False,
    "nats.nkey": False,
}
NATS = {**INFO, **CONNECT, "nats.pong": True, "nats.server_traffic": True, "nats.client_traffic": True}
GREETING = {"mysql.protocol": 10, "mysql.plugin_offered": "mysql_native_password"}
MYSQL = {
    **GREETING, "mysql.ssl_request": False, "mysql.plugin": "mysql_native_password", "mysql.auth_response": "present",
    "mysql.outcome": "ok",
}  # fmt: skip


def http(*exchanges: tuple[str, str, int]) -> dict[str, Any]:
    """Requests and answers: (scheme, kind of signed URL, status; 0: no answer was seen)."""
    return {
        "http.version": "1.1", "http.method": "GET", "http.requests": len(exchanges),
        "http.authorization": tuple(scheme for scheme, _, _ in exchanges),
        "http.signed_url": tuple(signed for _, signed, _ in exchanges),
        "http.statuses": tuple(status for _, _, status in exchanges if status),
    }  # fmt: skip


@dataclass
class Scene:
    """A connection, as facts."""

    application: str
    facts: dict[str, Any] | None = None
    classification: Classification | None = None
    own: dict[str, Any] = field(default_factory=dict)
    start_s: float = 0.0
    ends: tuple[int, int] = (0, 1)
    port: int = 8889
    state: str = "S1"
    history: str = "ShADd"
    lacks: tuple[str, ...] = ()
    first_bytes: bool = True
    established: bool = True


_OWN = ("tls.client_records", "tls.server_records", "tls.order", "tls.client_records_more", "tls.server_records_more")


def facts_of(scene: Scene, shared: dict[Any, dict[str, Any]]) -> Facts | None:
    if scene.facts is None:
        return None
    own = {kind: value for kind, value in scene.facts.items() if kind in _OWN} | scene.own
    common = {kind: value for kind, value in scene.facts.items() if kind not in own}
    return Facts(shared.setdefault(tuple(sorted(common.items(), key=lambda item: item[0])), common), own)


def closer(history: str) -> int:
    """Who sent the first FIN or RST, by the letters: 1 the originator, 2 the responder."""
    ends = [letter for letter in history if letter in "FfRr"]
    return 0 if not ends else 1 if ends[0].isupper() else 2


def table_of(scenes: list[Scene]) -> ConnectionTable:
    n = len(scenes)
    shared: dict[Any, dict[str, Any]] = {}
    columns: dict[str, Any] = {each.name: np.zeros(n, np.int64) for each in dataclasses.fields(ConnectionTable)}
    columns.update(
        id=np.array([f"{k:020d}".encode() for k in range(n)], "S20"),
        first_ns=np.array([int(each.start_s * SECOND) for each in scenes], np.int64),
        last_ns=np.array([int(each.start_s * SECOND) + SECOND // 10 for each in scenes], np.int64),
        orig_h=np.array([each.ends[0] for each in scenes], np.int32),
        resp_h=np.array([each.ends[1] for each in scenes], np.int32),
        resp_p=np.array([each.port for each in scenes], np.int32),
        payload_bytes=np.full(n, 4_000, np.int64),
        stream_bytes=np.full((n, 2), 2_000, np.int64),
        conn_state=np.array([CONN_STATES.index(each.state) for each in scenes], np.uint8),
        history=np.array([each.history.encode() for each in scenes], "S32"),
        closed_by=np.array([closer(each.history) for each in scenes], np.uint8),
        application=np.array([APPLICATIONS.index(each.application) for each in scenes], np.int16),
        established=np.array([each.established for each in scenes], np.bool_),
        first_bytes=np.array([each.first_bytes for each in scenes], np.bool_),
        incomplete=np.array([sum(1 << INCOMPLETE.index(word) for word in each.lacks) for each in scenes], np.uint8),
        addresses=tuple(range(16)),
        ip_versions=(4,) * 16,
        applications=APPLICATIONS,
        facts=tuple(facts_of(each, shared) for each in scenes),
    )
    return ConnectionTable(**columns)


def judge_all(policy: Policy, *scenes: Scene, **options: Any) -> list[Authentication]:
    classes: list[Classification] = []
    for scene in scenes:
        assert scene.classification is not None
        if scene.classification not in classes:
            classes.append(scene.classification)
    class_of = np.array([classes.index(each.classification) for each in scenes if each.classification], np.int32)
    return authenticate(table_of(list(scenes)), classes, class_of, certificates={}, policy=policy, options=options)


# From bytes


def play(
    wire: Wire, told: Recorded, *, cport: int = 40_000, sport: int = 8889, close: str = "client", before: bytes = b""
) -> Talk:
    """A recorded handshake as packets, in the order in which its flights were sent; ``before``: what the server says first."""
    talk = Talk(wire, cport=cport, sport=sport).opens()
    if before:
        talk.answers(before)
    flights = [(frame, data, talk.says) for frame, data in told.client] + [
        (frame, data, talk.answers) for frame, data in told.server
    ]
    for _, data, say in sorted(flights, key=lambda flight: flight[0]):
        say(data)
    if close == "client":
        talk.closes()
    elif close == "server":
        talk._s(17)
        talk._c(17)
        talk._s(16)
    elif close == "reset":
        talk._s(4)
    return talk


@cache
def _examiner() -> Examiner:
    """One for all: what it remembers changes nothing."""
    return Examiner()


def follow(wire: Wire) -> tuple[ConnectionTable, dict[str, bytes]]:
    examiner = _examiner()
    tracker = Tracker(examiner, limits=TrackLimits(head_slots=64))
    tracker.feed(*wire.packets())
    part = tracker.finish()
    return build_table(part, *decide_originators(part), examiner.applications), dict(examiner.certificates.der)


def judge_wire(policy: Policy, wire: Wire, classification: Classification) -> list[Authentication]:
    table, certificates = follow(wire)
    class_of = np.zeros(len(table), np.int32)
    return authenticate(table, [classification], class_of, certificates=certificates, policy=policy, options={})


def documented(policy: Policy, *paths: str, **more: Any) -> Classification:
    """On these paths, all of them alike."""
    return Classification(Disposition.DOCUMENTED, paths=paths, required=policy.by_id[paths[0]].authentication, **more)
