"""Which certificate an end of a connection showed, and which VMs of the inventory show the same one."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from auditor.model.audit import Judged
from auditor.rules._subject import Mask, View, one_by_one

NAMED_VMS = 5
"""So many VMs that show a certificate are named."""


def leaves_of(view: View, side: str) -> npt.NDArray[np.object_]:
    """SHA-256 (hexadecimal) of the end-entity certificate that the ``client`` or ``server`` of each connection showed; empty where none was seen."""

    def leaf(tls: Any) -> str:
        chain = tls.get(f"{side}_certificates") if isinstance(tls, dict) else None
        return str(chain[0]) if chain else ""

    return one_by_one(view.column("tls"), leaf)


def in_inventory(judged: Judged, which: str) -> Mask:
    """Of each connection, whether its ``originator`` or ``responder`` is a VM of the inventory with a role."""
    named = judged.connections[f"{which}_instance"].notna().to_numpy()
    return named & np.asarray([bool(each) for each in judged.connections[f"{which}_roles"]], np.bool_)


def holders_of(judged: Judged, shown: set[str]) -> dict[str, list[str]]:
    """The VMs of the inventory that show each of these certificates, by name; a certificate that none shows has no entry."""
    found: dict[str, set[str]] = {}
    for which, side in (("originator", "client"), ("responder", "server")) if shown else ():
        view = View(judged.connections, in_inventory(judged, which) & judged.connections["tls"].notna().to_numpy())
        leaves = leaves_of(view, side)
        for place in np.flatnonzero(np.isin(leaves, list(shown))).tolist():
            found.setdefault(str(leaves[place]), set()).add(str(view.column(f"{which}_instance")[place]))
    return {leaf: sorted(names) for leaf, names in found.items()}
