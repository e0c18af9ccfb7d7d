"""From what was seen of a TLS connection to its facts.

The kernel's rows and the inspector, its readable twin, both end here, so that one place says what follows from what was seen. What many
connections have in common (versions, suite, flags of the handshake, names, certificates) becomes one dictionary that they share; what
differs (lengths of encrypted records, links between sessions) stays with each.
"""

from collections.abc import Mapping
from struct import Struct
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auditor.errors import WireError
from auditor.inspectors._tls_proof import Proofs
from auditor.kernels import tls as kernel
from auditor.model.facts import SIGNATURE_FITS, Facts, Proof, pack_marks
from auditor.model.limits import DEFAULTS
from auditor.wire import tls as wire
from auditor.wire.reader import Reader, printable
from auditor.wire.tls_ciphers import cipher_name

MAX_CERTIFICATES = 16
"""So many of a chain are looked at."""

_MAX_CACHED = 50_000
_MAX_LEAVES = 4_096
_NOTHING: Mapping[str, Any] = MappingProxyType({})


def link(secret: bytes) -> str:
    """A short hash that ties a ticket or session id to another sight of it, and tells nothing of it.

    Not the plain SHA-256 of a ticket: OpenSSL's clients offer that as their session id.
    """
    from hashlib import sha256  # loads OpenSSL, which only captures with certificates need

    return sha256(b"link:" + secret).hexdigest()[:16]


def fingerprint(der: bytes) -> str:
    """SHA-256 of a certificate in hex."""
    from hashlib import sha256

    return sha256(der).hexdigest()


def split_certificates(body: bytes) -> list[bytes]:
    """DER certificates of a Certificate message up to TLS 1.2, RFC 5246 section 7.4.2. Raises WireError."""
    reader = Reader(body, whole=True)
    entries = reader.vector(3, "certificate list")
    found: list[bytes] = []
    while entries.left and len(found) < MAX_CERTIFICATES:
        found.append(entries.vector(3, "certificate").take_rest())
    return found


def split_alpn(body: bytes) -> tuple[str, ...]:
    """Names of an ALPN extension's list, RFC 7301 section 3.1. Raises WireError."""
    reader = Reader(body, whole=True)
    names: list[str] = []
    while reader.left and len(names) < kernel.MAX_ALPN:
        names.append(printable(reader.vector(1, "ALPN name").take_rest(), 64))
    return tuple(names)


class Certificates:
    """Distinct certificates by SHA-256 fingerprint, each and all bounded; beyond the bounds only fingerprints are reported."""

    def __init__(
        self, max_bytes: int = DEFAULTS.certificates_bytes, max_one_bytes: int = DEFAULTS.certificate_bytes
    ) -> None:
        self.der: dict[str, bytes] = {}
        self.left_bytes = max_bytes
        self.left_out = 0
        """Sights of certificates that were not kept for want of room."""
        self.too_large = 0
        """Sights of certificates that are larger than what is read of one."""
        self._max_one_bytes = max_one_bytes

    def add(self, der: bytes) -> str:
        """Keep a certificate; returns its fingerprint."""
        name = fingerprint(der)
        self.keep(name, der)
        return name

    def keep(self, name: str, der: bytes) -> None:
        """Keep a certificate whose fingerprint is known."""
        if name in self.der:
            return
        if len(der) > self._max_one_bytes:
            self.too_large += 1
            return
        if len(der) > self.left_bytes:
            self.left_out += 1
            return
        self.left_bytes -= len(der)
        self.der[name] = der

    def get(self, name: str) -> bytes | None:
        """The certificate with this fingerprint as it crossed the wire, or None."""
        return self.der.get(name)

    def __len__(self) -> int:
        return len(self.der)


def _alert(number: int) -> tuple[str, str]:
    level, description = number >> 8, number & 0xFF
    return wire.ALERT_LEVELS.get(level, str(level)), wire.ALERTS.get(description, str(description))


def _sides(flags: int, client: int) -> str:
    """Which of two neighbouring bits are set."""
    both = flags & client != 0, flags & (client << 1) != 0
    return {(True, True): "both", (True, False): "client", (False, True): "server", (False, False): ""}[both]


