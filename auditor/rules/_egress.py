"""What leaves the platform, by destination: a finding for each block of addresses that a role calls."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from auditor.model.audit import Judged
from auditor.model.finding import Finding
from auditor.model.judgement import Breach, Outcome
from auditor.model.roles import Severity
from auditor.rules._subject import Rows, View, grouped, holds
from auditor.rules._words import applications, confidence, ends, first_frames, plural, ports, some
from auditor.units import size

BLOCK_V4 = 24
BLOCK_V6 = 64
PORTS_NAMED = 5

QUESTIONS = frozenset({53, 123})
"""Ports of services that are asked in a few bytes: names and time."""

MUCH_BYTES = 65_536
"""So much goes to none of them that answers less than a quarter of it: an NTP client sends 90 bytes a minute or so, and is sent as many."""


class Kind(NamedTuple):
    """What one breach is reported as; ``title`` takes {originator}, {block}, {addresses} and {services}."""

    breach: Breach
    severity: Severity
    title: str
    says: str
    remediation: str
    where: str = "outside the platform"
    """What is said of the destination's place: {where} in the title."""
    about: str = ""
    """In the subject, where one rule has several kinds."""


def block(address: str) -> str:
    """The block that an address is grouped by: its /24, IPv6 /64."""
    ip = ipaddress.ip_address(address)
    return str(ipaddress.ip_network((ip, BLOCK_V4 if ip.version == 4 else BLOCK_V6), strict=False))


def _blocks(view: View) -> pd.DataFrame:
    which, addresses = pd.factorize(view.column("responder_ip"))
    blocks = np.array([block(str(address)) for address in addresses], dtype=object)
    transports = view.column("transport").astype(object)
    return pd.DataFrame({"originator": view.originator, "block": blocks[which], "transport": transports})


def _bytes(view: View, inside: Rows, which: str) -> str:
    return size(int(np.sum(view.column(f"{which}_bytes")[inside], dtype=np.int64)))


def _where(view: View, inside: Rows, outside: str) -> str:
    """Outside the platform, unless the inventory knows all of them: VMs of other deployments are."""
    known = all(isinstance(each, str) and each for each in view.column("responder_instance")[inside])
    return "of another deployment" if known else outside


def _carries_away(view: View, inside: Rows) -> bool:
    """What looks like a question is none: much goes out, and little comes back."""
    sent, came = (
        int(np.sum(view.column(f"{end}_bytes")[inside], dtype=np.int64)) for end in ("originator", "responder")
    )
    return set(ports(view, inside)) <= QUESTIONS and sent > MUCH_BYTES and sent > 4 * came


def findings(judged: Judged, rule: str, kinds: Sequence[Kind]) -> Iterator[Finding]:
    """One finding for each role, destination block and transport of each kind; attempts are none."""
    table = judged.connections
    for kind in kinds:
        view = View(table, holds(table, "breach", kind.breach) & ~holds(table, "outcome", Outcome.ATTEMPT))
        if not len(view):
            continue
        for (originator, destination, transport), inside in grouped(
            _blocks(view), ["originator", "block", "transport"]
        ):
            numbers = some([str(port) for port in ports(view, inside)], PORTS_NAMED)
            services = f"{numbers}/{transport}" if numbers else transport
            addresses = some(sorted(set(view.column("responder_ip")[inside])))
            rows = view.at[inside]
            away = kind.severity is Severity.LOW and _carries_away(view, inside)
            says = "That is much more than such a service receives." if away else kind.says
            yield Finding(
                rule=rule,
                severity=Severity.HIGH if away else kind.severity,
                title=kind.title.format(
                    originator=originator,
                    block=destination,
                    addresses=addresses,
                    services=services,
                    where=_where(view, inside, kind.where),
                ),
                detail=(
                    f"{plural(len(rows), 'connection')} from {ends(view, inside, 'originator')} to "
                    f"{ends(view, inside, 'responder')} on {services}, application {applications(view, inside)}: "
                    f"{_bytes(view, inside, 'originator')} went out, {_bytes(view, inside, 'responder')} came in. {says}"
                ),
                rows=tuple(rows.tolist()),
                subject=("", originator, destination, kind.about, transport),
                confidence=confidence(view, inside),
                evidence=first_frames(view, inside, "connection.opened", destination),
                remediation=kind.remediation,
                count=len(rows),
            )
