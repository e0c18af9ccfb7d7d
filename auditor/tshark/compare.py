"""How far tshark agrees: the fields that our inspectors give of TLS, SSH, MySQL and HTTP, beside tshark's of the same connections.

It stands behind ``auditor dissect --compare``. Two readers of one stream can differ for good reasons, and each is checked by what the packets show: we keep the first 8 KiB of a direction
and tshark all of it; tshark gives up where packets are missing, or reads a port as something else. A difference without a cause that holds is
``unexplained``: a mistake of one of the two. No value of a credential is compared, only its kind.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from auditor.model.connections import CONTRADICTION
from auditor.model.streams import HEAD_BYTES
from auditor.tshark import _process
from auditor.tshark._talks import (
    FIELDS,
    MAX_REQUESTS,
    Row,
    Side,
    Talk,
    index,
    mend,
    read_row,
    take,
    trees,
    whose,
)
from auditor.tshark.dissect import Flow, preferences
from auditor.wire import http as http_wire
from auditor.wire import mysql as mysql_wire
from auditor.wire import tls
from auditor.wire.text import escape
from auditor.wire.tls_ciphers import cipher_name

MAX_OUTPUT_BYTES = 2 * 1024**3
SCHEMA = "auditor.agreement/1"
UNEXPLAINED = "unexplained"

_MORE_FIELDS = (
    "frame.protocols", "tcp.stream", "tcp.seq", "tcp.len", "tls.handshake.extensions_server_name", "tls.handshake.ciphersuite",
    "tls.handshake.version", "tls.handshake.extensions.supported_version", "tls.handshake.random", "ssh.protocol", "ssh.message_code",
    "ssh.kex_algorithms", "ssh.server_host_key_algorithms", "ssh.encryption_algorithms_client_to_server",
    "mysql.version", "mysql.auth_plugin", "mysql.caps.client", "mysql.packet_length", "mysql.auth_switch_request.name", "mysql.response_code",
    "mysql.error_code", "http.response.version",
)  # fmt: skip
_SHOWN = "tls.handshake || tls.handshake.type || tls.alert_message || ssh || mysql || http || http2.headers"
_DISSECTORS = {"tls": "tls", "https": "tls", "ssh": "ssh", "mysql": "mysql", "http": "http"}
_SSH_NEWKEYS = 21


@dataclass(frozen=True, slots=True)
class Ours:
    """What we say of one connection."""

    id: str
    flow: Flow
    facts: Mapping[str, Any]
    incomplete: str = ""
    """Words of the connection table: midstream, one_way, gap, ..."""
    tunnelled: bool = False


def ours_of(connections: Any) -> list[Ours]:
    """The connections of a capture, from the table of ``auditor.connections`` (a DataFrame that has ``facts``)."""
    import pandas as pd

    found = []
    for row in connections.to_dict("records"):
        ports = [None if pd.isna(row[name]) else int(row[name]) for name in ("originator_port", "responder_port")]
        start = int(row["start"])
        flow = Flow(
            transport=str(row["transport"]),
            orig_h=str(row["originator_ip"]),
            orig_p=ports[0],
            resp_h=str(row["responder_ip"]),
            resp_p=ports[1],
            first_ns=start,
            last_ns=start + round(float(row["duration"]) * 1e9),
            application=str(row["application"]),
        )
        tunnelled = row["tunnel"] is not None
        found.append(Ours(str(row["id"]), flow, row["facts"] or {}, str(row["incomplete"] or ""), tunnelled))
    return found


@dataclass(frozen=True, slots=True)
class Difference:
    """One field of one connection that is not the same."""

    capture: str
    connection: str
    field: str
    ours: Any
    theirs: Any
    cause: str


@dataclass(slots=True)
class Agreement:
    """Counts by field, and every difference."""

    equal: Counter[str] = field(default_factory=Counter)
    differences: list[Difference] = field(default_factory=list)
    connections: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    """Why -> connections that are not compared."""
    problems: list[str] = field(default_factory=list)
    tshark: str = ""
    """Its version."""

    @property
    def unexplained(self) -> list[Difference]:
        """Those without a cause."""
        return [each for each in self.differences if each.cause == UNEXPLAINED]

    def add(self, other: Agreement) -> None:
        """Take another capture's counts in."""
        self.equal += other.equal
        self.differences += other.differences
        self.connections += other.connections
        self.left_out += other.left_out
        self.problems += other.problems
        self.tshark = other.tshark or self.tshark

    def rows(self) -> list[tuple[str, int, int, int, int, int]]:
        """Field, compared, equal, only ours, only tshark's, differ: every field, seen or not."""
        sides: Counter[tuple[str, str]] = Counter()
        for each in self.differences:
            kind = "theirs" if each.ours is None else "ours" if each.theirs is None else "both"
            sides[each.field, kind] += 1
        found = []
        for name, _, _ in _COMPARED:
            only_ours, only_theirs, differ = (sides[name, kind] for kind in ("ours", "theirs", "both"))
            equal = self.equal[name]
            found.append((name, equal + only_ours + only_theirs + differ, equal, only_ours, only_theirs, differ))
        return found

    def causes(self) -> list[tuple[str, int]]:
        """Causes and how many differences each has, the most frequent first."""
        counts = Counter(each.cause for each in self.differences)
        return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def compare(capture: Path, ours: Sequence[Ours], *, seconds: float = 600.0) -> Agreement:
    """Ask tshark about the TCP connections of one capture, and put its fields beside ours.

    Raises
    ------
    MissingToolError : there is no tshark
    InputError : tshark cannot read the capture at all, or the time is over
    """
    tshark = _process.find()
    told = Agreement(tshark=_process.version(tshark))
    file = _process.readable(capture)
    wanted = [each for each in ours if each.flow.transport == "tcp"]
    told.left_out["inside a tunnel, where tshark does not tell which of a frame's layers a field is of"] = sum(
        each.tunnelled for each in wanted
    )
    chosen = [each for each in wanted if not each.tunnelled]
    if not chosen:
        return told
    gathered = _Gathered([_Theirs(Talk(each.flow)) for each in chosen])
    common = ["-n", "-r", str(file), *preferences(None), *_ports(chosen)]
    with _process.private_profile() as profile:
        limits: dict[str, Any] = {"about": str(capture), "seconds": seconds, "max_bytes": MAX_OUTPUT_BYTES}
        limits |= {"env": _process.environment(profile), "cwd": profile}
        names = [part for name in (*FIELDS, *_MORE_FIELDS) for part in ("-e", name)]
        with _process.Run([tshark, *common, "-Y", _SHOWN, "-T", "ek", *names], **limits) as run:
            for line in run.lines():
                row = read_row(line)
                if row is not None:
                    gathered.take(row)
            problem = _process.judge(capture, run.status, run.complaint(), anything=gathered.frames > 0)
            if run.full:
                problem = "there is more to compare than is read at once"
        if problem:
            told.problems.append(f"{capture}: {problem}")
        unsure = sorted({frame for each in gathered.talks for frame in each.talk.unsure})[:MAX_REQUESTS]
        if unsure:
            only = f"frame.number in {{{','.join(map(str, unsure))}}}"
            with _process.Run([tshark, *common, "-Y", only, "-T", "pdml"], **limits) as run:
                mend([each.talk for each in gathered.talks], trees(run.lines()))
        odd = [
            mine.flow
            for mine, theirs in zip(chosen, gathered.talks, strict=True)
            if any(one != other for _, one, other in _values(mine, theirs))
        ]
        if odd:
            # What tshark makes of all frames of these: it may have read them as something else, or wait for more.
            shown = f"tcp.len > 0 && tcp.port in {{{','.join(sorted({str(flow.resp_p) for flow in odd}))}}}"
            names = [part for name in (*FIELDS[:8], "frame.protocols", "tcp.seq", "tcp.len") for part in ("-e", name)]
            with _process.Run([tshark, *common, "-Y", shown, "-T", "ek", *names], **limits) as run:
                for line in run.lines():
                    row = read_row(line)
                    if row is not None:
                        gathered.note_frame(row)
    for mine, theirs in zip(chosen, gathered.talks, strict=True):
        values = list(_values(mine, theirs))
        told.connections += bool(values)
        for name, one, other in values:
            if one == other:
                told.equal[name] += 1
            else:
                cause = _cause(name, one, other, mine, theirs)
                told.differences.append(Difference(str(capture), mine.id, name, one, other, cause))
    return told


