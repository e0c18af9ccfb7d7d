"""A draft of a policy for what an audit found undeclared, and for the names that its certificates have: to be read by somebody who knows, not
to be believed.

What happens is no proof that it should. So the draft declares only connections that were established between two known roles; each path says
how often it was seen, between whom, and where to look first. Strangers, attempts, and what a shipped policy already declares are named in
comments and declared nowhere. What authenticated is taken from the wire as it was seen, never stronger. A name in a certificate goes to
the components that may have shown it: those that the paths name, or those of the table that has it already; one that was accused is left out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from auditor.errors import ConfigError
from auditor.model.audit import Audit
from auditor.model.judgement import Breach, Disposition
from auditor.policy.learnt import LearntName
from auditor.policy.policy import Policy, canonical, ports_text
from auditor.policy.schema import SCHEMA
from auditor.policy.switches import Switch, learn
from auditor.policy.yaml_positions import yaml_text
from auditor.wire.text import clip, escape

_APPLICATIONS = {
    "tls": "HTTPS",
    "https": "HTTPS",
    "http": "HTTP",
    "websocket": "HTTP/WebSocket",
    "ssh": "SSH",
    "mysql": "MySQL",
    "nats": "NATS",
    "dns": "DNS",
}
"""What a path calls an application of the wire; others have no word of their own: TCP or Varies says nothing of the content."""

_AUTHENTICATED = {"ssh": "ssh", "mysql": "mysql_native_password", "nats": "basic"}

_HOST_PORTS = (61001, 65534)
"""Where Garden puts application instances: one port of it stands for all."""

_MOST_PORTS = 8
"""A pair on more different ports than this has no service port to declare."""

_EXAMPLES = 3

_MOST_NAMES = 100
"""A list of a schema has room for 200."""

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*", re.ASCII)

_COLUMNS = (
    "id", "originator_ip", "originator_instance", "originator_role", "responder_ip", "responder_instance", "responder_role", "responder_port",
    "transport", "application", "breach", "sibling", "tls", "findings",
)  # fmt: skip


@dataclass(slots=True)
class _Seen:
    """Undeclared connections between two roles that speak alike."""

    ports: Counter[tuple[int, int]] = field(default_factory=Counter)
    pairs: Counter[str] = field(default_factory=Counter)
    first: str = ""
    findings: dict[str, None] = field(default_factory=dict)
    """Ids of those that accuse them."""
    mutual: int = 0
    connections: int = 0


def suggest(audit: Audit, policy: Policy, name: str = "suggested") -> str:
    """YAML of an overlay policy that would declare what was undeclared, and the names of certificates.

    Parameters
    ----------
    audit : its connections with the internal columns, and the names that it learnt
    policy : what they were judged by
    name : of the drafted policy

    Raises ConfigError for a name that no policy can have.

    Returns a file that ``load_policy`` accepts, with no path where nothing is to be suggested.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            "--name",
            f"{name!r} is not a valid name of a policy",
            hint="write lower-case letters, digits and - between them",
        )
    connections = audit.connections
    frame = connections.loc[connections["disposition"] == Disposition.UNDECLARED.value, list(_COLUMNS)]
    seen: dict[tuple[str, str, str, str], _Seen] = {}
    left: Counter[str] = Counter()
    for row in frame.astype(object).where(frame.notna(), None).to_dict("records"):
        why = _why_not(row)
        if why:
            left[why] += 1
            continue
        spoken = _APPLICATIONS.get(row["application"], "TCP" if row["transport"] == "tcp" else "Varies")
        one = seen.setdefault((row["originator_role"], row["responder_role"], row["transport"], spoken), _Seen())
        _add(one, row)
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "name": name,
        "version": "1",
        "title": "Suggested from captures",
        "overlay": True,
        "ambient": True,
        "origin": {"title": "Suggested from captures; not reviewed yet"},
    }
    text = yaml_text(document)
    parts = [*_head(left), text.rstrip("\n"), *_foundation(learn(audit, policy)), *_identities(audit.names)]
    rules = (
        dict(
            zip(
                map(str, audit.findings["id"]),
                zip(audit.findings["severity"], audit.findings["rule"], strict=True),
                strict=True,
            )
        )
        if len(audit.findings)
        else {}
    )
    return "\n".join([*parts, *_paths(seen, policy, rules)]) + "\n"


def _why_not(row: Mapping[Any, Any]) -> str:
    """Why a connection is not suggested; empty where it is."""
    if row["sibling"]:
        return f"declared by a shipped policy: audit with --policy {row['sibling']}"
    if row["breach"] == Breach.ATTEMPT.value:
        return "no connection was established"
    if not (row["originator_role"] and row["responder_role"]):
        return "an end is in no inventory: add it there first"
    return ""


def _add(one: _Seen, row: Mapping[Any, Any]) -> None:
    port = row["responder_port"]
    if port is not None:
        low, high = _HOST_PORTS
        one.ports[(low, high) if low <= port <= high else (int(port), int(port))] += 1
    ends = [row[f"{end}_instance"] or row[f"{end}_ip"] for end in ("originator", "responder")]
    one.pairs[" to ".join(clip(escape(str(each)), 60) for each in ends)] += 1
    one.first = one.first or str(row["id"])
    one.connections += 1
    one.findings |= dict.fromkeys(map(str, row["findings"] or ()))
    one.mutual += (row["tls"] or {}).get("client_certificate") in ("sent", "inferred_sent")


