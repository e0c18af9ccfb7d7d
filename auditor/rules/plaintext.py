"""plaintext: application data was sent unencrypted where TLS is documented.

What fires it:   a connection on a path that documents TLS or mutual TLS, on which a recognised protocol was spoken without TLS and the responder
                 accepted it. It does not matter where the capture starts: a request and its answer prove it in the middle, too.
                 What was refused (a reset, a TLS alert, HTTP 400 from a TLS port) is `authentication-rejected`; an unrecognised protocol is
                 `wrong-application`.
What proves it:  a message of the protocol from the originator and an answer to it, readable in the frames that the finding shows.
Why it matters:  anyone on the network path can read everything: the desired state with environment variables and credentials on the way to BBS, droplets,
                 tokens. Without TLS there is no certificate either, so neither end has proved its identity and anyone may connect.
What to do:      turn TLS on at both ends and turn the plaintext listener off (Cloud Controller: `temporary_disable_non_tls_endpoints`). Then change
                 the credentials that were sent: they must be considered known.
How to waive:    if the network protects this path by other means (such as IPsec), put an entry for this rule in the file given with --waivers, with
                 reason, owner and end date.
"""

from __future__ import annotations

from collections.abc import Iterator

from auditor.model.audit import Judged
from auditor.model.finding import Finding
from auditor.model.roles import Rule, Severity
from auditor.rules._faults import report_faults
from auditor.rules._subject import Group


def _title(group: Group) -> str:
    return f"{group.originator} talks to {group.responder} on {group.service} in the clear"


def _remediation(group: Group) -> str:
    return f"Turn TLS on at both ends of {group.service}, turn its plaintext listener off, and change the credentials that were sent."


def check(judged: Judged) -> Iterator[Finding]:
    """One finding for each path, pair of ends, service and kind of fault."""
    yield from report_faults(judged, RULE, _title, _remediation)


RULE = Rule("plaintext", Severity.CRITICAL, check)