def _ports(chosen: Sequence[Ours]) -> list[str]:
    """Have tshark read a port as what we recognised there, where that is one thing alone: it goes by ports, we go by content."""
    spoken: dict[int, set[str]] = {}
    for each in chosen:
        if each.flow.resp_p and each.flow.application not in {"", "none", "unknown"}:
            spoken.setdefault(each.flow.resp_p, set()).add(_DISSECTORS.get(each.flow.application, ""))
    sure = {port: next(iter(names)) for port, names in spoken.items() if len(names) == 1}
    return [part for port, name in sorted(sure.items()) if name for part in ("-d", f"tcp.port=={port},{name}")]


# What tshark says


@dataclass(slots=True)
class _Theirs:
    """What tshark says of one connection."""

    talk: Talk
    values: dict[str, Any] = field(default_factory=dict)
    ends: dict[str, list[int]] = field(default_factory=dict)
    """What is told -> where in its direction the frames end that tell it."""
    starts: dict[str, list[int]] = field(default_factory=dict)
    """And where they start, from 1."""
    lists: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    streams: set[str] = field(default_factory=set)
    places: dict[str, list[int]] = field(default_factory=dict)
    """And the numbers of these frames."""
    frames: dict[str, list[tuple[int, int, int, tuple[str, ...]]]] = field(default_factory=dict)
    """Direction -> its frames with payload: number, where they start and end in it, and the protocols that tshark sees in them."""

    @property
    def protocols(self) -> set[str]:
        """All that tshark sees in it."""
        return {name for frames in self.frames.values() for _, _, _, names in frames for name in names}

    def waits(self, side: str) -> bool:
        """Behind the last message that it tells of this direction tshark gathers segments of another, whose end is not there."""
        frames = self.frames.get(side, ())
        told = max((end for _, _, end, names in frames if names[-1] != "tcp"), default=0)
        return any(end > told for _, _, end, names in frames if names[-1] == "tcp")

    def behind(self, side: str, kind: str) -> int:
        """How many bytes of payload stand before the first message of that kind."""
        first = min((start for _, start, _, _ in self.frames.get(side, ())), default=1)
        return min(self.starts.get(kind, [first])) - first

    def tell(self, name: str, value: Any, end: int) -> None:
        """The first value counts."""
        if value is not None and name not in self.values:
            self.values[name] = value
            self.ends[name] = [end]


