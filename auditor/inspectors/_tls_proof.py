"""Whether the signatures of a handshake of TLS 1.2 fit it as it was seen: the client's CertificateVerify (RFC 5246 section 7.4.8) and the server's
ServerKeyExchange (section 7.4.3, RFC 8422 section 5.4).

Up to TLS 1.2 all that is signed crosses in the clear: by the client every handshake message before this one, by the server both randoms and its parameters. Ends that
hold the keys of their certificates are proven by that, and bytes that somebody else put into the capture are told by it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import Any

from auditor.model.facts import Proof
from auditor.wire import tls as wire

_HELLO_REQUEST = 0
_NAMED_CURVE = 3
_MOST_KEYS = 4_096
_UNREAD = object()


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and bytes of the handshake messages up to the first record of another kind, or the end."""
    records: list[bytes] = []
    at = 0
    while at + wire.RECORD_HEADER_BYTES <= len(data) and data[at] == wire.HANDSHAKE:
        end = at + wire.RECORD_HEADER_BYTES + (data[at + 3] << 8 | data[at + 4])
        records.append(data[at + wire.RECORD_HEADER_BYTES : end])
        at = end
    joined = records[0] if len(records) == 1 else b"".join(records)
    at, size = 0, len(joined)
    while at + wire.MESSAGE_HEADER_BYTES <= size:
        end = at + wire.MESSAGE_HEADER_BYTES + (joined[at + 1] << 16 | joined[at + 2] << 8 | joined[at + 3])
        if end > size:
            return
        yield joined[at], joined[at:end]
        at = end


class Proofs:
    """Checks signatures; remembers keys."""

    def __init__(self) -> None:
        self._keys: dict[bytes, Any] = {}

    def fits(self, client: bytes, server: bytes, certificate: bytes) -> bool | None:
        """Of both directions from their first record on, by the key of the client's certificate (DER); None: something is missing, or of a kind that is not known."""
        found = self.prepared(client, server, certificate)
        return None if found is None else found.fits()

    def prepared(self, client: bytes, server: bytes, certificate: bytes) -> Proof | None:
        """The same, to be checked when it is asked for; None: what would be checked is missing."""
        signed: list[bytes] = []
        told = None
        answered = False
        hello, server_certificate, exchange = b"", b"", b""
        for number, (kind, message) in enumerate(_messages(client)):
            if kind == wire.CERTIFICATE_VERIFY:
                told = message[wire.MESSAGE_HEADER_BYTES :]
                break
            if number == 1:
                for other, answer in _messages(server):
                    if other != _HELLO_REQUEST:
                        signed.append(answer)
                    if other == wire.SERVER_HELLO:
                        hello = answer
                    elif other == wire.CERTIFICATE:
                        server_certificate = answer
                    elif other == wire.SERVER_KEY_EXCHANGE:
                        exchange = answer
                    if other == wire.SERVER_HELLO_DONE:
                        answered = True
                        break
            signed.append(message)
        if told is None or not answered or len(told) < 4:
            return None
        key = self._key(certificate)
        size = int.from_bytes(told[2:4], "big")
        if key is None or len(told) != 4 + size:
            return None
        scheme, signature = int.from_bytes(told[:2], "big"), told[4:]
        mine = _check(key, scheme, signature, signed)
        theirs = self._of_server(signed[0], hello, server_certificate, exchange)
        return Proof(mine if theirs is None else partial(_both, mine, theirs))

    def _of_server(
        self, asked: bytes, hello: bytes, certificate: bytes, exchange: bytes
    ) -> Callable[[], bool | None] | None:
        """What checks the server's signature, from ClientHello, ServerHello, Certificate and ServerKeyExchange; None: there is none, or of a kind that is not known."""
        body = exchange[wire.MESSAGE_HEADER_BYTES :]
        random = slice(wire.MESSAGE_HEADER_BYTES + 2, wire.MESSAGE_HEADER_BYTES + 2 + wire.RANDOM_BYTES)
        if len(body) < 4:
            return None
        if body[0] == _NAMED_CURVE:
            end = 4 + body[3]
        else:
            # Prime, generator and public value of finite fields, each with its length (RFC 5246 section 7.4.3).
            end = 0
            for _ in range(3):
                end += 2 + int.from_bytes(body[end : end + 2], "big")
        size = int.from_bytes(body[end + 2 : end + 4], "big")
        at = wire.MESSAGE_HEADER_BYTES + 3
        leaf = certificate[at + 3 : at + 3 + int.from_bytes(certificate[at : at + 3], "big")]
        key = self._key(leaf) if leaf else None
        if key is None or end + 4 + size != len(body) or not size:
            return None
        said = [asked[random], hello[random], body[:end]]
        return _check(key, int.from_bytes(body[end : end + 2], "big"), body[end + 4 :], said)

    def _key(self, certificate: bytes) -> Any:
        """The public key of a certificate; None where it is not read."""
        key = self._keys.get(certificate, _UNREAD)
        if key is _UNREAD:
            from cryptography import x509  # takes its time to load

            try:
                key = x509.load_der_x509_certificate(certificate).public_key()
            except Exception:  # whatever a certificate's bytes make the library say
                key = None
            if len(self._keys) >= _MOST_KEYS:
                self._keys.clear()
            self._keys[certificate] = key
        return key


