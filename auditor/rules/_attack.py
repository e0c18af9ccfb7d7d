"""Which techniques of MITRE ATT&CK (Enterprise) a rule's findings may show, for analysts who sort by them.

A rule is named only where what it sees is what the technique does. Most findings have an innocent cause, too: the technique says what to rule out.
"""

from __future__ import annotations

from typing import NamedTuple


class Technique(NamedTuple):
    """One technique."""

    id: str
    name: str

    @property
    def url(self) -> str:
        """Its page."""
        return f"https://attack.mitre.org/techniques/{self.id.replace('.', '/')}/"


_SNIFFING = Technique("T1040", "Network Sniffing")
_DISCOVERY = Technique("T1046", "Network Service Discovery")
_REMOTE = Technique("T1021", "Remote Services")
_SSH = Technique("T1021.004", "Remote Services: SSH")
_PORT = Technique("T1571", "Non-Standard Port")
_MIDDLE = Technique("T1557", "Adversary-in-the-Middle")
_FORGED = Technique("T1649", "Steal or Forge Authentication Certificates")
_ACCOUNTS = Technique("T1078", "Valid Accounts")
_EXFILTRATION = Technique("T1048", "Exfiltration Over Alternative Protocol")
_COMMAND = Technique("T1071", "Application Layer Protocol")
_TUNNEL = Technique("T1572", "Protocol Tunneling")
_GUESSING = Technique("T1110", "Brute Force")

TECHNIQUES: dict[str, tuple[Technique, ...]] = {
    "authentication-rejected": (_GUESSING,),
    "cell-egress": (_COMMAND, _EXFILTRATION),
    "certificate-identity": (_FORGED,),
    "certificate-untrusted": (_MIDDLE,),
    "cleartext-credentials": (_SNIFFING,),
    "control-plane-egress": (_COMMAND, _EXFILTRATION),
    "plaintext": (_SNIFFING,),
    "port-sweep": (_DISCOVERY,),
    "ssh-port-out-of-range": (_SSH, _PORT),
    "stolen-credential": (_ACCOUNTS, _FORGED),
    "undeclared-attempt": (_DISCOVERY,),
    "undeclared-connection": (_REMOTE,),
    "undeclared-port": (_PORT,),
    "unknown-host": (_REMOTE,),
    "weak-tls": (_MIDDLE,),
    "wrong-application": (_TUNNEL,),
}


def techniques(rule: str) -> tuple[Technique, ...]:
    """Those of a rule; most have none."""
    return TECHNIQUES.get(rule, ())
