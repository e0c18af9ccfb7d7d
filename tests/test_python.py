"""What ``import auditor`` offers to somebody who works in Python or in a notebook."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import auditor
from auditor.api import nanoseconds
from auditor.errors import ConfigError
from auditor.report._notebook import notebook_html
from tests.report import make

SAMPLE = "captures/sample/healthy.pcap"


@pytest.fixture(scope="module")
def report():
    return auditor.audit("sample:healthy")


def test_all_that_there_is_shows_and_is_there():
    shown = dir(auditor)
    assert {
        "audit",
        "connections",
        "Report",
        "Limits",
        "ConfigError",
        "InputError",
        "load_policy",
        "load_inventory",
    } <= set(shown)
    for name in auditor.__all__:
        assert getattr(auditor, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'adit'"):
        auditor.adit  # noqa: B018


def test_severity_and_confidence_are_ordered():
    found = auditor.Report(make.audit()).findings
    assert found["severity"].cat.ordered and found["confidence"].cat.ordered
    grave = found[found["severity"] >= "high"]
    assert set(grave["severity"]) == {"critical", "high"}
    assert found.sort_values("severity")["severity"].iloc[-1] == "critical"
    assert len(found.query("severity == 'critical'")) == (found["severity"] == "critical").sum()


def test_times_as_the_command_line_takes_them(monkeypatch):
    monkeypatch.setattr("time.time_ns", lambda: 10_000 * 10**9)
    assert nanoseconds("2h") == 2_800 * 10**9
    assert nanoseconds("1970-01-01T00:00:01.5Z") == 1_500_000_000
    assert nanoseconds("1970-01-02", "--until") == 2 * 86_400 * 10**9 - 1
    with pytest.raises(ConfigError, match="'soon' is not a time"):
        nanoseconds("soon")
    with pytest.raises(ConfigError, match=r"unknown severity 'hihg' .*did you mean high"):
        auditor.audit(SAMPLE, fail_on="hihg")


def test_an_inventory_as_a_table_as_rows_and_parsed(report):
    plain = [
        {"name": "diego_cell/0", "ip": "10.0.4.20", "roles": ["diego_cell"]},
        {"name": "diego_brain/0", "ip": "10.0.4.30", "roles": ["diego_brain"]},
    ]
    policy = auditor.load_policy(["tas-diego"])
    parsed = [
        auditor.audit(SAMPLE, inventory=given, policy=policy)
        for given in (
            plain,
            pd.DataFrame(plain),
            {"vms": [{"name": each["name"], "ip": each["ip"], "roles": each["roles"]} for each in plain]},
        )
    ]
    known = auditor.load_inventory(["captures/sample/healthy.inventory.yml"], policy)
    whole = auditor.audit(SAMPLE, inventory=known, policy=policy)
    assert (
        whole.summary["verdicts"]
        == auditor.audit(SAMPLE, inventory="captures/sample/healthy.inventory.yml", policy="tas-diego").summary[
            "verdicts"
        ]
    )
    assert len({str(each.summary["verdicts"]) for each in parsed}) == 1
    assert parsed[0].info["inventories"][0]["path"] == "inventory 1"
    with pytest.raises(ConfigError, match=r"inventory 1:1: unknown column 'rols' .did you mean roles"):
        auditor.audit(SAMPLE, inventory=[{"name": "x", "ip": "10.0.0.1", "rols": "diego_cell"}])


def test_a_policy_as_rows():
    path = {
        "id": "cell-to-thing", "source": {"vm": "diego_cell"}, "destination": {"vm": "diego_brain"}, "ports": 7777, "transport": "tcp",
        "application": "HTTPS", "authentication": "tls",
    }  # fmt: skip
    for given in ([path], pd.DataFrame([path])):
        coverage = auditor.audit(SAMPLE, policy=given).coverage
        assert "cell-to-thing" in set(coverage["path"])
    with pytest.raises(ConfigError, match="policy 1"):
        auditor.audit(SAMPLE, policy=[{**path, "colour": "red"}])
    with pytest.raises(ConfigError, match="--release"):
        auditor.audit(SAMPLE, policy=auditor.load_policy(["tas"]), release="TAS 4.0")


def test_a_notebook_shows_summary_findings_and_coverage():
    text = notebook_html(make.audit())
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text
    for words in ("NOT CLEAN", "Findings (", "Documented paths (", "f01"):
        assert words in text
    assert auditor.Report(make.audit())._repr_html_() == text


@pytest.mark.parametrize(
    "inventory",
    [
        [{"ip": "10.0.4.20", "role": "diego_cell"}],
        pd.DataFrame([{"ip": "10.0.4.20", "group": "diego_cell"}]),
        {"vms": [{"cidr": "10.0.4.20/31", "roles": ["diego_cell"]}], "externals": [{"ip": "10.0.4.30", "role": "ntp"}]},
    ],
)
def test_an_entry_without_a_name_goes_by_its_address(inventory):
    found = auditor.audit(SAMPLE, inventory=inventory)
    ends = found.connections[["originator_ip", "originator_instance"]].drop_duplicates().astype(object)
    named = dict(zip(ends["originator_ip"], ends["originator_instance"], strict=True))
    assert named["10.0.4.20"] == "10.0.4.20"
    assert found.of_host("10.0.4.20").to_table()
    assert found.encryption("table")


def test_one_name_is_one_name():
    policy = auditor.load_policy("tas-diego")
    assert policy.all_paths == auditor.load_policy(["tas-diego"]).all_paths
    file = "captures/sample/healthy.inventory.yml"
    wanted = auditor.load_inventory([file], policy).entries
    assert auditor.load_inventory(file, policy).entries == auditor.load_inventory(Path(file), policy).entries == wanted
    assert auditor.load_inventory(file).policy.all_paths == auditor.load_policy("tas").all_paths


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: auditor.audit(5), r"captures: int is not accepted \(a file, a folder"),
        (lambda: auditor.audit([SAMPLE, None]), "captures: NoneType is not accepted"),
        (lambda: auditor.audit(SAMPLE, inventory=5), r"inventory: int is not accepted \(a file, a dict"),
        (lambda: auditor.audit(SAMPLE, policy=5), "policy: int is not accepted"),
        (lambda: auditor.audit(SAMPLE, waivers=5), "waivers: int is not accepted"),
        (lambda: auditor.audit(SAMPLE, scope="dieg"), "--scope: unknown scope 'dieg' .did you mean diego"),
        (lambda: auditor.audit(SAMPLE, since=5.0), "--since: 5.0 is not a time .a datetime"),
        (lambda: auditor.load_policy(5), "policy: int is not a name or file"),
        (lambda: auditor.load_inventory(5), "inventory: int is not a name or file"),
        (lambda: auditor.load_inventory("x.yml", "tas"), "policy: str is not a policy"),
    ],
)
def test_a_value_of_the_wrong_type_says_what_is_expected(wrong, says):
    with pytest.raises(auditor.ConfigError, match=says):
        wrong()
