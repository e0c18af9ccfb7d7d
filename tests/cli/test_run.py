"""``auditor run``: as a timer starts it, and staying."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request

import pytest

from auditor.cli import main
from tests.conftest import ROOT
from tests.jobs.crashing import INVENTORY, SAMPLE, split
from tests.netns import until


@pytest.fixture
def place(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "run.toml").write_text(
        f'store = "history"\n[spool]\nfolders = ["in"]\nsettle = "0s"\n[[inventory]]\nfile = "{INVENTORY}"\n'
        '[metrics]\ntextfile = "node/auditor.prom"\n'
    )
    return tmp_path


def test_a_pass_by_hand(place, capsys):
    (place / "in" / "1.pcap").write_bytes(SAMPLE.read_bytes())
    assert main(["run", str(place / "run.toml")]) == 0
    err = capsys.readouterr().err
    assert "1 file in 1 audit, 0 new findings" in err
    assert (place / "node" / "auditor.prom").is_file()
    assert main(["run", str(place / "run.toml"), "--log-format", "json"]) == 0
    [line] = capsys.readouterr().err.splitlines()
    told = json.loads(line)
    assert (told["event"], told["level"], told["files"]) == ("pass", "info", 0)
    assert main(["run", str(place / "run.toml"), "--quiet"]) == 0
    assert capsys.readouterr().err == ""
    assert (
        main(["history", "list", "--store", str(place / "history"), "--fields", "kind,connections", "--format", "csv"])
        == 0
    )
    assert capsys.readouterr().out.splitlines()[1] == '"run",28'


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("settle", "setle"), "run.toml:4: unknown key 'setle' (did you mean settle?)"),
        (('folders = ["in"]', 'folders = ["gone"]'), "no such folder"),
        (("[metrics]", '[audit]\nwaivers = ["no.yml"]\n[metrics]'), "no.yml: no such file"),
        (("[metrics]", '[audit]\npolicies = ["tas-dieg"]\n[metrics]'), "tas-dieg"),
    ],
)
def test_mistakes_are_one_line(place, capsys, change, says):
    file = place / "run.toml"
    file.write_text(file.read_text().replace(*change))
    assert main(["run", str(file)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert says in line


def test_mistakes_are_json_where_the_log_is(place, capsys):
    file = place / "run.toml"
    file.write_text(file.read_text() + '[audit]\nwaivers = ["no.yml"]\n')
    assert main(["run", str(file), "--log-format", "json"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    told = json.loads(line)
    assert (told["level"], told["event"]) == ("error", "failed")
    assert "no.yml: no such file" in told["says"]
    file.write_text(file.read_text() + '[log]\nformat = "json"\n')
    assert main(["run", str(file)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert json.loads(line)["event"] == "failed"


def test_check_reads_the_files_that_are_named_and_tells_what_this_machine_lacks(place, capsys):
    file = place / "run.toml"
    text = file.read_text()
    for more, says in (
        ('[[inventory]]\nfile = "vms.json"\n', "vms.json: no such file"),
        ('[audit]\nca = ["none.crt"]\n', "none.crt"),
    ):
        file.write_text(text + more)
        assert main(["run", str(file), "--check"]) == 2
        assert says in capsys.readouterr().err
    lacks = '[[inventory]]\ncommand = ["no-such-command-here"]\n[[notify]]\nname = "team"\nurl_env = "NO_SUCH_NAME"\n'
    file.write_text(text.replace('["in"]', '["in", "gone"]') + lacks)
    assert main(["run", str(file), "--check"]) == 3
    said = capsys.readouterr()
    assert "3 problems would affect a pass" in said.out
    [folder, command, address] = said.err.splitlines()
    assert folder.endswith("gone: no such folder")
    assert command.endswith("command not found: no-such-command-here")
    assert "NO_SUCH_NAME is not in the environment" in address


def test_what_waits_is_shown_and_withdrawn(place, capsys):
    file = place / "run.toml"
    file.write_text(file.read_text() + '[[report]]\nformat = "json"\noutput = "out/r.json"\n')
    (place / "out").write_text("in the way")
    (place / "in" / "1.pcap").write_bytes(SAMPLE.read_bytes())
    assert main(["run", str(file)]) == 8
    capsys.readouterr()
    assert main(["run", str(file), "--status"]) == 8
    first, errand, source = capsys.readouterr().out.splitlines()
    assert first.startswith("auditor: 1 audit; the last pass ended at 20")
    assert errand.startswith(f"delivery 1: report {place}/out/r.json pending since 20")
    assert "1 try; next attempt not before 20" in errand
    assert source.startswith("source #.pcap: delivers, last at 20")
    assert 'auditor_errands_waiting{name="auditor"} 1.0' in (place / "node" / "auditor.prom").read_text()
    assert main(["run", str(file), "--withdraw", "7"]) == 2
    assert main(["run", str(file), "--withdraw", "1"]) == 0
    assert "1 withdrawn" in capsys.readouterr().out
    assert main(["run", str(file), "--status"]) == 0


def test_a_pass_that_cannot_be_done_writes_its_metrics_all_the_same(place, capsys):
    file = place / "run.toml"
    assert main(["run", str(file)]) == 0
    before = (place / "node" / "auditor.prom").read_text()
    [ended] = [line for line in before.splitlines() if line.startswith("auditor_pass_timestamp_seconds{")]
    file.write_text(file.read_text().replace('folders = ["in"]', 'folders = ["gone"]'))
    assert main(["run", str(file)]) == 2
    after = (place / "node" / "auditor.prom").read_text().splitlines()
    assert 'auditor_pass_failed{name="auditor"} 1.0' in after
    assert (
        abs(
            float(ended.split()[1])
            - next(float(line.split()[1]) for line in after if line.startswith("auditor_pass_timestamp_seconds{"))
        )
        < 5
    )
    capsys.readouterr()


def test_check_reads_the_configuration_alone(place, capsys):
    assert main(["run", str(place / "run.toml"), "--check"]) == 0
    assert "everything is in order" in capsys.readouterr().out
    assert not (place / "history").exists()
    assert main(["run", str(place / "none.toml")]) == 2
    assert "none.toml: no such file" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_watch_reacts_to_new_files_serves_metrics_and_ends_when_asked(place, number, status):
    file = place / "run.toml"
    file.write_text(file.read_text().replace('textfile = "node/auditor.prom"', 'listen = "127.0.0.1:0"'))
    pieces = split(SAMPLE, 2)
    (place / "in" / "1.pcap").write_bytes(pieces[0])
    log = place / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "auditor", "run", str(file), "--watch", "--every", "3600", "--log-format", "json"],
            cwd=ROOT, stderr=out, stdin=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip

    def said(event):
        lines = [json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")]
        return [each for each in lines if each["event"] == event]

    try:
        until(lambda: said("pass"), "a pass", process, log.read_text)
        # Whether it listens already nobody says; so a file is put there until one is seen.
        (place / "in" / "2.part").write_bytes(pieces[1])
        (place / "in" / "2.part").rename(place / "in" / "2.pcap")
        until(lambda: _nudge(place) and len(said("audit")) >= 2, "two audits", process, log.read_text)
        port = said("metrics")[0]["port"]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
            assert "auditor_audits" in answer.read().decode()
        process.send_signal(number)
        assert process.wait(timeout=240) == status
    finally:
        process.kill()
        process.wait()


def _nudge(place):
    (place / "in" / "nudge.tmp").write_bytes(b"x")
    return True
