"""The shape ``diego``: a foundation of some 160 VMs that talks on its documented paths, and little else.

What is said is made by the sample captures' own writer (``captures/sample/_diego.py``): TLS of OpenSSL between VMs that each have a key and
certificates of their own, in full and resumed by ticket, by session id and by PSK; refused handshakes; SSH, NATS and MySQL logins in
the clear, accepted and refused. Each conversation is recorded once for a pair of VMs and played many times with fresh randoms, session
ids, tickets and salts. Where TLS 1.2 shows signatures, both ends' are made anew over the handshake as it is played, so that they fit.

How often each path is used is an estimate (``PATHS``): what a platform does at every turn (converging, auctions, crashes) scales with its
cells and makes the most connections; logins of people and of databases make the fewest.
"""

from __future__ import annotations

import json
import random
import ssl
import sys
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from foundation import HOSTS
from numpy.typing import NDArray

FORMAT = "diego/3"
ORIG, RESP = 0, 1
SAMPLE = Path(__file__).resolve().parents[1] / "captures" / "sample"


class Use(NamedTuple):
    """How a documented path is used."""

    share: float
    orig: str
    resp: str
    port: int
    """0: some host port of an application."""
    talk: str
    """mutual, server (no client certificate is asked for), ssh, nats, mysql."""
    client: str = ""
    server: str = ""
    """Names of the certificates, ``_diego.certificate``'s; each VM has one of its own."""


PATHS = (
    Use(6, "cloud_controller", "diego_database", 8889, "mutual", "cc_tls", "diego_bbs_server"),
    Use(1, "cloud_controller", "diego_database", 8891, "mutual", "diego_locket_client", "diego_locket_server"),
    Use(13, "diego_brain", "diego_cell", 1801, "mutual", "diego_rep_client", "diego_rep_agent_v2"),
    Use(3, "diego_brain", "diego_database", 8889, "mutual", "diego_bbs_client", "diego_bbs_server"),
    Use(1, "diego_brain", "diego_database", 8891, "mutual", "diego_bbs_client", "diego_locket_server"),
    Use(4, "diego_brain", "diego_cell", 0, "ssh"),
    Use(7, "diego_cell", "diego_database", 8889, "mutual", "diego_bbs_client", "diego_bbs_server"),
    Use(14, "diego_cell", "diego_database", 8889, "mutual", "diego_rep_agent_v2", "diego_bbs_server"),
    Use(4, "diego_cell", "diego_database", 8891, "mutual", "diego_rep_agent_v2", "diego_locket_server"),
    Use(3, "diego_cell", "diego_brain", 9091, "mutual", "diego_rep_agent_v2", "cc_uploader_server"),
    Use(6, "diego_cell", "diego_brain", 8447, "server", "", "file_server"),
    Use(3, "diego_database", "diego_brain", 9016, "mutual", "diego_auctioneer_client", "diego_auctioneer_server"),
    Use(12, "diego_database", "diego_cell", 1801, "mutual", "diego_rep_client", "diego_rep_agent_v2"),
    Use(4, "diego_brain", "cloud_controller", 9023, "mutual", "cc_bridge_tps", "cc_tls"),
    Use(1, "diego_brain", "cloud_controller", 9024, "server", "", "cc_public_tls"),
    Use(2, "diego_brain", "uaa", 443, "server", "", "uaa_ssl"),
    Use(3, "diego_cell", "nats", 4222, "nats"),
    Use(4, "diego_cell", "cloud_controller", 9023, "mutual", "diego_rep_agent_v2", "cc_tls"),
    Use(5, "diego_cell", "nfs_server", 4443, "server", "", "blobstore_tls"),
    Use(4, "diego_database", "mysql_proxy", 3306, "mysql"),
)
KINDS = {"13": 0.48, "13-resumed": 0.16, "12": 0.18, "12-resumed": 0.04, "12-ticket": 0.04, "12-ticket-resumed": 0.08, "refused": 0.02}  # fmt: skip
"""Of the connections with TLS, how many are of which kind."""
UNDECLARED = 0.03
"""Of all, how many go to a port that no path has."""
_PAIRS = 24
"""So many pairs of VMs use each path."""

# Slots of fresh bytes: 0 and 1 the randoms, 2 the session id, 3 a ticket, 4 and up whatever else; KIN and a slot: the bytes of the
# connection whose session is resumed; SIGNED and the number of an end: its signature.
KIN, SIGNED = 16, 64


