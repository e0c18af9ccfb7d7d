"""Certificates that a list of the foundation has, where the wire hides which was shown.

TLS 1.3 encrypts certificates, so nothing on the wire tells that one is out of force. Identity tables may say until when each is
(``auditor policy certificates`` makes them from Ops Manager's and CredHub's lists). Rules that hold here:

- It is told only where the list knows the component's certificates for that side, and all of them are over: one that is in force may be the one.
- The component has to be known: a path that names it, or a role that has one alone.
- The list may be older than the foundation. So the confidence is medium, and the finding says where it is from.
"""

from __future__ import annotations

from auditor.model.frames import DATED_NS
from auditor.model.judgement import Classification, Fault
from auditor.policy.policy import Identity, Policy, slug
from auditor.policy.times import time_text

RULE = "certificate-expired"


class Listed:
    """Answers for one policy."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._entries = [each for each in policy.identities if each.until_ns is not None]
        self._known: dict[tuple[str, str], tuple[Identity, ...]] = {}

    def __bool__(self) -> bool:
        return bool(self._entries)

    def faults(self, classification: Classification, at_ns: int, *, client: bool) -> tuple[Fault, ...]:
        """What is out of force at that time of what both ends can have shown; ``client``: the client showed one."""
        if at_ns < DATED_NS:
            return ()
        found = []
        for side, component, role in (
            ("server", classification.resp_component, classification.resp_role),
            ("client", classification.orig_component, classification.orig_role),
        ):
            name = component or self._only_component(role)
            entries = self._of(name, side) if name and (client or side == "server") else ()
            if entries and all(each.until_ns is not None and each.until_ns <= at_ns for each in entries):
                last = max(entries, key=lambda each: each.until_ns or 0)
                whose = last.owner or last.pattern
                says = (
                    f"TLS 1.3 hides the {side}'s certificate; by the foundation's list that of {name} ({whose}) expired on "
                    f"{time_text(last.until_ns or 0)}, or the list is older than the foundation"
                )
                found.append(Fault(RULE, says, "medium", ("tls.version",), f"listed {whose}"))
        return tuple(found)

    def _only_component(self, role: str | None) -> str | None:
        known = self.policy.roles.get(role or "")
        return known.components[0] if known is not None and len(known.components) == 1 else None

    def _of(self, component: str, side: str) -> tuple[Identity, ...]:
        key = slug(component), side
        if key not in self._known:
            self._known[key] = tuple(each for each in self._entries if key[0] in each.slugs and side in each.use)
        return self._known[key]