def describe(
    flags: int,
    shape: tuple[int, int],
    hello_version: int,
    version: int,
    cipher: int,
    alerts: tuple[int, int],
    stops: tuple[int, int],
    psk_identity_bytes: int,
) -> dict[str, Any]:
    """Facts that follow from the common part of a row. What was not seen is left out, not False."""
    told: dict[str, Any] = {}
    is13 = version == wire.TLS13 or version >> 8 == wire.DRAFT_MAJOR
    server_hello = flags & kernel.SERVER_HELLO != 0
    if flags & kernel.CLIENT_HELLO:
        told["tls.client_hello"] = True
        told["tls.hello_version"] = wire.version_name(hello_version)
        told["tls.post_handshake_auth_offered"] = flags & kernel.POST_HANDSHAKE_AUTH != 0
        told["tls.resumption_offered"] = flags & (kernel.PSK_OFFERED | kernel.TICKET_OFFERED) != 0 or (
            flags & kernel.SID_OFFERED != 0 and hello_version < wire.TLS13
        )
        if flags & kernel.SSL2_HELLO:
            told["tls.ssl2_hello"] = True
        else:
            told["tls.hello_shape"] = f"{shape[0]:08x}{shape[1]:08x}"
        if flags & kernel.PSK_OFFERED:
            told["tls.psk_offered"] = True
            told["tls.psk_identity_bytes"] = psk_identity_bytes
        if flags & kernel.TICKET_OFFERED:
            told["tls.ticket_offered"] = True
        if flags & kernel.EARLY_DATA_OFFERED:
            told["tls.early_data_offered"] = True
    if flags & kernel.HELLO_RETRY:
        told["tls.hello_retry"] = True
    if version:
        told["tls.version"] = wire.version_name(version)
        if version != wire.SSL20:  # its suites have other numbers
            told["tls.cipher"] = cipher_name(cipher)
    if server_hello:
        told["tls.server_hello"] = True
        _describe_answered(told, flags, is13)
    elif flags & (kernel.CLIENT_CERTIFICATE | kernel.CLIENT_CERTIFICATE_EMPTY):
        told["tls.client_certificate"] = "sent" if flags & kernel.CLIENT_CERTIFICATE else "empty"
        if flags & kernel.CERTIFICATE_VERIFY:
            told["tls.certificate_verify"] = True
    if not is13:
        for name, place in (("client", 0), ("server", 1)):
            if flags & (kernel.CLIENT_FINISHED << place):
                told[f"tls.{name}_finished"] = True
            if flags & (kernel.CLIENT_DATA << place):
                told[f"tls.{name}_application_data"] = True
            if flags & (kernel.CLIENT_LATE << place):
                told["tls.late_handshake"] = True
            if flags & (kernel.CLIENT_HIDDEN_ALERT << place):
                told[f"tls.{name}_encrypted_alert"] = True
    for name, number in zip(("client", "server"), alerts, strict=True):
        if number != kernel.NO_ALERT:
            told[f"tls.{name}_alert"] = _alert(number)
    for kind, bit in (
        ("tls.gap", kernel.CLIENT_GAP),
        ("tls.cut", kernel.CLIENT_CUT),
        ("tls.limit", kernel.CLIENT_LIMIT),
        ("tls.midstream", kernel.CLIENT_MIDSTREAM),
        ("tls.certificate_not_kept", kernel.CLIENT_LONG),
    ):
        where = _sides(flags, bit)
        if where:
            told[kind] = where
    one_way = _sides(~flags, kernel.CLIENT_BYTES)
    if one_way:
        told["tls.silent"] = one_way
    for code in stops:
        if code:
            told["tls.malformed"] = kernel.STOP_SAYS[code]
    return told


