"""Whether the signature of a client's CertificateVerify fits the handshake as it was seen: RFC 5246 section 7.4.8.

Up to TLS 1.2 all that is signed crosses in the clear: every handshake message before this one. A client that holds the key of its certificate is proven by that, and
bytes that somebody else put into the capture are told by it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from auditor.wire import tls as wire

_HELLO_REQUEST = 0
_MOST_KEYS = 4_096
_UNREAD = object()


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and bytes of the handshake messages up to the first record of another kind, or the end."""
    joined = bytearray()
    at = 0
    while at + wire.RECORD_HEADER_BYTES <= len(data) and data[at] == wire.HANDSHAKE:
        size = int.from_bytes(data[at + 3 : at + 5], "big")
        joined += data[at + wire.RECORD_HEADER_BYTES : at + wire.RECORD_HEADER_BYTES + size]
        at += wire.RECORD_HEADER_BYTES + size
    at = 0
    while at + wire.MESSAGE_HEADER_BYTES <= len(joined):
        end = at + wire.MESSAGE_HEADER_BYTES + int.from_bytes(joined[at + 1 : at + 4], "big")
        if end > len(joined):
            return
        yield joined[at], bytes(joined[at:end])
        at = end


class Proofs:
    """Checks signatures; remembers keys."""

    def __init__(self) -> None:
        self._keys: dict[bytes, Any] = {}

    def fits(self, client: bytes, server: bytes, certificate: bytes) -> bool | None:
        """Of both directions from their first record on, by the key of the client's certificate (DER); None: something is missing, or of a kind that is not known."""
        signed = bytearray()
        told = None
        answered = False
        for number, (kind, message) in enumerate(_messages(client)):
            if kind == wire.CERTIFICATE_VERIFY:
                told = message[wire.MESSAGE_HEADER_BYTES :]
                break
            if number == 1:
                for other, answer in _messages(server):
                    if other != _HELLO_REQUEST:
                        signed += answer
                    if other == wire.SERVER_HELLO_DONE:
                        answered = True
                        break
            signed += message
        if told is None or not answered or len(told) < 4:
            return None
        key = self._key(certificate)
        size = int.from_bytes(told[2:4], "big")
        if key is None or len(told) != 4 + size:
            return None
        return _verified(key, int.from_bytes(told[:2], "big"), told[4:], bytes(signed))

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


def _verified(key: Any, scheme: int, signature: bytes, signed: bytes) -> bool | None:
    """Whether a signature is of these bytes; None where the scheme is not known, or not of this key."""
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa

    by_number: dict[int, type[Any]] = {
        2: hashes.SHA1,
        3: hashes.SHA224,
        4: hashes.SHA256,
        5: hashes.SHA384,
        6: hashes.SHA512,
    }
    high, low = scheme >> 8, scheme & 0xFF
    try:
        if isinstance(key, rsa.RSAPublicKey) and low == 1 and high in by_number:
            key.verify(signature, signed, padding.PKCS1v15(), by_number[high]())
        elif isinstance(key, rsa.RSAPublicKey) and 0x0804 <= scheme <= 0x0806:
            digest = by_number[low]()
            key.verify(signature, signed, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
        elif isinstance(key, ec.EllipticCurvePublicKey) and low == 3 and high in by_number:
            key.verify(signature, signed, ec.ECDSA(by_number[high]()))
        elif isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey) and scheme in (0x0807, 0x0808):
            key.verify(signature, signed)
        else:
            return None
    except InvalidSignature:
        return False
    except (UnsupportedAlgorithm, ValueError):
        return None
    return True