class _Gathered:
    """All connections of a capture."""

    def __init__(self, talks: list[_Theirs]) -> None:
        self.talks = talks
        self.frames = 0
        self._by_ends = index([each.talk for each in talks])
        self._of = {id(each.talk): each for each in talks}
        self._certificates: dict[str, bytes] = {}

    def note_frame(self, row: Row) -> None:
        """One frame with payload of a connection that differs."""
        found = whose(row, self._by_ends)
        starts, sizes = row.numbers("tcp.seq"), row.numbers("tcp.len")
        if found is not None and starts and sizes:
            names = tuple(":".join(row.texts("frame.protocols")).split(":"))
            side = "client" if found[1] else "server"
            frames = self._of[id(found[0])].frames.setdefault(side, [])
            place = next(iter(row.numbers("frame.number")), 0)
            frames.append((place, starts[-1], starts[-1] + sizes[-1] - 1, names))

    def take(self, row: Row) -> None:
        """One frame."""
        self.frames += 1
        found = whose(row, self._by_ends)
        if found is None:
            return
        talk, is_client = found
        each = self._of[id(talk)]
        each.streams.update(row.texts("tcp.stream"))
        starts, sizes = row.numbers("tcp.seq"), row.numbers("tcp.len")
        end = starts[-1] + sizes[-1] - 1 if starts and sizes else 0
        before = len(talk.requests), len(talk.statuses)
        side = talk.client if is_client else talk.server
        messages, alert = len(side.messages), side.alert
        take(row, self._by_ends, self._certificates)
        place = next(iter(row.numbers("frame.number")), 0)
        for kind, count in (("requests", len(talk.requests) - before[0]), ("statuses", len(talk.statuses) - before[1])):
            each.ends.setdefault(kind, []).extend([end] * count)
            each.starts.setdefault(kind, []).extend(starts[-1:] * count)
            each.places.setdefault(kind, []).extend([place] * count)
        who = "client" if is_client else "server"
        for message in side.messages[messages:]:
            each.ends.setdefault(f"{who} {message}", []).append(end)
            each.starts.setdefault(f"{who} {message}", []).append(starts[-1] if starts else 0)
        if side.alert is not alert:
            each.ends[f"{who} alert"] = [end]
        spoken = next((text.partition("/")[2] for text in row.texts("http.response.version")), None)
        if spoken:
            each.tell("http.response_version", spoken, end)
            if not talk.requests:
                talk.http_version = spoken
        _hellos(each, row, is_client, side.messages[messages:], end)
        _ssh(each, row, who, end)
        _mysql(each, row, is_client, end)


