"""The certificates of an audit: who each belongs to, until when it is in force, and which addresses showed it in which role."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

MOST_HOSTS = 200
"""So many addresses of a certificate are reported; ``hosts`` counts them all."""

SIDES = (("client", "originator"), ("server", "responder"))


def shown_certificates(connections: pd.DataFrame, describe: Callable[[str], Any]) -> tuple[dict[str, Any], ...]:
    """A record a certificate, those that most addresses showed first.

    ``describe``: by fingerprint, an object with ``as_dict``, or None where its bytes were not kept.
    """
    if "tls" not in connections or not len(connections):
        return ()
    objects = connections["tls"].to_numpy(dtype=object)
    which, chains = _chains(objects)
    records: dict[str, list[dict[str, Any]]] = {}
    counts: dict[str, int] = {}
    for side, end in SIDES:
        rows = np.flatnonzero(np.array([bool(each[side]) for each in chains], np.bool_)[which])
        if not rows.size:
            continue
        for key, inside in _grouped(connections, rows, which, end):
            host = _host(connections, inside, end, side)
            for place, fingerprint in enumerate(chains[key][side]):
                counts[fingerprint] = counts.get(fingerprint, 0) + len(inside)
                records.setdefault(fingerprint, []).append({**host, "leaf": place == 0})
    made = []
    for fingerprint, hosts in records.items():
        folded = _folded(hosts)
        known = describe(fingerprint)
        told = (
            {}
            if known is None
            else {
                "subject": known.subject_id[0] or None,
                "issuer_name": known.issuer_id[0] or None,
                "key_sha256": known.key,
                "authority": known.authority,
            }
        )
        made.append(
            {
                **(
                    known.as_dict()
                    if known is not None
                    else {"sha256": fingerprint, "refused": "its bytes were not seen"}
                ),
                **told,
                "connections": counts[fingerprint],
                "hosts": len({each["ip"] for each in folded}),
                "shown_by": folded[:MOST_HOSTS],
            }
        )
    return tuple(sorted(made, key=lambda each: (-each["hosts"], -each["connections"], each["sha256"])))


def _chains(objects: npt.NDArray[np.object_]) -> tuple[npt.NDArray[np.intp], list[dict[str, tuple[str, ...]]]]:
    """The distinct pairs of chains, and which of them each row has; equal TLS objects are one object."""
    by_object: dict[int, int] = {}
    by_chains: dict[tuple[tuple[str, ...], tuple[str, ...]], int] = {}
    found: list[dict[str, tuple[str, ...]]] = []
    which = np.zeros(len(objects), np.intp)
    for row, value in enumerate(objects.tolist()):
        place = by_object.get(id(value))
        if place is None:
            chains = {
                side: tuple(map(str, (value or {}).get(f"{side}_certificates") or ()))
                if isinstance(value, dict)
                else ()
                for side, _ in SIDES
            }
            key = chains["client"], chains["server"]
            if key not in by_chains:
                by_chains[key] = len(found)
                found.append(chains)
            place = by_object[id(value)] = by_chains[key]
        which[row] = place
    return which, found


def _grouped(
    connections: pd.DataFrame, rows: npt.NDArray[np.intp], which: npt.NDArray[np.intp], end: str
) -> list[tuple[int, npt.NDArray[np.intp]]]:
    """Rows by chain and by the address of an end."""
    codes, _ = pd.factorize(connections[f"{end}_ip"].take(rows))
    key = which[rows] * (codes.max() + 1) + codes
    order = np.argsort(key, kind="stable")
    edges = np.flatnonzero(np.diff(key[order])) + 1
    return [(int(which[rows[part[0]]]), rows[part]) for part in np.split(order, edges)]


def _host(connections: pd.DataFrame, rows: npt.NDArray[np.intp], end: str, side: str) -> dict[str, Any]:
    first = int(rows[0])

    def text(name: str) -> str | None:
        value = connections[name].iloc[first]
        return value if isinstance(value, str) else None

    starts = connections["start"].to_numpy()[rows]
    roles = connections[f"{end}_roles"].iloc[first] if f"{end}_roles" in connections else ()
    return {
        "ip": str(connections[f"{end}_ip"].iloc[first]),
        "instance": text(f"{end}_instance"),
        "roles": list(roles if roles is not None else ()),
        "as": side,
        "connections": len(rows),
        "first_ns": int(starts.min()),
        "last_ns": int(starts.max()),
    }


def _folded(hosts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each address and role once, whatever chains it stood in."""
    from auditor.policy.inventory import time_text

    by: dict[tuple[str, str, bool], dict[str, Any]] = {}
    for each in hosts:
        key = each["ip"], each["as"], each["leaf"]
        known = by.setdefault(key, {**each, "connections": 0})
        known["connections"] += each["connections"]
        known["first_ns"] = min(known["first_ns"], each["first_ns"])
        known["last_ns"] = max(known["last_ns"], each["last_ns"])
    told = []
    for each in sorted(by.values(), key=lambda one: (one["first_ns"], one["ip"], one["as"])):
        first, last = each.pop("first_ns"), each.pop("last_ns")
        told.append({**each, "first_seen": time_text(first), "last_seen": time_text(last)})
    return told
