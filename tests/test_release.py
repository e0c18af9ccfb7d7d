"""The BOSH release and the systemd units of agents and collector: templates rendered as a Director does, and what comes out read by what it is for."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess

import pytest
import yaml

from auditor.agents.config import load_agent, load_collector
from tests.conftest import ROOT, absent

RELEASE = ROOT / "release"
JOBS = ("auditor-agent", "auditor-collector")
# A Director's binding: properties by dotted names with the defaults of the spec, links, and the instance (bosh-template, EvaluationContext).
BINDING = r"""
require 'erb'; require 'json'
given = JSON.parse(STDIN.read)
Spec = Struct.new(:name, :id, :index)
class Link
  def initialize(told) = @told = told
  def address = @told['address']
  def instances = @told['instances'].map { |each| Spec.new(each['name'], each['id'], 0) }
  def p(name, default = nil) = @told['properties'].fetch(name, default)
end
class Context
  def initialize(given) = @given = given
  def spec = Spec.new('diego_cell', '6f1c2d3e-0000-4000-8000-000000000001', 0)
  def p(name, *default)
    found = @given['properties'][name]
    return found unless found.nil?
    raise "Can't find property '#{name}'" if default.empty?
    default.first
  end
  def if_p(name) = (yield @given['properties'][name] unless @given['properties'][name].nil?)
  def if_link(name) = (yield Link.new(@given['links'][name]) if @given['links'].key?(name))
  def take = binding
