"""The result of an audit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Judged:
    """What rules look at: the connections with their classification, before findings exist."""

    connections: pd.DataFrame
    """Columns of ``columns.CONNECTIONS`` (without ``findings``) plus the internal ones of ``columns.INTERNAL``. Index: 0..n-1, in order of start."""
    inventory: Any
    policy: Any
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Audit:
    """Everything a report shows. All tables have a RangeIndex."""

    info: dict[str, Any]
    """The ``audit`` object of the JSON report: id, started, finished, version, policies, inventories, options."""
    summary: dict[str, Any]
    """The ``summary`` object of the JSON report."""
    captures: pd.DataFrame
    connections: pd.DataFrame
    findings: pd.DataFrame
    coverage: pd.DataFrame
    names: tuple[Any, ...] = ()
    """Names of certificates that this deployment gives (``policy.learnt.LearntName``): what a policy may declare."""
    certificates: tuple[dict[str, Any], ...] = ()
    """The certificates that were shown, and by whom (``incidents.shown_certificates``)."""
