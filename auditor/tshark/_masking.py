"""What of a protocol tree may be shown.

Three rules, each of which would do for most secrets, and all of which hold:

1. **Closed unless opened.** A field is shown whole only in layers whose every field is about the packet itself (addresses, lengths, the
   handshakes of TLS and SSH, names in DNS), or where it is named below. Of everything else the name and the size are reported.
2. **No payload.** Of bytes only the number is reported. Of a URL the path and the names of its parameters are shown; of a header the name, and
   the value where its name is named below.
3. **Nothing twice.** Whatever is a credential by its field or by its shape (a header, a URL's or a form's parameter, a member of a JSON
   text, a statement of SQL) is looked for in the whole connection first; then no text that is shown may hold eight characters of it in a
   row, as it is, percent-encoded, in hex or in base64, whichever field it is found in.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote, unquote_to_bytes

MASK = "(masked)"
_WINDOW = 8
_HEX_WINDOW = 16
_LONG_BYTES = 64
_MAX_SECRET_BYTES = 8_192
MAX_SECRETS_BYTES = 8 * 1024 * 1024
"""Limit of credentials that are looked for; if there are more, nothing is shown."""
_MAX_REMEMBERED = 20_000
_WORD_ENDS = frozenset(" \t\r\n\"'<>;,")

OPEN_LAYERS = frozenset({
    "frame", "eth", "ethertype", "sll", "sll2", "null", "raw", "ppp", "vlan", "mpls", "gre", "vxlan", "geneve", "ip", "ipv6", "icmp",
    "icmpv6", "igmp", "arp", "tcp", "udp", "sctp", "dns", "mdns", "llmnr", "ntp", "tls", "ssl", "x509ce", "x509af", "x509if", "x509sat",
    "pkcs1", "pkix1explicit", "pkix1implicit", "ssh", "_ws.malformed", "_ws.short", "_ws.unreassembled",
})  # fmt: skip
"""Layers in which every field is shown that is neither payload nor named like a secret."""

_CLOSED = re.compile(
    r"payload|segment_data|segment\.data|reassembled\.data|app_data|comment|passw|secret|cookie|token|ticket|keylog|master|psk|binder"
    r"|session_id$|verify_data|auth_data|authdata|dns\.txt|unknown_data|\.data$|_data$|md5_digest|hmac"
)
"""Names of fields that are not shown in open layers either, unless they hold a number."""

_BYTES_SHOWN = frozenset({
    "tls.handshake.random", "tls.handshake.random_bytes", "x509af.serialNumber", "x509ce.keyIdentifier",
    "x509ce.SubjectKeyIdentifier",
})  # fmt: skip
"""Bytes that are shown although they are many: they are public and made to be compared."""

_HTTP_SHOWN = frozenset({
    "http.notification", "http.response", "http.request", "http.response_number", "http.request_number", "http.request.method",
    "http.request.version", "http.response.version", "http.response.code", "http.response.code.desc", "http.response.phrase",
    "http.content_length_header", "http.content_length", "http.request_in", "http.response_in", "http.next_request_in",
    "http.next_response_in", "http.prev_request_in", "http.prev_response_in", "http.time", "http.chunk_size", "http.te_and_length",
    "http.te_unknown", "http.tls_port", "http.leading_crlf", "http.proxy_connect_host", "http.proxy_connect_port",
})  # fmt: skip

_HTTP2_SHOWN = re.compile(
    r"http2\.(length|type|r|streamid|flags(\..*)?|headers\.weight(_real)?|headers\.status|headers\.method|headers\.scheme|magic|pad_length"
    r"|exclusive|stream_dependency|header\.(length|count|name|index|repr|name\.length|value\.length)|fake\.header\.count|settings(\..*)?"
    r"|rst_stream\.error|goaway\.(last_stream_id|error)|goway\.r|window_update\..*|body\.(fragment\.count|reassembled\.(in|length))"
    r"|header_table_size_update(\..*)?|push_promise\.(r|promised_stream_id))"
)

_MYSQL_SHOWN = re.compile(
    r"mariadb\.(server_language|prefix|length|(?:ext)?caps\..*)|mysql\.(packet_length|packet_number|server_greeting|protocol|version|thread_id|server_language|server_status|caps\..*|extcaps\..*"
    r"|stat\..*|login_request|request|command|max_packet|charset|user|schema|client_auth_plugin|auth_plugin|auth_plugin\.length"
    r"|response_code|error_code|sqlstate|affected_rows|insert_id|warnings|num_fields|num_rows|num_params|stmt_id|eof|compression\..*"
    r"|auth_switch_request|connattrs|connattrs\.length|unused_length)"
)

_URL_FIELDS = frozenset({
    "http.request.uri", "http.request.full_uri", "http.request.uri.path", "http.response_for.uri", "http.location", "http.referer",
    "http2.request.full_uri", "http2.headers.path", "http2.headers.location", "http2.headers.referer",
})  # fmt: skip

_SCHEME_FIELDS = frozenset({
    "http.authorization", "http.proxy_authorization", "http.www_authenticate", "http.proxy_authenticate", "http2.headers.authorization",
    "http2.headers.proxy_authorization", "http2.headers.www_authenticate", "http2.headers.proxy_authenticate",
})  # fmt: skip

_HEADERS_SHOWN = frozenset({
    "accept", "accept-charset", "accept-encoding", "accept-language", "accept-ranges", "age", "allow", "cache-control", "connection",
    "content-encoding", "content-language", "content-length", "content-range", "content-type", "date", "expect", "expires", "host",
    "keep-alive", "last-modified", "pragma", "range", "retry-after", "server", "strict-transport-security", "te", "trailer",
    "transfer-encoding", "upgrade", "user-agent", "vary", "via", "x-content-type-options", "x-frame-options", "x-vcap-request-id",
    "sec-websocket-version", "sec-websocket-protocol", "grpc-status", ":authority", ":method", ":scheme", ":status",
})  # fmt: skip

_TELLING = (
    r"pass(?:w(?:or)?d|phrase)?|pwd|secret|token|credential|cookie|auth|jwt|nkey|seed|sig|signature|md5|hmac|api[_-]?key|session"
    r"|assertion|private"
)
_SECRET_FIELD = re.compile(
    r"(?i)(^|[._-])(authorization|authbasic|cookie|cookie_pair|set_cookie|set-cookie|passw|password|passwd|pass|auth_token|token|secret"
    r"|credential|api_key|request_arg|community|authcitrix\.session|jwt|signature|salt2?)($|[._-])"
)
"""Names of fields, of any protocol tshark knows, that hold a credential."""

_SHAPES = tuple(
    re.compile(pattern)
    for pattern in (
        # A header whose name says so; the value may go to the end of the line.
        rf"(?im)^[\w-]{{0,40}}(?:{_TELLING}|authorization)[\w-]{{0,40}}[ \t]{{0,9}}:[ \t]*([^\r\n]+)",
        # A parameter of a URL or a form; a value of a header.
        rf"(?i)(?:^|[?&;,\s\"'])[\w.-]{{0,40}}(?:{_TELLING}|accessid|accesskeyid|code|key)[\w.-]{{0,40}}=\"?([^&;,\s\"'<>\x00-\x20]+)",
        # A member of a JSON text, as NATS' CONNECT has.
        rf"(?i)\"[\w.-]{{0,40}}(?:{_TELLING}|key|code)[\w.-]{{0,40}}\"\s{{0,9}}:\s{{0,9}}\"((?:[^\"\\]|\\.)+)",
        r"(?i)\b(?:bearer|basic|negotiate|ntlm|token)[ \t]+([A-Za-z0-9+/=._~-]{4,})",
        r"://[^\s/@:]*:([^\s/@]+)@",
        r"\b(eyJ[\w-]{4,}\.[\w-]+(?:\.[\w-]*)?)",
        r"(?im)^(?:pass|auth(?: plain| login)?|\w+ login \S+)[ \t]+([^\r\n]+)",
        r"(?i)identified\s+(?:by|with\s+\S+\s+(?:by|as))\s+(?:password\s+)?['\"]([^'\"]+)",
        r"(?i)password\s*\(\s*['\"]([^'\"]+)",
        r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----(.+?)(?:-----END|$)",
    )
)
_GUID = re.compile(r"(?i)[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_LONG_SEGMENT = re.compile(r"[\w\-.~%=+,:@!$'()*]{32,}")
_HEX_RUN = re.compile(r"(?i)(?<![0-9a-z])(?:0x)?[0-9a-f]{33,}(?![0-9a-z])…?")
_COLON_BYTES = re.compile(r"(?i)[0-9a-f]{2}(?::[0-9a-f]{2})*")
_NUMBER = re.compile(r"-?\d{1,10}|0x[0-9a-f]{1,8}")
_PARAMETER_NAME = re.compile(r"[\w.\-\[\]]{1,40}")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~\w]{1,60}")
_SCHEME = re.compile(
    r"(?i)(basic|bearer|digest|negotiate|ntlm|mutual|hoba|scram-sha-1|scram-sha-256|aws4-hmac-sha256|aws|uaa)\b"
)


class Secrets:
    """All credentials of one connection."""

    def __init__(self) -> None:
        self._exact: set[str] = set()
        self._grams: dict[int, set[str]] = {}
        """All stretches of so many characters of the short ones."""
        self._steps: dict[int, set[str]] = {}
        """Of the long ones every so manieth stretch: any piece of nearly twice that length holds one."""
        self._known: set[bytes] = set()
        self._room = MAX_SECRETS_BYTES
        self._scrubbed: dict[str, str] = {}
        """What texts became: labels come again with each frame."""

    def __len__(self) -> int:
        return len(self._known)

    @property
    def full(self) -> bool:
        """More credentials than the limit: nothing may be shown."""
        return self._room <= 0

    def add(self, value: bytes, depth: int = 3) -> None:
        """Look for this value, for what it is written as elsewhere, and for its parts, so many times over."""
        value = value.strip(b" \t\r\n\0")[:_MAX_SECRET_BYTES]
        if not value or value in self._known or self.full:
            return
        self._known.add(value)
        self._scrubbed.clear()
        self._room -= len(value)
        text = value.decode("latin-1")
        forms = {text, value.decode("utf-8", "replace"), quote(value, safe=""), text.replace('"', '\\"')}
        plain = unquote_to_bytes(text.replace("+", " "))
        forms.add(plain.decode("latin-1"))
        if len(value) <= _LONG_BYTES:
            forms |= {
                base64.b64encode(value).decode().rstrip("="),
                base64.urlsafe_b64encode(value).decode().rstrip("="),
            }
        for form in forms:
            self._gram(form, _WINDOW)
        for raw in {value, plain}:
            if len(raw) >= 4:
                self._gram(raw.hex(), _HEX_WINDOW)
                self._gram(raw.hex(":"), 3 * _WINDOW - 1)
        for each in _parts(value) if depth else ():
            self.add(each, depth - 1)

    def _gram(self, form: str, window: int) -> None:
        if len(form) < _WINDOW:
            if len(form) >= 2:
                self._exact.add(form)
            return
        window = min(window, len(form))
        if len(form) > 4 * _LONG_BYTES:
            self._steps.setdefault(window, set()).update(
                form[i : i + window] for i in range(0, len(form) - window + 1, window)
            )
        else:
            self._grams.setdefault(window, set()).update(form[i : i + window] for i in range(len(form) - window + 1))

    def look_through(self, data: bytes) -> None:
        """Add what has the shape of a credential in a stretch of the wire."""
        if len(data) < 6:
            return
        text = data.decode("latin-1")
        for shape in _SHAPES:
            for found in shape.finditer(text):
                self.add(found[1].encode("latin-1"))

    def scrub(self, text: str) -> str:
        """``text`` with every stretch masked that gives a credential away."""
        if self.full:
            return text if _NUMBER.fullmatch(text) else MASK
        if not text or not self._known:
            return text
        known = self._scrubbed.get(text)
        if known is None:
            known = self._scrub(text)
            if len(self._scrubbed) < _MAX_REMEMBERED:
                self._scrubbed[text] = known
        return known

    def _scrub(self, text: str) -> str:
        hidden = bytearray(len(text))
        for window, grams in self._grams.items():
            for at in range(len(text) - window + 1):
                if text[at : at + window] in grams:
                    hidden[at : at + window] = b"\1" * window
        for window, grams in self._steps.items():
            for at in range(len(text) - window + 1):
                if text[at : at + window] in grams:
                    begin, end = _word_around(text, at, at + window)
                    hidden[begin:end] = b"\1" * (end - begin)
        for word in self._exact:
            if word in text:
                for found in re.finditer(rf"(?<!\w){re.escape(word)}(?!\w)", text):
                    hidden[found.start() : found.end()] = b"\1" * len(word)
        if not any(hidden):
            return text
        shown, at = [], 0
        for run in re.finditer(rb"\x01+", bytes(hidden)):
            shown += [text[at : run.start()], MASK]
            at = run.end()
        return "".join([*shown, text[at:]])


def _word_around(text: str, begin: int, end: int) -> tuple[int, int]:
    """The stretch without white space and quotes that holds another one."""
    while begin and text[begin - 1] not in _WORD_ENDS:
        begin -= 1
    while end < len(text) and text[end] not in _WORD_ENDS:
        end += 1
    return begin, end


def _parts(value: bytes) -> Iterator[bytes]:
    """What a credential is made of: what follows the scheme, user and password, the values of cookies and parameters."""
    scheme, space, rest = value.partition(b" ")
    if space and scheme.isalpha():
        yield rest
        if scheme.lower() == b"basic":
            with_padding = rest.strip() + b"=" * (-len(rest.strip()) % 4)
            try:
                decoded = base64.b64decode(with_padding)
            except (binascii.Error, ValueError):
                decoded = b""
            if decoded:
                yield decoded
                yield decoded.partition(b":")[2]
    for part in re.split(rb"[;,&]", value):
        name, equals, inside = part.strip().partition(b"=")
        attribute = name.strip().lower() in {
            b"path",
            b"domain",
            b"expires",
            b"max-age",
            b"samesite",
            b"version",
            b"realm",
            b"algorithm",
        }
        if equals and inside and not attribute and len(inside.strip(b'" ')) >= 2 and not inside.startswith(b"="):
            yield inside.strip(b'" ')


def field_secrets(layer: str, name: str, shown: str, value: bytes) -> Iterable[bytes]:
    """Credentials that a field is by its name."""
    if layer in OPEN_LAYERS or not _SECRET_FIELD.search(name) or (_NUMBER.fullmatch(shown) and len(shown) < 4):
        return
    if shown and not (_COLON_BYTES.fullmatch(shown) and len(shown) > 2):
        yield shown.encode("utf-8", "surrogateescape")
    if value and len(value) >= 4 and not name.startswith(("http.", "http2.")):
        yield value


def url(text: str) -> str:
    """A URL with the names of its parameters only."""
    text = re.sub(r"(?i)^([a-z][a-z0-9+.-]*://)[^/?#@]*@", rf"\1{MASK}@", text.partition("#")[0])
    path, mark, rest = text.partition("?")
    head, scheme_mark, behind = path.partition("://")
    segments = (behind if scheme_mark else path).split("/")
    shown = "/".join(_segment(each) for each in segments)
    return (f"{head}://{shown}" if scheme_mark else shown) + mark + query(rest)


def _segment(text: str) -> str:
    name, semicolon, _ = text.partition(";")
    if _LONG_SEGMENT.fullmatch(name) and not _GUID.fullmatch(name) and "." not in name:
        name = MASK
    return name + (f";{MASK}" if semicolon else "")


def query(text: str) -> str:
    """Parameters of a URL: their names."""
    if not text:
        return ""
    shown = []
    for part in text.split("&"):
        name, equals, _ = part.partition("=")
        shown.append(f"{name}={MASK}" if equals and _PARAMETER_NAME.fullmatch(name) else MASK)
    return "&".join(shown)


def scheme(text: str) -> str:
    """How a header authenticates."""
    found = _SCHEME.match(text.strip())
    return f"{found[1]} {MASK}" if found else MASK


def header(name: str, value: str) -> str | None:
    """What is shown of a header's value; None: all of it."""
    name = name.strip().lower()
    if name in _HEADERS_SHOWN:
        return None
    if name in {"authorization", "proxy-authorization", "www-authenticate", "proxy-authenticate"}:
        return scheme(value)
    if name in {":path", "location", "referer", "content-location"}:
        return url(value)
    return f"({len(value)} characters, not shown)"


