"""The connections that a finding compares with: evidence about others than those who are accused names their frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

PEER = "peer."
"""So begin the kinds of such evidence."""


def witnesses(connections: pd.DataFrame, finding: Mapping[Any, Any]) -> list[str]:
    """Ids of the connections whose frames a finding's evidence names as those of its peers."""
    frames = {
        (int(capture), int(frame))
        for each in finding.get("evidence") or ()
        if str(each.get("kind")).startswith(PEER)
        for capture, frame in each.get("frames") or ()
    }
    if not frames or "authentication_evidence" not in connections:
        return []
    return [
        str(name)
        for name, shown in zip(connections["id"], connections["authentication_evidence"], strict=True)
        if any((int(c), int(n)) in frames for each in shown or () for c, n in each.get("frames") or ())
    ]