def _describe_answered(told: dict[str, Any], flags: int, is13: bool) -> None:
    """What a ServerHello and the messages behind it tell."""
    if is13:
        told["tls.resumed"] = flags & kernel.PSK_SELECTED != 0
        told["tls.client_certificate"] = "unknown"  # encrypted; of a resumed session: not sent again
        return
    full = flags & (kernel.SERVER_CERTIFICATE | kernel.SERVER_KEY_EXCHANGE | kernel.SERVER_HELLO_DONE) != 0
    if full:
        told["tls.resumed"] = False
    elif flags & kernel.SERVER_CCS:
        told["tls.resumed"] = True
    if flags & kernel.TICKET_ISSUED:
        told["tls.ticket_issued"] = True
    if flags & kernel.CERTIFICATE_REQUEST:
        told["tls.certificate_requested"] = True
    elif flags & kernel.SERVER_HELLO_DONE:
        told["tls.certificate_requested"] = False
    if flags & kernel.CLIENT_CERTIFICATE:
        sent = "sent"
    elif flags & kernel.CLIENT_CERTIFICATE_EMPTY:
        sent = "empty"
    elif flags & kernel.CERTIFICATE_REQUEST:
        sent = "not_sent" if flags & (kernel.CLIENT_KEY_EXCHANGE | kernel.CLIENT_CCS) else "unknown"
    elif flags & kernel.SERVER_HELLO_DONE:
        sent = "not_asked"
    else:
        sent = "unknown"
    told["tls.client_certificate"] = sent
    if flags & kernel.CERTIFICATE_VERIFY:
        told["tls.certificate_verify"] = True
    elif flags & kernel.CLIENT_CERTIFICATE and flags & kernel.CLIENT_CCS:
        told["tls.certificate_verify"] = False


MARKS = {
    "tls.client_hello": kernel.MARK_CLIENT_HELLO,
    "tls.hello_version": kernel.MARK_CLIENT_HELLO,
    "tls.post_handshake_auth_offered": kernel.MARK_CLIENT_HELLO,
    "tls.resumption_offered": kernel.MARK_CLIENT_HELLO,
    "tls.ssl2_hello": kernel.MARK_CLIENT_HELLO,
    "tls.hello_shape": kernel.MARK_CLIENT_HELLO,
    "tls.psk_offered": kernel.MARK_CLIENT_HELLO,
    "tls.psk_identity_bytes": kernel.MARK_CLIENT_HELLO,
    "tls.ticket_offered": kernel.MARK_CLIENT_HELLO,
    "tls.early_data_offered": kernel.MARK_CLIENT_HELLO,
    "tls.sni": kernel.MARK_CLIENT_HELLO,
    "tls.alpn_offered": kernel.MARK_CLIENT_HELLO,
    "tls.hello_retry": kernel.MARK_SERVER_HELLO,
    "tls.version": kernel.MARK_SERVER_HELLO,
    "tls.cipher": kernel.MARK_SERVER_HELLO,
    "tls.server_hello": kernel.MARK_SERVER_HELLO,
    "tls.resumed": kernel.MARK_SERVER_HELLO,
    "tls.alpn": kernel.MARK_SERVER_HELLO,
    "tls.server_certificates": kernel.MARK_SERVER_CERTIFICATE,
    "tls.client_certificates": kernel.MARK_CLIENT_CERTIFICATE,
    "tls.client_certificate": kernel.MARK_CLIENT_CERTIFICATE,
    "tls.certificate_requested": kernel.MARK_CERTIFICATE_REQUEST,
    "tls.certificate_verify": kernel.MARK_CERTIFICATE_VERIFY,
    "tls.client_finished": kernel.MARK_CLIENT_FINISHED,
    "tls.server_finished": kernel.MARK_SERVER_FINISHED,
    "tls.client_alert": kernel.MARK_CLIENT_ALERT,
    "tls.server_alert": kernel.MARK_SERVER_ALERT,
    "tls.client_application_data": kernel.MARK_CLIENT_DATA,
    "tls.server_application_data": kernel.MARK_SERVER_DATA,
    "tls.client_records": kernel.MARK_CLIENT_RECORDS,
    "tls.server_records": kernel.MARK_SERVER_RECORDS,
    "tls.ticket_issued": kernel.MARK_SERVER_TICKET,
}
"""Place in a row's ``marks`` of the frames that show a kind."""

_HIDDEN_LIST = ("tls.client_records", "tls.server_records")


