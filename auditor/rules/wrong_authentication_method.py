"""wrong-authentication-method: another method than the documented one was accepted.

What fires it:   a session that was accepted after another authentication than its path documents: another MySQL plugin than mysql_native_password
                 (the last one switched to counts, and what the greeting merely offers does not), Basic where OAuth is documented. A stronger method
                 satisfies a weaker one: mutual TLS where TLS is documented does not fire.
What proves it:  the message that names the method and the answer that accepts it, in the frames that the finding shows.
Why it matters:  either the platform has changed and the document has not, or a client used a method that was not reviewed. MySQL's clear password
                 plugin sends the password itself.
What to do:      compare with the server's configuration (MySQL 8.4 no longer loads mysql_native_password as shipped, so caching_sha2_password may be
                 right).
How to waive:    declare the method for this path in a policy of your own (--policy FILE); for a limited time, put an entry for this rule in the file
                 given with --waivers, with reason, owner and end date.
"""

from __future__ import annotations

from collections.abc import Iterator

from auditor.model.audit import Judged
from auditor.model.finding import Finding
from auditor.model.roles import Rule, Severity
from auditor.rules._faults import report_faults
from auditor.rules._subject import Group


def _title(group: Group) -> str:
    return f"{group.responder} accepted another authentication from {group.originator} on {group.service} than the documented one"


def _remediation(group: Group) -> str:
    return f"Compare with the authentication configured at {group.responder}; if it is intended, declare it in a policy of your own (--policy FILE)."


def check(judged: Judged) -> Iterator[Finding]:
    """One finding for each path, pair of ends, service and kind of fault."""
    yield from report_faults(judged, RULE, _title, _remediation)


RULE = Rule("wrong-authentication-method", Severity.HIGH, check)