class Talk(NamedTuple):
    """A conversation of two VMs."""

    path: int
    """Its place in ``PATHS``."""
    kind: str
    hosts: tuple[int, int]
    said: list[tuple[int, bytes]]
    fresh: list[tuple[int, int, int]]
    """Bytes that are fresh in each connection: where in all that is said, how many, slot."""
    signed: list[tuple[int, str, list[tuple[int, int]]]]
    """Whose signatures are shown (ORIG or RESP), in their order: what it signs with, PEM, and the stretches that it is over."""
    first: int
    """The conversation whose session this one resumes; -1: none."""


def load(path: Path) -> list[Talk]:
    """The recording in ``path``; made there if there is none."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        made = [
            {**each._asdict(), "said": [(by, b64encode(data).decode()) for by, data in each.said]} for each in record()
        ]
        path.write_text(json.dumps({"format": FORMAT, "talks": made}), encoding="utf-8")
    kept = json.loads(path.read_text(encoding="utf-8"))
    if kept.get("format") != FORMAT:
        raise SystemExit(f"{path}: not a recording of this generator ({FORMAT}); delete it and it is made anew")
    return [
        Talk(
            **{
                **each,
                "hosts": tuple(each["hosts"]),
                "said": [(by, b64decode(text)) for by, text in each["said"]],
                "fresh": [tuple(one) for one in each["fresh"]],
                "signed": [(by, key, [tuple(one) for one in over]) for by, key, over in each["signed"]],
            }
        )
        for each in kept["talks"]
    ]


# --- recording ----------------------------------------------------------------------------------------------------------------------------------------


def record() -> list[Talk]:
    """All conversations."""
    sys.path.insert(0, str(SAMPLE))
    import _diego as sample

    sides = {"c": ORIG, "s": RESP}
    makers = _per_vm(sample)
    talks: list[Talk] = []

    def add(path: int, kind: str, hosts: tuple[int, int], said: list[tuple[str, bytes]], **more: Any) -> int:
        turns = [(sides[who], data) for who, data in said]
        told = {"fresh": [], "signed": [], "first": -1} | more
        talks.append(Talk(path, kind, hosts, turns, **told))
        return len(talks) - 1

    rng = random.Random(14)
    for place, path in enumerate(PATHS):
        for hosts in _pairs(path):
            if path.talk == "ssh":
                for session in (sample.Ssh(rng).session(), sample.Ssh(rng).session(server=b"SSH-2.0-OpenSSH_9.6")):
                    add(place, "ssh", hosts, session, fresh=_sealed(session))
            elif path.talk == "nats":
                vm = sample.Vm(HOSTS[hosts[1]], f"10.0.16.{10 + hosts[1]}")
                info = sample.nats_info(vm, path.port)
                add(place, "nats", hosts, [info, *sample.nats_session(name=HOSTS[hosts[0]])])
                wrong = [info, sample.nats_session()[0], ("s", b"-ERR 'Authorization Violation'\r\n")]
                add(place, "nats-refused", hosts, wrong)
            elif path.talk == "mysql":
                sql = sample.MySql(rng)
                greeting, login = sql.greeting(), sql.login(b"diego", b"diego")
                salt = greeting[1].index(sql.salt[:8])
                fresh = [(salt, 8, 4), (greeting[1].index(sql.salt[8:]), 12, 5)]
                fresh.append((len(greeting[1]) + login[1].index(b"\x14", 38) + 1, 20, 6))
                told = [greeting, login, sql.accepted(), *sql.query(b"SELECT guid FROM desired_lrps")]
                add(place, "mysql", hosts, told, fresh=fresh)
                add(place, "mysql-refused", hosts, [greeting, login, sql.denied()], fresh=fresh)
            else:
                _record_tls(sample, makers, add, place, path, hosts)
    return talks


def _pairs(path: Use) -> Iterator[tuple[int, int]]:
    """Pairs of VMs that use a path; so that each VM of a role has its turn."""
    ends = [[k for k, name in enumerate(HOSTS) if name.startswith(f"{role}/")] for role in (path.orig, path.resp)]
    for k in range(_PAIRS):
        step = k * max(1, len(ends[0]) // _PAIRS), k * max(1, len(ends[1]) // _PAIRS)
        yield ends[0][step[0] % len(ends[0])], ends[1][step[1] % len(ends[1])]


def _per_vm(sample: Any) -> Any:
    """Certificates of each VM, under ``NAME@VM``, made when first asked for; and contexts without tickets where ``sample.TICKETS`` is False."""
    plain, authority, made = sample.certificate, sample.AUTHORITY, {}

    def certificate(name: str) -> Any:
        word = name.partition("@")[0]
        if name not in made:
            # Each VM's key is made anew: the authority keeps keys by common name.
            authority._keys = {key: kept for key, kept in authority._keys.items() if key.startswith("ca ")}
            made[name] = plain.__wrapped__(word)
        return made[name]

    without_tickets: dict[Any, Any] = {}
    usual = sample._context

    def context(*words: Any) -> Any:
        if sample.TICKETS:
            return usual(*words)
        if words not in without_tickets:
            without_tickets[words] = usual.__wrapped__(*words)
            without_tickets[words].options |= ssl.OP_NO_TICKET
        return without_tickets[words]

    sample.certificate, sample._context = certificate, context
    return certificate


def _record_tls(sample: Any, certificate: Any, add: Any, place: int, path: Use, hosts: tuple[int, int]) -> None:
    own, other = (HOSTS[host] for host in hosts)
    mutual = path.talk == "mutual"
    client = f"{path.client}@{own}" if mutual else None
    told = {
        "server": f"{path.server}@{other}",
        "client": client,
        "sni": path.server.replace("_", "-") + ".service.cf.internal",
        "ask": "required" if mutual else "no",
        "ca": "uaaCA" if path.server == "uaa_ssl" else "internalCA",
        "client_ca": "internalCA",
    }
    words: dict[str, Any] = {"alpn": "h2"} if path.port == 8891 else {}
    talk = sample.h2() if words else sample.http("POST", "/v1/some", "some.host", b"x" * 120, answer=b"y" * 400)
    keys = {by: Path(certificate(name).file).read_text() for by, name in (("c", client), ("s", told["server"])) if name}

    def play(kind: str, version: str, first: int = -1, session: Any = None, **more: Any) -> tuple[int, Any]:
        sample.TICKETS = "ticket" in kind or version == "1.3"
        made = sample.Tls(**(told | words | more), version=version, session=session)
        made.say(*talk)
        # Asked for while the connection is open: closing spoils a session.
        kept = made.session
        said = made.close()
        fresh, over = _fresh(said, by_id=kind == "12-resumed")
        signed = [(ORIG if by == "c" else RESP, keys[by], stretches) for by, stretches in over]
        return add(place, kind, hosts, said, fresh=fresh, signed=signed, first=first), kept

    first, session = play("13", "1.3")
    play("13-resumed", "1.3", first, session)
    first, session = play("12", "1.2")
    play("12-resumed", "1.2", first, session)
    first, session = play("12-ticket", "1.2")
    play("12-ticket-resumed", "1.2", first, session)
    if mutual:
        play("refused", "1.3", client=None)
        play("refused", "1.2", client=None)


def _sealed(session: Sequence[tuple[str, bytes]]) -> list[tuple[int, int, int]]:
    """Fresh bytes of an SSH session: what is in packets after the key exchange, their lengths left as they are."""
    fresh, at, slot = [], 0, 4
    for number, (_, data) in enumerate(session):
        if number >= 7:
            fresh.append((at + 4, len(data) - 4, slot))
            slot += 1
        at += len(data)
    return [(at, size, min(slot, 15)) for at, size, slot in fresh]


def _messages(said: Sequence[tuple[str, bytes]]) -> Iterator[tuple[str, int, int, bytes]]:
    """Handshake messages in the clear: who, type, where in all that is said, and the message; each is whole in one record."""
    at = 0
    encrypted = {"c": False, "s": False}
    for who, data in said:
        place = 0
        while place + 5 <= len(data):
            size = int.from_bytes(data[place + 3 : place + 5], "big")
            if data[place] == 20:
                encrypted[who] = True
            elif data[place] == 22 and not encrypted[who]:
                inside = place + 5
                while inside < place + 5 + size:
                    length = 4 + int.from_bytes(data[inside + 1 : inside + 4], "big")
                    yield who, data[inside], at + inside, data[inside : inside + length]
                    inside += length
            place += 5 + size
        at += len(data)


def _fresh(
    said: Sequence[tuple[str, bytes]], *, by_id: bool
) -> tuple[list[tuple[int, int, int]], list[tuple[str, list[tuple[int, int]]]]]:
    """Fresh bytes of a TLS conversation (``by_id``: its session id is that of the session it resumes), and the stretches that each end signed.

    The server signs both randoms and what it says of its key (RFC 8422 section 5.4), the client all messages before (RFC 5246 section 7.4.8).
    """
    fresh: list[tuple[int, int, int]] = []
    before: list[tuple[int, int]] = []
    randoms: list[tuple[int, int]] = []
    signed: list[tuple[str, list[tuple[int, int]]]] = []
    for who, kind, at, message in _messages(said):
        if kind in (1, 2):
            fresh.append((at + 6, 32, 0 if who == "c" else 1))
            randoms.append((at + 6, 32))
            if message[38] == 32:
                fresh.append((at + 39, 32, KIN + 2 if by_id else 2))
        if kind == 1:
            for number, place, size in _extensions(message):
                if number == 35 and size:
                    fresh.append((at + place, size, KIN + 3))
                elif number == 41:
                    length = int.from_bytes(message[place + 2 : place + 4], "big")
                    fresh.append((at + place + 4, length, 3))
        if kind == 4:
            fresh.append((at + 10, len(message) - 10, 3))
        if kind == 12:
            key = 4 + message[7]  # curve and point
            fresh.append((at + 8 + key, len(message) - 8 - key, SIGNED + RESP))
            signed.append((who, [*randoms, (at + 4, key)]))
        if kind == 15:
            fresh.append((at + 8, len(message) - 8, SIGNED + ORIG))
            signed.append((who, list(before)))
        before.append((at, len(message)))
    return fresh, signed


def _extensions(hello: bytes) -> Iterator[tuple[int, int, int]]:
    """Of a ClientHello: number, where its data begins, and how long it is."""
    at = 39 + hello[38]
    at += 2 + int.from_bytes(hello[at : at + 2], "big")
    at += 1 + hello[at]
    at += 2
    while at + 4 <= len(hello):
        number, size = int.from_bytes(hello[at : at + 2], "big"), int.from_bytes(hello[at + 2 : at + 4], "big")
        yield number, at + 4, size
        at += 4 + size


# --- planning -------------------------------------------------------------------------------------------------------------------------------------------


def choose(rng: np.random.Generator, talks: Sequence[Talk], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each connection, in the order of their starts, its conversation, and the earlier connection whose session it resumes (-1: none)."""
    weight = np.zeros(len(talks))
    shares = {**KINDS, "ssh": 1.0, "nats": 0.95, "nats-refused": 0.05, "mysql": 0.97, "mysql-refused": 0.03}
    for place, path in enumerate(PATHS):
        mine = [k for k, talk in enumerate(talks) if talk.path == place]
        share = np.array([shares[talks[k].kind] for k in mine])
        weight[mine] = path.share * share / share.sum()
    which = rng.choice(len(talks), count, p=weight / weight.sum())
    kin = np.full(count, -1, np.int64)
    for child, talk in enumerate(talks):
        if talk.first < 0:
            continue
        rows = np.flatnonzero(which == child)
        parents = np.flatnonzero(which == talk.first)
        place = np.searchsorted(parents, rows) - 1
        # Who has no session yet begins one; it serves the later ones only in another recording's place, so it is simply a full one.
        which[rows[place < 0]] = talk.first
        kin[rows[place >= 0]] = parents[place[place >= 0]]
    return which, kin


def sign(
    talk: Talk, played: NDArray[np.uint8], by: int, over: Sequence[tuple[int, int]], key: rsa.RSAPrivateKey
) -> bytes:
    """An end's signature over the handshake as it is played; its scheme stands before its length."""
    data = b"".join(bytes(played[at : at + size]) for at, size in over)
    at = next(at for at, _, slot in talk.fresh if slot == SIGNED + by)
    scheme = int.from_bytes(bytes(played[at - 4 : at - 2]), "big")
    digest = {4: hashes.SHA256, 5: hashes.SHA384, 6: hashes.SHA512}[
        scheme & 0xFF if scheme >> 8 == 8 else scheme >> 8
    ]()
    pss = scheme >> 8 == 8
    form = padding.PSS(padding.MGF1(digest), digest.digest_size) if pss else padding.PKCS1v15()
    return key.sign(data, form, digest)


@cache
def private_key(pem: str) -> rsa.RSAPrivateKey:
    """The key of a recorded end; of no use but here."""
    key = serialization.load_pem_private_key(pem.encode(), None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise SystemExit("a recorded end has no RSA key; delete the recording and it is made anew")
    return key