def _hellos(each: _Theirs, row: Row, is_client: bool, messages: Sequence[int], end: int) -> None:
    if is_client and tls.CLIENT_HELLO in messages:
        each.tell("tls.client_hello", True, end)
        each.tell("tls.sni", next(iter(row.texts("tls.handshake.extensions_server_name")), None), end)
    if not is_client and tls.SERVER_HELLO in messages:
        suites = row.numbers("tls.handshake.ciphersuite")
        versions = row.numbers("tls.handshake.extensions.supported_version") or row.numbers("tls.handshake.version")
        # After a HelloRetryRequest, which says the same, comes another.
        for name, value in (
            ("tls.cipher", cipher_name(suites[0]) if suites else None),
            ("tls.version", tls.version_name(versions[-1]) if versions else None),
        ):
            each.tell(name, value, end)


def _ssh(each: _Theirs, row: Row, who: str, end: int) -> None:
    for banner in row.texts("ssh.protocol"):
        each.tell(f"ssh.{who}_banner", banner.strip(), end)
    for name, key in (
        ("kex", "ssh.kex_algorithms"),
        ("host_key_algorithm", "ssh.server_host_key_algorithms"),
        ("cipher", "ssh.encryption_algorithms_client_to_server"),
    ):
        for text in row.texts(key):
            each.lists.setdefault(name, {}).setdefault(who, text.split(","))
            each.ends.setdefault(f"ssh.{name}", []).append(end)
    if _SSH_NEWKEYS in row.numbers("ssh.message_code"):
        each.tell(f"ssh.{who}_newkeys", True, end)


def _mysql(each: _Theirs, row: Row, is_client: bool, end: int) -> None:
    if is_client:
        if row.texts("mysql.caps.client"):
            sizes = row.numbers("mysql.packet_length")
            each.tell("mysql.ssl_request", sizes[:1] == [mysql_wire.SSL_REQUEST_BYTES], end)
        return
    each.tell("mysql.server_version", next(iter(row.texts("mysql.version")), None), end)
    offered = next(iter(row.texts("mysql.auth_plugin")), None)
    if row.texts("mysql.version"):
        each.tell("mysql.plugin_offered", offered, end)
    each.tell("mysql.plugin_switched", next(iter(row.texts("mysql.auth_switch_request.name")), None), end)
    errors = row.numbers("mysql.error_code")
    if "mysql.ssl_request" in each.values or errors:
        if errors:
            if "mysql.outcome" not in each.values:
                each.tell("mysql.error", errors[0], end)
            each.tell("mysql.outcome", "error", end)
        elif mysql_wire.OK in row.numbers("mysql.response_code") and each.values.get("mysql.ssl_request") is False:
            each.tell("mysql.outcome", "ok", end)


# Field by field


def _side_of(name: str, theirs: _Theirs) -> Side:
    return theirs.talk.client if "client" in name else theirs.talk.server


def _alert(name: str) -> Callable[[_Theirs], Any]:
    return lambda theirs: _side_of(name, theirs).alert


def _fact(name: str) -> Callable[[Mapping[str, Any]], Any]:
    return lambda facts: facts.get(name)


def _true(name: str) -> Callable[[Mapping[str, Any]], Any]:
    return lambda facts: True if facts.get(name) is True else None


def _told(name: str) -> Callable[[_Theirs], Any]:
    return lambda theirs: theirs.values.get(name)


def _our_alert(name: str) -> Callable[[Mapping[str, Any]], Any]:
    def found(facts: Mapping[str, Any]) -> Any:
        alert = facts.get(name)
        return None if alert is None or alert[1] in {"close_notify", "user_canceled"} else tuple(alert)

    return found


