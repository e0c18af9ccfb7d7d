"""Names of users that a protocol carries in the clear beside a password.

A name is kept only where it is one: tokens travel in its place, too. What is longer than a name, cannot be printed, or looks like a token is left out.
"""

import base64
import binascii
import re

MOST_OCTETS = 64
_TOKEN = re.compile(r"(?=.*[0-9])[A-Za-z0-9+/_=-]{24,}")
"""Letters and digits in a row, and more of them than a name has."""
_PREFIXED = re.compile(r"eyJ|(gh[a-z]|github|glpat|xox[a-z]|sk|pk|rk|npm|pypi|hf)[-_]")
"""How services begin their tokens."""
_NO_PASSWORDS = frozenset({b"", b"x", b"x-oauth-basic", b"x-token-auth", b"api_token", b"unused"})
"""What stands in the password's place where the token is sent as the name."""
_MOST_BASIC = 1_024


def user_name(said: bytes, *secrets: bytes) -> str | None:
    """The name, or None where it is not to be kept. ``secrets``: what was sent beside it, which it must not hold."""
    text = said.decode("latin-1")
    fits = 0 < len(said) <= MOST_OCTETS and text.isascii() and text.isprintable()
    return (
        None
        if not fits or _TOKEN.search(text) or _PREFIXED.match(text) or any(each and each in said for each in secrets)
        else text
    )


def basic_name(value: bytes) -> str | None:
    """The name in the value of an Authorization field that is Basic (RFC 7617): what stands before the first colon."""
    _, _, encoded = value.partition(b" ")
    encoded = encoded.strip()
    if not encoded or len(encoded) > _MOST_BASIC:
        return None
    try:
        name, colon, password = base64.b64decode(encoded, validate=True).partition(b":")
    except binascii.Error:
        return None
    return user_name(name, password) if colon and password.lower() not in _NO_PASSWORDS else None