end
puts ERB.new(given['text'], trim_mode: '-').result(Context.new(given).take)
"""


def spec_of(job: str) -> dict:
    return yaml.safe_load((RELEASE / "jobs" / job / "spec").read_text())


def rendered(job: str, template: str, properties: dict, links: dict | None = None) -> str:
    ruby = shutil.which("ruby")
    if ruby is None:
        absent("ruby is not installed (Debian package ruby)")
    defaults = {name: each["default"] for name, each in spec_of(job)["properties"].items() if "default" in each}
    given = {
        "text": (RELEASE / "jobs" / job / "templates" / template).read_text(),
        "properties": {**defaults, **properties},
        "links": links or {},
    }
    done = subprocess.run([ruby, "-e", BINDING], input=json.dumps(given), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("job", JOBS)
def test_a_job_has_what_its_spec_names(job):
    spec = spec_of(job)
    folder = RELEASE / "jobs" / job
    assert {each.name for each in (folder / "templates").iterdir()} == set(spec["templates"])
    assert all(each["description"] for each in spec["properties"].values())
    texts = "".join(each.read_text() for each in (folder / "templates").iterdir())
    used = (
        set(re.findall(r"\bp\('([a-z_.]+)'", texts)) - {"port"}
        if job == "auditor-agent"
        else set(re.findall(r"\bp\('([a-z_.]+)'", texts))
    )
    assert used == set(spec["properties"]), used ^ set(spec["properties"])
    assert (folder / "monit").read_text().startswith(f"check process {job}\n")
    for name in spec["packages"]:
        assert (RELEASE / "packages" / name / "spec").is_file()


TLS = {"tls.ca": "CA", "tls.certificate": "CERT", "tls.private_key": "KEY"}


@pytest.mark.parametrize("linked", [False, True])
def test_an_agents_configuration_is_one(tmp_path, linked):
    given = {"collector.address": "10.0.8.9:7444", "ring.readers": ["operator"]}
    links = {"auditor-collector": {"address": "q-s0.collector.bosh", "instances": [], "properties": {"port": 7555}}}
    text = rendered("auditor-agent", "agent.toml.erb", {**TLS, **({} if linked else given)}, links if linked else None)
    (tmp_path / "agent.toml").write_text(text)
    config = load_agent(tmp_path / "agent.toml")
    assert config.name == "diego_cell-6f1c2d3e-0000-4000-8000-000000000001"
    assert config.collector.address == ("q-s0.collector.bosh:7555" if linked else "10.0.8.9:7444")
    assert config.ring is not None
    assert (config.ring.listen, config.ring.readers) == ((None, []) if linked else ("0.0.0.0:7445", ["operator"]))


def test_an_agent_without_a_ring(tmp_path):
    given = {**TLS, "collector.address": "10.0.8.9:7444", "ring.size": "0", "name": 'cell "0"'.replace(' "0"', "-0")}
    (tmp_path / "agent.toml").write_text(rendered("auditor-agent", "agent.toml.erb", given))
    assert load_agent(tmp_path / "agent.toml").ring is None


@pytest.mark.parametrize("linked", [False, True])
def test_a_collectors_configuration_is_one(tmp_path, linked):
    links = {
        "auditor-agent": {
            "address": "",
            "instances": [{"name": "diego_cell", "id": "a1"}, {"name": "diego_brain", "id": "b2"}],
            "properties": {},
        }
    }
    who = {"schema": "auditor.inventory/1", "vms": [{"name": "diego_cell/0", "ips": ["10.0.4.20"]}]}
    given = {**TLS, "inventory": who, "notify_url": "json://127.0.0.1/", "agents": ["diego_cell-a1"]}
    text = rendered("auditor-collector", "collector.toml.erb", given, links if linked else None)
    (tmp_path / "collector.toml").write_text(text)
    config = load_collector(tmp_path / "collector.toml")
    assert config.collect.agents == (["diego_cell-a1", "diego_brain-b2"] if linked else ["diego_cell-a1"])
    assert json.loads(rendered("auditor-collector", "inventory.json.erb", given)) == who
    bpm = yaml.safe_load(rendered("auditor-collector", "bpm.yml.erb", given))
    assert bpm["processes"][0]["env"]["AUDITOR_NOTIFY"] == "json://127.0.0.1/"
    assert bpm["processes"][0]["args"][0] == "collect"


@pytest.mark.parametrize("job", JOBS)
def test_certificates_go_to_their_files(job):
    assert [rendered(job, f"{name}.pem.erb", TLS).strip() for name in ("ca", "cert", "key")] == ["CA", "CERT", "KEY"]


def test_scripts_are_scripts(tmp_path):
    for name in ("ctl.erb", "drain.erb", "pre-start.erb"):
        text = rendered("auditor-agent", name, TLS)
        assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0
    for path in (RELEASE / "vendor.sh", RELEASE / "packages" / "diego-flow-auditor" / "packaging"):
        assert subprocess.run(["sh", "-n", str(path)], check=False).returncode == 0


def test_the_agent_is_started_drained_and_stopped_by_its_scripts(tmp_path):
    """With a program in the agent's place, and folders in those of a VM."""
    program = tmp_path / "packages" / "diego-flow-auditor" / "bin" / "auditor"
    program.parent.mkdir(parents=True)
    program.write_text(
        f"#!/bin/bash\ntrap 'echo delivered >> {tmp_path}/said; exit 0' TERM\necho started >> {tmp_path}/said\nwhile :; do sleep 0.05; done\n"
    )
    program.chmod(0o755)

    def run(template: str, *words: str) -> str:
        text = rendered("auditor-agent", template, TLS).replace("/var/vcap", str(tmp_path))
        done = subprocess.run(
            ["bash", "-c", text, template, *words], capture_output=True, text=True, check=True, timeout=60
        )
        return done.stdout.strip()

    pid = tmp_path / "sys/run/auditor-agent/auditor-agent.pid"
    run("ctl.erb", "start")
    while not (tmp_path / "said").exists():
        os.sched_yield()
    first = pid.read_text()
    run("ctl.erb", "start")
    assert pid.read_text() == first, "started twice"
    assert run("drain.erb") == "0"
    assert (tmp_path / "said").read_text().split() == ["started", "delivered"]
    run("ctl.erb", "stop")
    assert not pid.exists()


@pytest.mark.parametrize("name", JOBS)
def test_systemd_takes_the_units(tmp_path, name):
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        absent("systemd-analyze is not installed (Debian package systemd)")
        return
    unit = tmp_path / f"{name}.service"
    unit.write_text((RELEASE / "systemd" / unit.name).read_text().replace("/opt/auditor/bin/auditor", "/bin/true"))
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False,
        env={**os.environ, "SYSTEMD_LOG_LEVEL": "warning"},
    )  # fmt: skip
    assert [line for line in done.stderr.splitlines() if name in line] == []
