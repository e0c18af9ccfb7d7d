"""missing-client-certificate: mutual TLS is documented, and a session was accepted without a client certificate.

What fires it:   a TLS session on a path that documents mutual TLS, in which the server did not ask for a certificate, or the client answered with an
                 empty one or none, and the server accepted it: application data came back. In TLS 1.3, where certificates are encrypted, the lengths
                 of the records show it; the evidence then says inferred, and below medium confidence there is no finding. Resumed sessions send no
                 certificate and do not fire. A session that may have authenticated later (renegotiation, post-handshake authentication) does
                 not fire either.
What proves it:  the server's flight without CertificateRequest, or the client's empty Certificate, in the frames that the finding shows; in TLS 1.3
                 the lengths of the client's encrypted flight.
Why it matters:  the server does not know who the client is. On the paths of Diego, mutual TLS is also the authorisation: BBS gives the desired state of every
                 application to every holder of a certificate of the platform's authority, and here to anyone who can reach the port.
What to do:      make the server require client certificates and verify them against its authority, and give the client its certificate. For
                 applications' proxies on a cell, require and verify client certificates and turn mappings without the proxy off.
How to waive:    declare the path with TLS only in a policy of your own (--policy FILE) where that is intended; for a limited time, put an entry for this
                 rule in the file given with --waivers, with reason, owner and end date.
"""

from __future__ import annotations

from collections.abc import Iterator

from auditor.model.audit import Judged
from auditor.model.finding import Finding
from auditor.model.roles import Rule, Severity
from auditor.rules._faults import report_faults
from auditor.rules._subject import Group


def _title(group: Group) -> str:
    return f"{group.responder} accepted {group.originator} on {group.service} without a client certificate"


def _remediation(group: Group) -> str:
    return f"Make {group.responder} require and verify client certificates on {group.service}, and give {group.originator} its certificate."


def check(judged: Judged) -> Iterator[Finding]:
    """One finding for each path, pair of ends, service and kind of fault."""
    yield from report_faults(judged, RULE, _title, _remediation)


RULE = Rule("missing-client-certificate", Severity.CRITICAL, check)