def own_facts(
    flags: int,
    version: int,
    client_sid: bytes,
    server_sid: bytes,
    client_ticket: bytes,
    server_ticket: bytes,
    lengths: tuple[tuple[int, ...], tuple[int, ...]],
    counts: tuple[int, int],
    order: str,
) -> dict[str, Any]:
    """Facts that differ from connection to connection.

    Links (kinds with ``_``) are only made up to TLS 1.2: later the session id is for show, and tickets are issued under encryption.
    Lists of record lengths tell the handshake in TLS 1.3, and in all versions the dialogue that follows it: up to TLS 1.2 they are of
    application data alone.
    """
    own: dict[str, Any] = {}
    is13 = version == wire.TLS13 or version >> 8 == wire.DRAFT_MAJOR
    if version and not is13:
        if server_sid:
            own["_link.session_id"] = link(server_sid)
            own["_link.session_id_echoed"] = client_sid == server_sid
        if client_ticket:
            own["_link.ticket_offered"] = link(client_ticket)
        if server_ticket:
            own["_link.ticket_issued"] = link(server_ticket)
    if version or flags & (kernel.CLIENT_HELLO | kernel.SERVER_HELLO):
        own["tls.order"] = order
        _put_lengths(own, lengths, counts)
    return own


def _put_lengths(
    own: dict[str, Any], lengths: tuple[tuple[int, ...], tuple[int, ...]], counts: tuple[int, int]
) -> None:
    for kind, sizes, count in zip(_HIDDEN_LIST, lengths, counts, strict=True):
        own[kind] = sizes
        if count > len(sizes):
            own[f"{kind}_more"] = True


def is_https(told: Mapping[str, Any]) -> bool:
    """Whether ALPN shows that HTTP is inside: selected, or, where the answer is encrypted, nothing else was offered."""
    if "tls.alpn" in told:
        return told["tls.alpn"] in wire.HTTP_ALPN
    offered = told.get("tls.alpn_offered")
    return (
        bool(offered)
        and str(told.get("tls.version")).startswith("TLS 1.3")
        and wire.HTTP_ALPN.issuperset(offered or ())
    )


