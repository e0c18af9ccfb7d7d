"""The name of each end of a connection in the map and in the page's filters.

An end with a role has the role's name. Of the others, addresses of more than one machine (multicast, broadcast, link-local) share one name, and so do those
that speak only to these: ordinary noise must not hide an unknown host. Each unknown host has its own address as name, those with undeclared
connections first, up to ``SHOWN_STRANGERS`` of a side; the rest share a name.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auditor.model.judgement import CELL_EGRESS, Breach, Disposition
from auditor.policy.addresses import kind_of, to_int

OUTSIDE = "(outside the platform)"
"""Destinations of declared egress; undeclared egress is shown by address."""
NOISE = "(multicast, link-local)"
MUTTERING = "(only multicast)"
"""Ends that only send to ``NOISE``."""
OTHERS = "(others, no inventory)"
SHOWN_STRANGERS = 20
_EGRESS = [*map(str, CELL_EGRESS), str(Breach.CONTROL_PLANE_EGRESS), str(Breach.INFRASTRUCTURE_EGRESS)]
_ENDS = ("originator", "responder")


def places(table: pd.DataFrame) -> dict[str, NDArray[Any]]:
    """Names of all ends by ``originator`` and ``responder``; nothing where roles or addresses were not asked for."""
    wanted = {f"{end}_{what}" for end in _ENDS for what in ("role", "ip")} | {"disposition"}
    if not wanted <= set(table.columns):
        return {}
    red = (table["disposition"] == Disposition.UNDECLARED.value).fillna(False).to_numpy(bool)
    noise = _noise(table["responder_ip"])
    if "transport" in table:  # a network's own broadcast address, as most networks have it
        own = table["responder_ip"].astype(str).str.endswith(".255").to_numpy(bool)
        noise |= own & (table["transport"].astype(str) == "udp").to_numpy(bool) & ~red
    out = np.zeros(len(table), bool)
    if "breach" in table:
        out = table["breach"].isin(_EGRESS).to_numpy(bool)
    found = {}
    for end in _ENDS:
        names = table[f"{end}_role"].astype(object).to_numpy(object, copy=True)
        nobody = table[f"{end}_role"].isna().to_numpy(bool) | (names == "")
        addresses = table[f"{end}_ip"].astype(str).to_numpy(object)
        if end == "responder":
            names[nobody & noise] = NOISE
            names[nobody & ~noise & out & ~red] = OUTSIDE
            strangers = nobody & ~noise & (red | ~out)
        else:
            speaks = set(addresses[nobody & ~noise])
            muttering = np.fromiter((each not in speaks for each in addresses), bool, len(addresses))
            names[nobody & muttering] = MUTTERING
            strangers = nobody & ~muttering
        names[strangers] = np.where(out, OUTSIDE, OTHERS)[strangers] if end == "responder" else OTHERS
        known = _first(addresses[strangers], red[strangers])
        own = strangers & np.fromiter((each in known for each in addresses), bool, len(addresses))
        names[own] = addresses[own]
        found[end] = names
    return found


def _noise(addresses: pd.Series[Any]) -> NDArray[np.bool_]:
    """Which of the addresses are no single machine's."""
    codes, words = pd.factorize(addresses.astype(str))
    return np.array([_is_noise(str(word)) for word in words], bool)[codes] if len(codes) else np.zeros(0, bool)


def _is_noise(address: str) -> bool:
    try:
        return kind_of(to_int(address)) is not None
    except ValueError:
        return False


def _first(addresses: NDArray[Any], red: NDArray[np.bool_]) -> set[str]:
    """The unknown hosts with their own name: those with most undeclared connections first, then with most connections."""
    red_of, all_of = Counter(addresses[red].tolist()), Counter(addresses.tolist())
    return set(sorted(all_of, key=lambda each: (-red_of[each], -all_of[each], each))[:SHOWN_STRANGERS])


def is_stranger(name: str) -> bool:
    """Whether the name of a place is an address that is in no inventory."""
    try:
        return to_int(name) >= 0
    except ValueError:
        return False
