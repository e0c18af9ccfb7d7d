"""Words of HTTP: RFC 9110, RFC 9112 (HTTP/1.1), RFC 9113 (HTTP/2), RFC 4918 (WebDAV)."""

METHODS = (
    b"GET",
    b"HEAD",
    b"POST",
    b"PUT",
    b"DELETE",
    b"CONNECT",
    b"OPTIONS",
    b"TRACE",
    b"PATCH",
    b"PROPFIND",
    b"PROPPATCH",
    b"MKCOL",
    b"COPY",
    b"MOVE",
    b"LOCK",
    b"UNLOCK",
    b"REPORT",
    b"SEARCH",
    b"PURGE",
)
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""A client's first bytes in HTTP/2, RFC 9113 section 3.4."""
STATUS_LINE = b"HTTP/1."
MAX_LINE_BYTES = 8_192
MAX_HEADERS = 200
BODYLESS = frozenset({204, 304})

SIGNED_URLS: tuple[tuple[str, frozenset[bytes]], ...] = (
    ("s3v4", frozenset({b"x-amz-signature"})),  # docs.aws.amazon.com, sigv4-query-string-auth
    ("s3v2", frozenset({b"awsaccesskeyid", b"signature", b"expires"})),
    ("gcs", frozenset({b"x-goog-signature"})),  # cloud.google.com/storage/docs, signed-urls
    ("gcs", frozenset({b"googleaccessid", b"signature"})),
    ("azure_sas", frozenset({b"sig", b"sv"})),  # learn.microsoft.com, service SAS
    ("nginx", frozenset({b"md5", b"expires"})),  # nginx secure_link, as the internal blobstore signs
)
"""Kind of a signed URL, and names of query parameters (lower case) that must all be there; the first that fits."""