class TlsFacts:
    """Makes facts of rows of ``TLS_ROW``, and remembers what it made."""

    def __init__(self, certificates: Certificates) -> None:
        self.certificates = certificates
        self._described: dict[bytes, dict[str, Any]] = {}
        self._shared: dict[tuple[Any, ...], tuple[dict[str, Any], bool]] = {}
        self._chains: dict[bytes, tuple[str, ...] | None] = {}
        self._leaves: dict[bytes, bytes] = {}
        self._chain_bytes = 0
        self._names: dict[bytes, str] = {}
        self._proofs = Proofs()
        self._hidden: dict[bytes, Mapping[str, Any]] = {}
        self._lists: dict[bytes, tuple[str, ...] | None] = {}

    def _chain(self, body: bytes) -> tuple[str, ...] | None:
        """Fingerprints of a Certificate message; None where it contradicts itself."""
        if body in self._chains:
            return self._chains[body]
        try:
            chain: tuple[str, ...] | None = tuple(self.certificates.add(der) for der in split_certificates(body))
        except WireError:
            chain = None
        self._chain_bytes += len(body)
        if self._chain_bytes > 32 * 1024 * 1024:
            self._chains.clear()
            self._leaves.clear()
            self._chain_bytes = len(body)
        self._chains[body] = chain
        return chain

    def _leaf(self, body: bytes) -> bytes:
        """The first certificate of a message that holds some."""
        found = self._leaves.get(body)
        if found is None:
            if len(self._leaves) >= _MAX_LEAVES:
                self._leaves.clear()
            found = self._leaves[body] = split_certificates(body)[0]
        return found

    def _common(self, key: bytes, row: Any, parts: tuple[Any, ...]) -> tuple[dict[str, Any], bool]:
        """The shared dictionary of a row and its names and certificates, and whether it is HTTPS."""
        described = self._described.get(key)
        if described is None:
            described = describe(
                int(row["flags"]),
                (int(row["shape"][0]), int(row["shape"][1])),
                int(row["hello_version"]),
                int(row["version"]),
                int(row["cipher"]),
                (int(row["alert"][0]), int(row["alert"][1])),
                (int(row["stop"][0]), int(row["stop"][1])),
                int(row["psk_identity_bytes"]),
            )
            if len(self._described) >= _MAX_CACHED:
                self._described.clear()
            self._described[key] = described
        made = described | common_parts(*parts)
        found = made, is_https(made)
        if len(self._shared) >= _MAX_CACHED:
            self._shared.clear()
        self._shared[key, *parts] = found
        return found

    def of_rows(
        self,
        rows: NDArray[Any],
        arena: NDArray[np.uint8],
        slots: NDArray[np.int32],
        within: NDArray[np.int32] | None = None,
    ) -> list[tuple[Facts, bool] | None]:
        """Facts of each row and whether it is HTTPS; None where the row is ``ODD`` and the inspector has to read.

        ``within``: int32[n, 2, 2], of client and server where in their heads TLS begins and what is known ends; None: signatures are not checked.
        """
        key_size, size = kernel.KEY_BYTES, kernel.TLS_ROW.itemsize
        raw = rows.tobytes()
        flags_of, version_of = rows["flags"], rows["version"]
        hidden = (version_of == wire.TLS13) | (version_of >> 8 == wire.DRAFT_MAJOR) | (version_of == 0)
        told = zip(
            flags_of.tolist(),
            version_of.tolist(),
            hidden.tolist(),
            rows["spans"].reshape(len(rows), 2 * kernel.N_SPANS).tolist(),
            (slots.astype(np.int64) * arena.shape[1]).tolist(),
            pack_marks(rows["marks"]),
            strict=True,
        )
        # A view of memory gives slices at a fifth of what an array's cost.
        text = arena.reshape(-1).data
        out: list[tuple[Facts, bool] | None] = []
        for i, (flags, version, is_hidden, spans, (client, server), packed) in enumerate(told):
            if flags & kernel.ODD:
                out.append(None)
                continue
            sni = alpn = selected = client_chain = server_chain = None
            wrong = False
            if flags & kernel.SNI:
                name = _cut(text, client, spans, kernel.SPAN_SNI)
                sni = self._names.get(name)
                if sni is None:
                    sni = self._name(name)
            if flags & kernel.ALPN_OFFERED:
                offer = _cut(text, client, spans, kernel.SPAN_CLIENT_ALPN)
                alpn = self._lists[offer] if offer in self._lists else self._list(offer)
                wrong = alpn is None
            if flags & kernel.ALPN_SELECTED:
                selected = printable(_cut(text, server, spans, kernel.SPAN_SERVER_ALPN), 64)
            if flags & _KEPT_CLIENT == kernel.CLIENT_CERTIFICATE:
                client_chain = self._chain(_cut(text, client, spans, kernel.SPAN_CLIENT_CERTIFICATE))
                wrong = wrong or client_chain is None
            if flags & _KEPT_SERVER == kernel.SERVER_CERTIFICATE:
                server_chain = self._chain(_cut(text, server, spans, kernel.SPAN_SERVER_CERTIFICATE))
                wrong = wrong or server_chain is None
            fits: Proof | None = None
            if flags & SIGNED == SIGNED and version == wire.TLS12 and client_chain and within is not None:
                (start_c, end_c), (start_s, end_s) = within[i].tolist()
                fits = self._proofs.prepared(
                    bytes(text[client + start_c : client + end_c]),
                    bytes(text[server + start_s : server + end_s]),
                    self._leaf(_cut(text, client, spans, kernel.SPAN_CLIENT_CERTIFICATE)),
                )
            start = i * size
            key = raw[start : start + key_size]
            parts = (sni, alpn, selected, client_chain, server_chain, wrong)
            found = self._shared.get((key, *parts))
            if found is None:
                found = self._common(key, rows[i], parts)
            own: Mapping[str, Any] = _NOTHING
            records = raw[start + _RECORDS_AT : start + _RECORDS_END]
            if is_hidden or not flags & _LINKED:
                if version or flags & (kernel.CLIENT_HELLO | kernel.SERVER_HELLO):
                    own = self._hidden.get(records) or self._told_records(flags, version, records)
            else:
                own = own_facts(
                    flags,
                    version,
                    _cut(text, client, spans, kernel.SPAN_CLIENT_SID),
                    _cut(text, server, spans, kernel.SPAN_SERVER_SID),
                    _cut(text, client, spans, kernel.SPAN_CLIENT_TICKET),
                    _cut(text, server, spans, kernel.SPAN_SERVER_TICKET),
                    *_records(records),
                )
            if fits is not None:
                own = {**own, SIGNATURE_FITS: fits}
            where = ((MARKS, packed),) if packed is not None else ((_frames_by_kind(rows[i]), None),)
            out.append((Facts(found[0], own, where), found[1]))
        return out

    def _told_records(self, flags: int, version: int, records: bytes) -> Mapping[str, Any]:
        """Facts of these bytes of a row, where nothing links it to others: the one mapping with this content."""
        if len(self._hidden) >= _MAX_CACHED:
            self._hidden.clear()
        own = self._hidden[records] = own_facts(flags, version, b"", b"", b"", b"", *_records(records))
        return own

    def _name(self, name: bytes) -> str:
        if len(self._names) >= _MAX_CACHED:
            self._names.clear()
        text = self._names[name] = printable(name)
        return text

    def _list(self, offer: bytes) -> tuple[str, ...] | None:
        try:
            names: tuple[str, ...] | None = split_alpn(offer)
        except WireError:
            names = None
        if len(self._lists) >= _MAX_CACHED:
            self._lists.clear()
        self._lists[offer] = names
        return names