def _message(side: str, number: int) -> Callable[[_Theirs], Any]:
    return lambda theirs: True if number in getattr(theirs.talk, side).messages else None


def _chosen(name: str) -> Callable[[_Theirs], Any]:
    """RFC 4253 section 7.1: the first of the client's that the server has."""

    def found(theirs: _Theirs) -> Any:
        lists = theirs.lists.get(name, {})
        if len(lists) < 2:
            return None
        return next((each for each in lists["client"] if each in lists["server"]), None)

    return found


def _banner(side: str) -> Callable[[Mapping[str, Any]], Any]:
    def found(facts: Mapping[str, Any]) -> Any:
        version = facts.get(f"ssh.{side}_version")
        return None if version is None else f"SSH-{version}-{facts.get(f'ssh.{side}_software', '')}"

    return found


def _requests(place: int) -> Callable[[_Theirs], Any]:
    return lambda theirs: tuple(each[place] for each in theirs.talk.requests) or None


def _many(name: str) -> Callable[[Mapping[str, Any]], Any]:
    return lambda facts: tuple(facts[name]) if facts.get(name) else None


_COMPARED: tuple[tuple[str, Callable[[Mapping[str, Any]], Any], Callable[[_Theirs], Any]], ...] = (
    ("tls.client_hello", _true("tls.client_hello"), _told("tls.client_hello")),
    ("tls.sni", _fact("tls.sni"), _told("tls.sni")),
    ("tls.server_hello", _true("tls.server_hello"), _message("server", tls.SERVER_HELLO)),
    ("tls.version", _fact("tls.version"), _told("tls.version")),
    ("tls.cipher", _fact("tls.cipher"), _told("tls.cipher")),
    ("tls.alpn", _fact("tls.alpn"), lambda theirs: theirs.talk.alpn),
    ("tls.server_certificates", _many("tls.server_certificates"), lambda theirs: theirs.talk.server.chain or None),
    ("tls.client_certificates", _many("tls.client_certificates"), lambda theirs: theirs.talk.client.chain or None),
    ("tls.certificate_requested", _true("tls.certificate_requested"), _message("server", tls.CERTIFICATE_REQUEST)),
    ("tls.certificate_verify", _true("tls.certificate_verify"), _message("client", tls.CERTIFICATE_VERIFY)),
    ("tls.client_alert", _our_alert("tls.client_alert"), _alert("tls.client_alert")),
    ("tls.server_alert", _our_alert("tls.server_alert"), _alert("tls.server_alert")),
    ("ssh.client_banner", _banner("client"), _told("ssh.client_banner")),
    ("ssh.server_banner", _banner("server"), _told("ssh.server_banner")),
    ("ssh.kex", _fact("ssh.kex"), _chosen("kex")),
    ("ssh.host_key_algorithm", _fact("ssh.host_key_algorithm"), _chosen("host_key_algorithm")),
    ("ssh.cipher", _fact("ssh.cipher"), _chosen("cipher")),
    ("ssh.client_newkeys", _true("ssh.client_newkeys"), _told("ssh.client_newkeys")),
    ("ssh.server_newkeys", _true("ssh.server_newkeys"), _told("ssh.server_newkeys")),
    ("mysql.server_version", _fact("mysql.server_version"), _told("mysql.server_version")),
    ("mysql.plugin_offered", _fact("mysql.plugin_offered"), _told("mysql.plugin_offered")),
    ("mysql.ssl_request", _fact("mysql.ssl_request"), _told("mysql.ssl_request")),
    ("mysql.plugin_switched", _fact("mysql.plugin_switched"), _told("mysql.plugin_switched")),
    ("mysql.outcome", _fact("mysql.outcome"), _told("mysql.outcome")),
    ("mysql.error", _fact("mysql.error"), _told("mysql.error")),
    ("http.version", _fact("http.version"), lambda theirs: theirs.talk.http_version),
    ("http.method", _fact("http.method"), lambda theirs: theirs.talk.requests[0][0] if theirs.talk.requests else None),
    ("http.authorization", _many("http.authorization"), _requests(1)),
    ("http.signed_url", _many("http.signed_url"), _requests(2)),
    ("http.cookie", _fact("http.cookie"), lambda theirs: any(each[3] for each in theirs.talk.requests) if theirs.talk.requests else None),
    ("http.statuses", _many("http.statuses"), lambda theirs: tuple(theirs.talk.statuses) or None),
)  # fmt: skip


