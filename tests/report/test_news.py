"""What is told first: of one severity, what the fewest pairs of machines show."""

from __future__ import annotations

from typing import Any

import pandas as pd

from auditor.model.audit import Audit
from auditor.report import _story as story


def finding(name: str, severity: str, rule: str, connections: list[str], waived: Any = None) -> dict[str, Any]:
    return {
        "id": name, "severity": severity, "rule": rule, "connections": tuple(connections), "count": len(connections), "waived": waived,
        "title": name, "detail": "", "path": None, "confidence": "high", "evidence": (), "remediation": "",
    }  # fmt: skip


def order(*findings: dict[str, Any]) -> list[str]:
    ids = [f"{cell}-{number}" for cell in range(5) for number in range(10)]
    connections = pd.DataFrame({
        "id": ids, "originator_ip": [f"10.0.4.{name[0]}" for name in ids], "responder_ip": "10.0.4.24",
    })  # fmt: skip
    audit = Audit({}, {}, pd.DataFrame(), connections, pd.DataFrame(list(findings)), pd.DataFrame())
    return [str(one["id"]) for _, _, found in story.by_news(audit) for one in found]


EVERYWHERE = [f"{cell}-0" for cell in range(5)]
OFTEN = [f"0-{number}" for number in range(10)]


def test_what_one_pair_did_once_comes_before_what_all_do() -> None:
    told = order(
        finding("all cells", "high", "a-rule", EVERYWHERE),
        finding("often", "high", "b-rule", OFTEN),
        finding("once", "high", "c-rule", ["0-0"]),
    )
    assert told == ["once", "often", "all cells"], "not the alphabet"


def test_severity_comes_before_news_and_waived_ones_last() -> None:
    told = order(
        finding("rare", "medium", "a-rule", ["0-0"]),
        finding("waived", "high", "b-rule", ["1-0"], {"reason": "known"}),
        finding("broad", "critical", "c-rule", EVERYWHERE),
        finding("open", "high", "b-rule", EVERYWHERE),
    )
    assert told == ["broad", "open", "waived", "rare"]


def test_an_audit_without_findings() -> None:
    assert story.news(Audit({}, {}, pd.DataFrame(), pd.DataFrame(), pd.DataFrame(), pd.DataFrame())) == {}
