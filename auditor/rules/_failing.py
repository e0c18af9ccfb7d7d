"""Which connections came to nothing: those that nobody answered, that were refused, and those that hang."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from auditor.model.audit import Judged
from auditor.model.judgement import Outcome
from auditor.rules._subject import Mask, holds

PATIENCE_NS = 3_000_000_000
"""So long an answer may take: the third SYN goes out after as many seconds."""
GREETING = frozenset({"NATS", "MySQL"})
"""Applications in which the server speaks first."""


def _ends_ns(table: pd.DataFrame) -> Any:
    return table["start"].to_numpy(np.int64) + (table["duration"].to_numpy(np.float64) * 1e9).astype(np.int64)


def failing(judged: Judged) -> tuple[Mask, Mask]:
    """Tries of which no connection came, and connections that hang; what began too late to tell is in neither."""
    table = judged.connections
    nothing = np.zeros(len(table), np.bool_)
    if not len(table):
        return nothing, nothing
    ends = _ends_ns(table)
    history = table["history"].astype(str)
    tcp = holds(table, "transport", "tcp")
    # A capture that sees one direction alone sees no answers.
    whole = ~table["incomplete"].astype(str).str.contains("one_way|midstream").to_numpy(bool)
    waited = int(ends.max()) - table["start"].to_numpy(np.int64) >= PATIENCE_NS
    reset = history.str.contains("r").to_numpy(bool)
    opened = tcp & whole & history.str.contains("S").to_numpy(bool)
    attempt = holds(table, "outcome", Outcome.ATTEMPT)
    spoke, answered = (history.str.contains(letter).to_numpy(bool) for letter in "Dd")
    refused = history.str.contains("[fr]").to_numpy(bool)  # the other end turned it away: another rule's business
    silent = ~answered & ~refused & (spoke | _waits_for_greeting(judged))
    given_up = history.str.contains("[FR]").to_numpy(bool)
    lasted = np.where(given_up, ends, int(ends.max())) - table["start"].to_numpy(np.int64) >= PATIENCE_NS
    return opened & attempt & (waited | reset), opened & ~attempt & silent & lasted


def _waits_for_greeting(judged: Judged) -> Mask:
    """Connections on paths whose server speaks first."""
    by_id = {} if judged.policy is None else judged.policy.by_id
    known: dict[int, bool] = {}
    out = np.zeros(len(judged.connections), np.bool_)
    for row, paths in enumerate(judged.connections["paths"]):
        if not paths:
            continue
        told = known.get(id(paths))
        if told is None:
            told = known[id(paths)] = all(path in by_id and by_id[path].application in GREETING for path in paths)
        out[row] = told
    return out