def _frames_by_kind(row: Any) -> dict[str, tuple[int, ...]]:
    """Frames of a connection whose head comes from several captures."""
    return {
        kind: tuple(sorted({int(frame) for frame in row["marks"][place] if frame})) for kind, place in MARKS.items()
    }


_LINKED = kernel.SID_GIVEN | kernel.TICKET_OFFERED | kernel.TICKET_ISSUED
SIGNED = kernel.CERTIFICATE_VERIFY | kernel.CLIENT_CERTIFICATE | kernel.SERVER_HELLO_DONE
_KEPT_CLIENT = kernel.CLIENT_CERTIFICATE | kernel.CLIENT_LONG
_KEPT_SERVER = kernel.SERVER_CERTIFICATE | kernel.SERVER_LONG

Records = tuple[tuple[tuple[int, ...], tuple[int, ...]], tuple[int, int], str]
"""Lengths of the first encrypted records of both sides, how many there were, and who said what in which order."""

_RECORDS_AT = int(kernel.TLS_ROW.fields["n_records"][1])  # type: ignore[index]  # a structured dtype has fields
_RECORDS = Struct(f"=2i{2 * kernel.KEPT_RECORDS}ii{kernel.TLS_ROW['order'].itemsize}s")
"""``n_records``, ``lengths``, ``n_order`` and ``order``, which lie behind one another in a row."""
_RECORDS_END = _RECORDS_AT + _RECORDS.size


def _records(raw: bytes) -> Records:
    """What these bytes of a row say."""
    kept = kernel.KEPT_RECORDS
    client, server, *lengths, letters, order = _RECORDS.unpack(raw)
    said = tuple(lengths[: min(client, kept)]), tuple(lengths[kept : kept + min(server, kept)])
    return said, (client, server), order[:letters].decode()


def _cut(text: memoryview, slot: int, spans: list[int], place: int) -> bytes:
    """The bytes of a row's span; ``slot``: where in ``text`` the head begins."""
    at = slot + spans[2 * place]
    return bytes(text[at : at + spans[2 * place + 1]])


def common_parts(
    sni: str | None,
    alpn_offered: tuple[str, ...] | None,
    alpn: str | None,
    client_chain: tuple[str, ...] | None,
    server_chain: tuple[str, ...] | None,
    wrong: bool,
) -> dict[str, Any]:
    """Facts of names and certificates, left out where they were not seen."""
    parts: dict[str, Any] = {
        "tls.sni": sni,
        "tls.alpn_offered": alpn_offered,
        "tls.alpn": alpn,
        "tls.client_certificates": client_chain,
        "tls.server_certificates": server_chain,
    }
    told = {kind: value for kind, value in parts.items() if value is not None}
    if wrong:
        told["tls.malformed"] = "a list contradicts its length"
    return told
