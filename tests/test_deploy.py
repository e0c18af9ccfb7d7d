"""The files of ``docs/deploy``: each is read by what it is for, as far as that is here."""

from __future__ import annotations

import ctypes.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest
import yaml

import auditor
from auditor.cli import main
from auditor.jobs.config import load_config
from auditor.jobs.metrics import registry
from auditor.jobs.scheduled_run import Outcome
from auditor.jobs.sources import Sources
from auditor.store.history import open_history
from tests.conftest import ROOT, absent

DEPLOY = ROOT / "docs" / "deploy"


def tool(name: str, package: str) -> str:
    found = shutil.which(name)
    if not found:
        absent(f"{name} is not installed (Debian package {package})")
    assert found
    return found


@pytest.fixture(scope="module")
def metrics(tmp_path_factory):
    """Names of all metrics and their labels."""
    place = tmp_path_factory.mktemp("deploy") / "store"
    auditor.audit("sample:healthy", store=place)
    with open_history(place, write=True) as history, history.writing():
        sources = Sources(history, (), 1)
        sources.delivered(["a.pcap"], 0)
        sources.save()
    made = registry(place, Outcome(), 1.0, 0, "prod")
    return {family.name: {key for sample in family.samples for key in sample.labels} for family in made.collect()}


def test_systemd_takes_the_units_as_they_are(tmp_path):
    analyze = tool("systemd-analyze", "systemd")
    for name in ("auditor.service", "auditor.timer"):
        text = (DEPLOY / name).read_text()
        # The program is not installed here; everything else is judged as it stands.
        (tmp_path / name).write_text(text.replace("/opt/auditor/bin/auditor", "/bin/true"))
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(tmp_path / "auditor.service"), str(tmp_path / "auditor.timer")],
        capture_output=True, text=True, check=False, env={**os.environ, "SYSTEMD_LOG_LEVEL": "warning"},
    )  # fmt: skip
    ours = [line for line in done.stderr.splitlines() if "auditor" in line]
    assert (done.returncode, ours) == (0, [])


def test_the_service_is_hardened():
    text = (DEPLOY / "auditor.service").read_text()
    for line in (
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "ProtectHome=yes",
        "User=auditor",
        "CapabilityBoundingSet=",
        "PrivateTmp=yes",
    ):
        assert f"\n{line}\n" in text
    [command] = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    assert shlex.split(command)[1:3] == ["run", "/etc/auditor/auditor.toml"]


def test_the_cron_line_has_its_six_fields_and_a_command_of_ours():
    [line] = [line for line in (DEPLOY / "auditor.cron").read_text().splitlines() if line and line[0] in "*0123456789"]
    fields = line.split(None, 6)
    assert all(re.fullmatch(r"[\d*/,-]+", field) for field in fields[:5])
    assert fields[5] == "auditor"
    words = shlex.split(fields[6])
    assert words[words.index("/opt/auditor/bin/auditor") + 1 :] == ["run", "/etc/auditor/auditor.toml", "--quiet"]


def test_the_task_and_the_errand_are_what_concourse_and_bosh_read(tmp_path, capsys):
    task = yaml.safe_load((DEPLOY / "concourse-task.yml").read_text())
    assert {"platform", "image_resource", "inputs", "outputs", "run"} <= set(task)
    script = task["run"]["args"][-1]
    assert subprocess.run(["sh", "-n"], input=script, text=True, check=False).returncode == 0
    spec = yaml.safe_load((DEPLOY / "bosh" / "spec").read_text())
    assert {(DEPLOY / "bosh" / "templates" / name).is_file() for name in spec["templates"]} == {True}
    ruby = tool("ruby", "ruby")
    values = {name: each["default"] for name, each in spec["properties"].items()}
    who = {"schema": "auditor.inventory/1", "vms": [{"name": "diego_cell/0", "ips": ["10.0.4.20"]}]}
    for notify, inventory, command in (("", {}, []), ("AUDITOR_NOTIFY", who, ["/bin/cat", "vms.json"])):
        given = json.dumps({**values, "notify_url_env": notify, "inventory": inventory, "inventory_command": command})
        render = "require 'erb'; require 'json'; V = JSON.parse(ARGV[1]); def p(n) = V.fetch(n); puts ERB.new(File.read(ARGV[0])).result(binding)"
        # The inventory lies beside the configuration that names it.
        for template, target in sorted(spec["templates"].items(), key=lambda each: each[1].endswith(".toml")):
            done = subprocess.run(
                [ruby, "-e", render, str(DEPLOY / "bosh" / "templates" / template), given],
                capture_output=True,
                text=True,
                check=True,
            )
            file = tmp_path / target.rsplit("/", 1)[1]
            file.write_text(done.stdout)
            if file.suffix == ".toml":
                config = load_config(file)
                assert [each.url_env for each in config.notify] == ([notify] if notify else [])
                assert [(each.file is None, each.command) for each in config.inventory] == (
                    [(False, None), (True, command)] if inventory else []
                )
                # In order, but for the folders of a VM and its environment, which are not here.
                assert main(["run", str(file), "--check"]) in (0, 3)
                told = [json.loads(line)["says"] for line in capsys.readouterr().err.splitlines()]
                assert [says for says in told if "/var/vcap" not in says and "AUDITOR_NOTIFY" not in says] == []
            elif file.suffix == ".json":
                assert json.loads(done.stdout) == inventory
            else:
                assert subprocess.run(["bash", "-n", str(file)], check=False).returncode == 0
    capsys.readouterr()