_DIGESTS = {2: "sha1", 3: "sha224", 4: "sha256", 5: "sha384", 6: "sha512"}
"""By the number of a hash in a signature scheme: RFC 5246 section 7.4.1.4.1, RFC 8446 section 4.2.3."""


def _both(client: Callable[[], bool | None], server: Callable[[], bool | None]) -> bool | None:
    """The client's signature proves; one that does not fit, of either end, disproves."""
    told = client()
    return False if told is not False and server() is False else told


def _check(key: Any, scheme: int, signature: bytes, parts: Sequence[bytes]) -> Callable[[], bool | None]:
    """What checks, when it is called, whether a signature is of these bytes (None: the scheme is not known, or not of this key); it keeps their hash alone."""
    name = _DIGESTS.get(scheme & 0xFF if 0x0804 <= scheme <= 0x0806 else scheme >> 8)
    if name is None:
        return partial(_verified, key, scheme, signature, b"".join(parts))
    digest = hashlib.new(name)
    for each in parts:
        digest.update(each)
    return partial(_verified, key, scheme, signature, digest.digest(), prehashed=True)


def _verified(key: Any, scheme: int, signature: bytes, signed: bytes, *, prehashed: bool = False) -> bool | None:
    """Whether a signature is of these bytes (``prehashed``: of what they are the hash of); None where the scheme is not known, or not of this key."""
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, padding

    high, low = scheme >> 8, scheme & 0xFF
    try:
        kind = _kind(key)
        if kind == "rsa" and prehashed and low == 1:
            key.verify(signature, signed, padding.PKCS1v15(), _hashes(high)[1])
        elif kind == "rsa" and prehashed and 0x0804 <= scheme <= 0x0806:
            digest, ready = _hashes(low)
            key.verify(signature, signed, padding.PSS(padding.MGF1(digest), digest.digest_size), ready)
        elif kind == "ec" and prehashed and low == 3:
            key.verify(signature, signed, ec.ECDSA(_hashes(high)[1]))
        elif kind == "ed" and scheme in (0x0807, 0x0808):
            key.verify(signature, signed)
        else:
            return None
    except InvalidSignature:
        return False
    except (UnsupportedAlgorithm, ValueError):
        return None
    return True


def _kind(key: Any) -> str:
    """Of a public key: rsa, ec, ed, or empty for others. Asking abstract classes each time takes as long as a part of the check, so the class is remembered."""
    found = _KINDS.get(type(key))
    if found is None:
        from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

        kinds = ((rsa.RSAPublicKey, "rsa"), (ec.EllipticCurvePublicKey, "ec"), (ed25519.Ed25519PublicKey, "ed"), (ed448.Ed448PublicKey, "ed"))  # fmt: skip
        found = _KINDS[type(key)] = next((name for kind, name in kinds if isinstance(key, kind)), "")
    return found


_KINDS: dict[type, str] = {}


@cache
def _hashes(number: int) -> tuple[Any, Any]:
    """A hash by its number, and the same for what is hashed already."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

    kind: Any = getattr(hashes, _DIGESTS[number].upper())
    return kind(), Prehashed(kind())
