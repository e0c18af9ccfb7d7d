"""What a bundle states, in one form: by whom it was judged, over which captures, and what was found.

Nothing stands in it that neither the files of the bundle nor the captures could show, but for ``made`` (when the audit ran), which only a signature holds
and which a bundle without one has not. So each field can be held against what an audit of the same packets says, and none is anybody's word.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from auditor.model.version import VERSION

COMMENT = "auditor: "
"""So begins the comment of each packet of a slice."""
WITNESS = "witness of "
"""In a comment: the connection is not what was found, but what a finding compares with."""
REDACTED = "; payload redacted"
"""So ends the comment of a packet whose payload was overwritten."""

INFERRED = "00-inferred.yml"
"""The inventory of a bundle for which none was given: roles inferred from all captures cannot be inferred again from a slice."""

_OPTIONS: Mapping[str, Any] = {
    "ca": None,
    "keylog": None,
    "limits": {},
    "linktype": None,
    "release": None,
    "scope": "diego",
    "since_ns": None,
    "strict": False,
    "until_ns": None,
}
"""The options that decide what is found, with their defaults: a bundle names only those with another value."""


def is_option(name: str, value: Any) -> bool:
    """Whether a bundle names this option: it decides what is found and does not have its default value."""
    return name in _OPTIONS and value not in (_OPTIONS[name], None)


def title_of(findings: Iterable[Mapping[str, Any]], connections: Iterable[str], witnesses: Iterable[str]) -> str:
    """What was asked for: these findings, and the connections that belong to none of them."""
    held = list(findings)
    known = {str(each) for finding in held for each in finding["connections"]} | set(witnesses)
    named = [f"finding {each['id']} ({each['rule']})" for each in held]
    return ", ".join([*named, *(f"connection {each}" for each in connections if each not in known)])


def stated(told: Mapping[str, Any]) -> dict[str, Any]:
    """By whom it was judged and over what, of a JSON report."""
    options = told["audit"].get("options") or {}
    return {
        "version": VERSION,
        "audit": {
            "options": {name: options[name] for name in _OPTIONS if is_option(name, options.get(name))},
            "platform_networks": list(told["audit"].get("platform_networks") or ()),
            # A profile is what it is made of.
            "policies": [
                {name: each.get(name) for name in ("name", "version", "sha256")}
                for each in told["audit"].get("policies") or ()
                if each.get("name") not in profiles_of(told["audit"].get("policies") or ())
            ],
            "inventories": [
                {**each, "path": PurePath(str(each.get("path"))).name}
                for each in told["audit"].get("inventories") or ()
            ],
        },
        "captures": [{**each, "path": PurePath(str(each["path"])).name} for each in told["captures"]],
        "inventory": told["summary"]["inventory"],
    }


def profiles_of(policies: Iterable[Mapping[str, Any]]) -> set[str]:
    """Names of policies that only say which others they are made of."""
    return {str(each["profile"]) for each in policies if each.get("profile")}


def judged(told: Mapping[str, Any], connections: Iterable[str], findings: Sequence[str]) -> dict[str, Any]:
    """What was found: these connections, and the findings of these fingerprints.

    Whether a finding is new or waived is not in the packets, and not in a bundle.
    """
    wanted = set(connections)
    by = {str(each["fingerprint"]): each for each in told["findings"]}
    return {
        "connections": [_short(each) for each in told["connections"] if each["id"] in wanted],
        "findings": [{**by[each], "status": None, "waived": None} for each in findings if each in by],
    }


def _short(connection: Mapping[str, Any]) -> dict[str, Any]:
    """A connection with the names of the captures that saw it, wherever they lay."""
    return {**connection, "vantages": [PurePath(str(each)).name for each in connection.get("vantages") or ()]}