def test_the_container_installs_what_there_is():
    text = (DEPLOY / "Containerfile").read_text()
    steps = [line.split(None, 1)[0] for line in text.splitlines() if re.match(r"[A-Z]+ ", line)]
    assert set(steps) <= {"FROM", "COPY", "RUN", "ENV", "USER", "VOLUME", "WORKDIR", "ENTRYPOINT", "CMD"}
    [extras] = re.findall(r"/src\[([a-z,]+)\]", text)
    import tomllib

    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras.split(",")) <= set(known)
    user = next(line for line in text.splitlines() if line.startswith("USER"))
    assert user.split()[1] not in ("root", "0")


_METRIC = re.compile(r"\bauditor_[a-z_]+\b")


def test_alerts_and_dashboard_ask_for_metrics_that_there_are(metrics):
    rules = [rule for group in yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"] for rule in group["rules"]]
    board = json.loads((DEPLOY / "grafana.json").read_text())
    asked = [rule["expr"] for rule in rules] + [
        target["expr"] for panel in board["panels"] for target in panel["targets"]
    ]
    named = {name for expression in asked for name in _METRIC.findall(expression)}
    assert named <= set(metrics)
    assert len(named) >= 12
    for expression in asked:
        for name, inside in re.findall(r"\b(auditor_[a-z_]+)\{([^}]*)\}", expression):
            assert set(re.findall(r"([a-z_]+)\s*=", inside)) <= metrics[name], expression
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    assert all({"alert", "expr", "labels", "annotations"} <= set(rule) for rule in rules)


def _calls(analyze: str) -> dict[str, set[str]]:
    """What each of systemd's sets of system calls holds, sets within it resolved."""
    text = subprocess.run([analyze, "syscall-filter"], capture_output=True, text=True, check=True).stdout
    sets: dict[str, set[str]] = {}
    name = ""
    for line in text.splitlines():
        if line.startswith("@"):
            name = line.strip()
            sets[name] = set()
        elif line.startswith("    ") and not line.strip().startswith("#"):
            sets[name].add(line.strip())

    def resolved(inside: str) -> set[str]:
        return {call for each in sets[inside] for call in (resolved(each) if each.startswith("@") else {each})}

    return {each: resolved(each) for each in sets}


_CONFINED = """
import ctypes, os, sys
lib = ctypes.CDLL("libseccomp.so.2", use_errno=True)
lib.seccomp_init.restype = ctypes.c_void_p
lib.seccomp_load.argtypes = [ctypes.c_void_p]
lib.seccomp_rule_add.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint]
lib.seccomp_syscall_resolve_name.argtypes = [ctypes.c_char_p]
action, calls, command = int(sys.argv[1]), sys.argv[2].split(","), sys.argv[3:]
context = lib.seccomp_init(action)
for name in calls:
    number = lib.seccomp_syscall_resolve_name(name.encode())
    if number >= 0:
        assert lib.seccomp_rule_add(context, 0x7FFF0000, number, 0) == 0, name
assert lib.seccomp_load(context) == 0
os.execv(command[0], command)
"""


def test_a_pass_lives_with_the_system_calls_that_the_service_leaves_it(tmp_path):
    """The unit's own filter, put on a pass that moves files, keeps history and writes reports and metrics."""
    analyze = tool("systemd-analyze", "systemd")
    if ctypes.util.find_library("seccomp") is None:
        absent("libseccomp is not installed (Debian package libseccomp2)")
    sets = _calls(analyze)
    text = (DEPLOY / "auditor.service").read_text()
    allowed: set[str] = set()
    for given in re.findall(r"^SystemCallFilter=(.*)$", text, re.MULTILINE):
        calls = {
            call for word in given.lstrip("~").split() for call in (sets[word] if word.startswith("@") else {word})
        }
        allowed = allowed - calls if given.startswith("~") else allowed | calls
    assert "mount" not in allowed
    # SCMP_ACT_ERRNO(EPERM), or as the kernel does where the unit names no number: the process is killed.
    action = 0x00050001 if "\nSystemCallErrorNumber=EPERM\n" in text else 0x80000000
    (tmp_path / "in").mkdir()
    shutil.copy(ROOT / "captures" / "sample" / "diego.pcapng", tmp_path / "in")
    (tmp_path / "auditor.toml").write_text(
        'store = "history"\n[spool]\nfolders = ["in"]\nsettle = "0s"\nafter = "move"\ndone = "done"\n'
        f'[[inventory]]\ncommand = ["/bin/cat", "{ROOT}/captures/sample/diego.inventory.yml"]\n'
        '[[report]]\nformat = "html"\noutput = "r.html"\n[[report]]\nformat = "parquet"\noutput = "r"\n'
        '[metrics]\ntextfile = "auditor.prom"\n'
    )
    command = [sys.executable, "-m", "auditor", "run", str(tmp_path / "auditor.toml")]
    done = subprocess.run(
        [sys.executable, "-c", _CONFINED, str(action), ",".join(sorted(allowed)), *command],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 1, (done.returncode, done.stderr[-2000:])
    assert "1 file in 1 audit" in done.stderr
    assert (tmp_path / "done" / "diego.pcapng").is_file()
    assert (tmp_path / "r.html").is_file()
    # The filter is on: what it does not leave fails.
    probe = "import os\ntry:\n    os.sched_setaffinity(0, {0})\nexcept PermissionError:\n    print('refused')"
    done = subprocess.run(
        [sys.executable, "-c", _CONFINED, str(action), ",".join(sorted(allowed)), sys.executable, "-c", probe],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "refused\n"