def _values(mine: Ours, theirs: _Theirs) -> Iterator[tuple[str, Any, Any]]:
    """Fields that one of the two has."""
    for name, from_ours, from_theirs in _COMPARED:
        one, other = from_ours(mine.facts), from_theirs(theirs)
        if one is not None or other is not None:
            yield name, one, other


# Why they differ


_ELSEWHERE = frozenset({"socks", "openvpn", "sip", "rtsp", "ssdp", "msrpc", "ldap", "xmpp"})
"""Protocols that carry others, or that tshark goes by where a port is theirs."""

_PLACES = {
    "tls.sni": "client 1",
    "tls.client_hello": "client 1",
    "tls.server_hello": "server 2",
    "tls.version": "server 2",
    "tls.cipher": "server 2",
    "tls.alpn": "server 2",
    "tls.server_certificates": "server 11",
    "tls.client_certificates": "client 11",
    "tls.certificate_requested": "server 13",
    "tls.certificate_verify": "client 15",
    "tls.client_alert": "client alert",
    "tls.server_alert": "server alert",
}
"""tshark's names of a field."""


def _cause(name: str, ours: Any, theirs: Any, mine: Ours, told: _Theirs) -> str:
    """Why a field differs, or ``unexplained``; each cause is checked by what the packets show."""
    protocol = name.partition(".")[0]
    for each in (
        _of_tshark,
        _of_ours,
        {"http": _of_http, "tls": _of_tls, "mysql": _of_mysql, "ssh": _of_ssh}[protocol],
    ):
        cause = each(name, ours, theirs, mine, told)
        if cause:
            return cause
    return UNEXPLAINED


def _of_tshark(name: str, ours: Any, theirs: Any, mine: Ours, told: _Theirs) -> str:
    """Known differences of tshark, for all protocols."""
    opened = told.talk.client.hidden or told.talk.server.hidden
    inside = mine.flow.application in {"tls", "https"} and (name.startswith("http.") or name == "tls.alpn")
    if ours is None and inside and (opened or "tls" in told.protocols):
        return "tshark opened it with keys that the capture holds itself; only an audit does so here"
    carried = sorted(told.protocols & _ELSEWHERE)
    if ours is None and carried:
        return f"inside {carried[0].upper()}, which is not read here"
    if theirs is None and carried:
        return f"tshark goes by the port and reads {carried[0].upper()}"
    if theirs is None and told.protocols and name.partition(".")[0] not in told.protocols:
        return "tshark reads nothing or something else there, by the port or by a guess of its own"
    return ""


def _of_ours(name: str, ours: Any, theirs: Any, mine: Ours, told: _Theirs) -> str:
    """Fields that we do not keep, for all protocols."""
    if ours is None and "snaplen" in mine.incomplete:
        return "packets are cut short by the snapshot length; tshark reads what is left of them"
    if ours is None and CONTRADICTION in mine.facts:
        return "packets of the connection contradict each other; what no receiver takes is not read here"
    if theirs is None:
        return ""
    if name not in _ITEMS:
        places = told.ends.get(_PLACES.get(name, name), [])
        return _BEYOND if ours is None and places and min(places) > HEAD_BYTES else ""
    kind = "statuses" if name == "http.statuses" else "requests"
    ends = told.ends.get(kind, [])
    if name == "http.cookie":
        have = mine.facts.get("http.requests") or 0
        if ours is not False:
            return ""
    else:
        have = len(ours or ())
        if not len(theirs) > have == _common(ours or (), theirs):
            return ""
    if all(end > HEAD_BYTES for end in ends[have:]):
        return _BEYOND
    return ""


_VERSION = re.compile(r"[0-9](\.[0-9])?")
_ITEMS = frozenset({"http.authorization", "http.signed_url", "http.cookie", "http.statuses"})
_BEYOND = f"beyond the first {HEAD_BYTES // 1024} KiB of a direction, which is all that is kept here"