def _head(left: Counter[str]) -> Iterator[str]:
    yield "# Drafted from captures: what was seen, not what should be. Review each path, keep only legitimate ones, and set 'origin' to the true source."
    yield "# Audit with it: --policy tas --policy THIS-FILE"
    for why, count in sorted(left.items()):
        yield f"# Left out, {count:,} connection{'' if count == 1 else 's'}: {why}"


def _paths(
    seen: dict[tuple[str, str, str, str], _Seen], policy: Policy, rules: Mapping[str, tuple[Any, Any]]
) -> Iterator[str]:
    if not seen:
        yield "paths: []"
        return
    yield "paths:"
    taken = set(policy.by_id)
    for key in sorted(seen):
        originator, responder, transport, spoken = key
        one = seen[key]
        ports: Any = "varies" if len(one.ports) > _MOST_PORTS else _given(sorted(one.ports))
        path: dict[str, Any] = {
            "id": _free(f"{originator}-to-{responder}-{spoken}".lower().replace("_", "-"), taken),
            "source": {"vm": originator},
            "destination": {"vm": responder},
            **({"ports": ports} if transport in ("tcp", "udp", "sctp") else {}),
            "transport": transport,
            "application": spoken,
            "authentication": _authentication(spoken, one),
        }
        told = ports_text(sorted(one.ports)) if len(one.ports) <= _MOST_PORTS else f"{len(one.ports)} ports"
        yield f"  # {one.connections:,} connection{'' if one.connections == 1 else 's'} on {told or transport}, the first {one.first}: {_examples(one)}"
        accused = _accused(one, rules)
        if accused:
            yield f"  # UNDECLARED today: {accused}. Keep it only if it is known to be legitimate."
        lines = yaml_text([path]).rstrip("\n").splitlines()
        yield from (f"  {line}" for line in lines)


def _accused(one: _Seen, rules: Mapping[str, tuple[Any, Any]]) -> str:
    """The findings about these connections, as the report names them."""
    told = [f"{rules[name][0]} {rules[name][1]}, {name}" for name in one.findings if name in rules]
    more = len(told) - _EXAMPLES
    return "; ".join(told[:_EXAMPLES]) + (f"; and {more} more" if more > 0 else "")


def _foundation(switches: Iterable[Switch]) -> Iterator[str]:
    """What the captures tell of the foundation's set-up."""
    told = list(switches)
    if not told:
        return
    yield "# Settings of this foundation, as far as captures show them. What they require in addition to the vendor's pages is a finding where it is missing."
    yield "foundation:"
    yield '  origin: {title: "Suggested from captures; not reviewed yet"}'
    yield from (f"  {each.name}: {each.value}  # {each.says}" for each in told)


def _identities(learnt: Iterable[LearntName]) -> Iterator[str]:
    """The identity table, one entry for all that show a name alike."""
    alike: dict[tuple[str, ...], list[LearntName]] = {}
    for one in learnt:
        alike.setdefault(tuple(dict.fromkeys(map(canonical, one.names))), []).append(one)
    if not alike:
        return
    yield "identities:"
    yield '  origin: {title: "Suggested from captures; not reviewed yet"}'
    body = [line for shown in alike.values() for line in _entry(shown)]
    yield "  entries:" if any(not line.lstrip().startswith("#") for line in body) else "  entries: []"
    yield from body


def _entry(shown: list[LearntName]) -> Iterator[str]:
    names = list(dict.fromkeys(name for one in shown for name in one.names))
    entry = {
        "name": names[0] if len(names) == 1 else names[:_MOST_NAMES],
        "components": sorted({each for one in shown for each in one.components}, key=str.lower),
        "use": sorted({one.side for one in shown}),
    }
    if not entry["components"]:
        yield f"    # {clip(escape(names[0]), 60)}: {_by(shown)}; no component of these roles is known: list the components under roles first"
        return
    guessed = any(not one.known and len(one.components) > 1 for one in shown)
    yield f"    # {_by(shown)}{'; it is not known which of these components: keep the right ones' if guessed else ''}"
    if len(names) > _MOST_NAMES:
        yield f"    # and {len(names) - _MOST_NAMES:,} more names that differ only in digits, addresses or GUIDs"
    lines = yaml_text([entry]).rstrip("\n").splitlines()
    yield from (f"    {line}" for line in lines)


def _by(shown: Iterable[LearntName]) -> str:
    """Who shows a name, how often, from which authority, and where to look first."""
    return "; ".join(
        f"{one.role or 'an unknown role'} as {one.side}, {one.vms:,} VM{'' if one.vms == 1 else 's'}, {one.connections:,} connection"
        f"{'' if one.connections == 1 else 's'}, issued by {clip(escape(one.issuer or 'an unnamed authority'), 60)}, the first {one.first}"
        for one in shown
    )


def _given(ports: list[tuple[int, int]]) -> Any:
    each = [low if low == high else f"{low}-{high}" for low, high in ports]
    return each[0] if len(each) == 1 else each


def _examples(one: _Seen) -> str:
    pairs: Iterable[str] = sorted(one.pairs, key=lambda pair: (-one.pairs[pair], pair))[:_EXAMPLES]
    more = len(one.pairs) - _EXAMPLES
    return ", ".join(pairs) + (f" and {more} more pairs" if more > 0 else "")


def _authentication(spoken: str, one: _Seen) -> str:
    """What all of them did; one without a client certificate is enough not to ask for one."""
    if spoken == "HTTPS":
        return "mutual_tls" if one.mutual == one.connections else "tls"
    return _AUTHENTICATED.get(spoken.lower(), "none")


def _free(wanted: str, taken: set[str]) -> str:
    name, number = wanted, 1
    while name in taken:
        number += 1
        name = f"{wanted}-{number}"
    taken.add(name)
    return name