def header_name(text: str) -> str:
    """A header's name, where it is one."""
    return text if _TOKEN.fullmatch(text.lstrip(":")) else "(no header's name)"


def rule(layer: str, name: str, shown: str) -> str:
    """How a field is treated.

    show; url, query, scheme: only what is fit of it; line: of a header line the name, perhaps the value; label: it stands for its
    children, and its own text is not shown; bytes: only their number; hide.
    """
    if layer in OPEN_LAYERS:
        if not name:
            return "show"
        if _CLOSED.search(name) and not _NUMBER.fullmatch(shown):
            return "bytes"
        if _COLON_BYTES.fullmatch(shown) and len(shown) > 3 * 16 and name not in _BYTES_SHOWN:
            return "bytes"
        if name == "ssh.protocol" and not re.match(r"SSH-\d\.", shown):
            return "hide"
        return "show"
    if name in _SCHEME_FIELDS:
        return "scheme"
    if name in _URL_FIELDS:
        return "url"
    if layer == "http":
        return _http(name)
    if layer == "http2":
        if name.startswith("http2.headers."):
            known = name.removeprefix("http2.headers.").replace("_", "-")
            if known in _HEADERS_SHOWN or f":{known}" in _HEADERS_SHOWN:
                return "show"
        return "show" if _HTTP2_SHOWN.fullmatch(name) else "label"
    if layer == "mysql":
        return "show" if _MYSQL_SHOWN.fullmatch(name) else "label"
    return "label"


def _http(name: str) -> str:
    if name in _HTTP_SHOWN:
        return "show"
    if name in {"http.request.uri.query", "http.request.uri.query.parameter"}:
        return "query"
    if name in {"http.request.line", "http.response.line", "http.unknown_header"}:
        return "line"
    if name.removeprefix("http.").replace("_", "-") in _HEADERS_SHOWN:
        return "show"
    return "label"


def without_bytes(text: str, name: str) -> str:
    """``text`` with the number of bytes for each long run of hex digits."""
    if name in _BYTES_SHOWN:
        return text
    return _HEX_RUN.sub(lambda found: f"({len(found[0].removeprefix('0x')) // 2} bytes)", text)
