"""From a finding in a report to its proof: the commands that stand there can be copied and run."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pandas as pd
import pytest

from auditor import api
from auditor.cli import main
from auditor.incidents.again import candidates, next_of
from tests.report import make


@pytest.fixture(scope="module")
def sample():
    return api.audit("sample:diego").audit


@pytest.mark.parametrize("name", ["table", "markdown"])
def test_the_commands_of_a_finding_run_as_they_stand(name, sample, tmp_path, capsys):
    report = api.Report(sample)
    text = report.to_table() if name == "table" else report.to_markdown()
    lines = [line.strip(" -`") for line in text.splitlines()]
    finding = str(sample.findings["id"].iloc[0])
    explain, cut = (
        shlex.split(next(line for line in lines if line.startswith(f"auditor {verb}") and finding in line))[1:]
        for verb in ("explain", "slice")
    )
    assert main(explain) == 0
    assert finding in capsys.readouterr().out
    assert cut[-1] == f"{finding}.pcapng"
    cut[-1] = str(tmp_path / cut[-1])
    assert main(cut) == 0
    assert (tmp_path / f"{finding}.pcapng").stat().st_size > 100


def test_all_that_decides_about_a_finding_is_in_its_commands():
    audit = make.audit()
    info = {
        **audit.info,
        "policies": [{"name": "tas-diego"}, {"name": "ours"}],
        "inventories": [{"path": "who is who.yml"}],
        "options": {"release": "2.10", "ca": ["bbs=ca.pem"], "scope": "all"},
    }
    coverage = audit.coverage.assign(origin=[("tas-diego.yml", 3)] * (len(audit.coverage) - 1) + [("/etc/ours.yml", 9)])
    then = next_of(replace(audit, info=info, coverage=coverage))
    assert then.options == (
        "--policy tas-diego --policy /etc/ours.yml --release 2.10 --inventory 'who is who.yml' --ca bbs=ca.pem --scope all"
    )
    assert then.commands("F-1")[0] == f"auditor explain F-1 {then.again}"


def test_many_captures_are_not_named():
    audit = make.audit()
    one = replace(audit, captures=audit.captures.iloc[:1], info={**audit.info, "policies": [], "inventories": []})
    assert next_of(one).commands("F-1")[0] == f"auditor explain F-1 {audit.captures['path'].iloc[0]}"
    many = replace(one, captures=pd.concat([audit.captures] * 3, ignore_index=True))
    assert next_of(many).captures == "CAPTURE..."


def test_all_paths_that_a_finding_may_be_about():
    both = ("auctioneer-to-bbs", "ssh-proxy-to-bbs")
    assert candidates({"path": both[0]}, {"paths": both}) == both
    assert candidates({"path": "near"}, {"paths": ()}) == ("near",)
    assert candidates({"path": None}, {"paths": both}) == ()