def _common(one: Sequence[Any], other: Sequence[Any]) -> int:
    """How many items both begin with."""
    return next((k for k, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _of_http(name: str, ours: Any, theirs: Any, mine: Ours, told: _Theirs) -> str:
    answers = name == "http.statuses" or (name == "http.version" and not mine.facts.get("http.requests"))
    more = theirs is None or (isinstance(ours, tuple) and len(ours) > len(theirs) == _common(ours, theirs))
    if more and told.waits("server" if answers else "client"):
        return "tshark tells a message when it is whole, and the capture lacks its end"
    if mine.facts.get("http.version") == "2":
        return "HTTP/2 in the clear, of which only the preface is read here"
    behind = told.behind("client", "requests")
    if behind == 1 and "midstream" in mine.incomplete:
        return "a keep-alive probe's byte stands before the first request that was captured"
    if ours is None and behind > 1:
        return "HTTP behind bytes of a protocol that is not read here"
    if answers and ours is None and not _VERSION.fullmatch(told.values.get("http.response_version", "1.1")):
        return "a status line with a version that HTTP does not have, which is not taken for HTTP here"
    if ours is None and "gap" in mine.incomplete:
        return "behind a hole in the stream, where nothing is read here"
    if name == "http.version" and theirs is not None and not _VERSION.fullmatch(theirs):
        return "a request line with more spaces than RFC 9112 has, of which tshark takes another part for the version"
    methods = [each[0] for each in told.talk.requests]
    if ours is None and any(method.encode() not in http_wire.METHODS for method in methods):
        return "a method that is neither in RFC 9110 nor of WebDAV, which is not taken for HTTP here"
    return ""


def _of_tls(name: str, ours: Any, theirs: Any, mine: Ours, told: _Theirs) -> str:
    if ours is None and told.behind("client", "client 1") > 0:
        return "TLS behind bytes of a protocol that is not read here"
    if isinstance(theirs, str) and theirs.startswith("0x") and ours is not None:
        return "the draft or number that the ServerHello names is unknown to tshark, or it reads the draft's layout wrongly"
    return ""


def _of_mysql(name: str, ours: Any, theirs: Any, mine: Ours, told: _Theirs) -> str:
    if name == "mysql.plugin_switched" and ours is None and mine.facts.get("mysql.auth_more_data") is True:
        return "tshark takes MySQL's AuthMoreData (0x01) for an AuthSwitchRequest"
    return ""


def _of_ssh(name: str, ours: Any, theirs: Any, mine: Ours, told: _Theirs) -> str:
    if name.endswith("_banner") and isinstance(ours, str) and ours.split("\\x00")[0].strip() == theirs:
        return "tshark ends a banner at its first zero byte"
    return ""


# What is shown

HEAD = ("field", "compared", "equal", "only ours", "only tshark", "differ")


def as_lines(told: Agreement) -> Iterator[str]:
    """The table as text, with the causes of what differs below it."""
    rows = [HEAD, *(tuple(str(cell) for cell in row) for row in told.rows())]
    widths = [max(len(row[at]) for row in rows) for at in range(len(HEAD))]
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        yield "  ".join([row[0].ljust(widths[0]), *cells])
    yield ""
    yield f"{told.connections} connections compared with tshark {told.tshark}"
    for cause, count in sorted(told.left_out.items()):
        if count:
            yield f"{count} connections left out: {cause}"
    for cause, count in told.causes():
        yield f"{count} differ: {cause}"
    for each in told.unexplained:
        yield escape(f"  {each.capture} {each.connection} {each.field}: ours {each.ours!r}, tshark's {each.theirs!r}")


def as_json(told: Agreement) -> str:
    """The table and all differences as one JSON object."""
    whole = {
        "schema": SCHEMA,
        "tshark": told.tshark,
        "connections": told.connections,
        "fields": [dict(zip((name.replace(" ", "_") for name in HEAD), row, strict=True)) for row in told.rows()],
        "left_out": {cause: count for cause, count in sorted(told.left_out.items()) if count},
        "causes": dict(told.causes()),
        "differences": [asdict(each) for each in told.differences],
        "problems": told.problems,
    }
    return json.dumps(whole, indent=1)


__all__ = ["SCHEMA", "UNEXPLAINED", "Agreement", "Difference", "Ours", "as_json", "as_lines", "compare", "ours_of"]
