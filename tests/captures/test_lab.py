"""The lab: its scenarios are complete, its recordings are judged as the endpoints say, and it records anew and leaves nothing behind."""

from __future__ import annotations

import copy
import importlib
import os
import re
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from auditor.catalogue import discover
from tests.netns import until

ROOT = Path(__file__).resolve().parents[2]
LAB = ROOT / "captures" / "lab"
RECORDED, SAMPLE = LAB / "recorded", ROOT / "captures" / "sample"
README = ROOT / "README.md"
FOLDERS = pytest.mark.parametrize("folder", [RECORDED, SAMPLE], ids=["all", "story"])


def module(name: str) -> Any:
    """A module of the lab's folder, which is no package: its scripts run from there."""
    sys.path.insert(0, str(LAB))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(LAB))


@cache
def lab() -> Any:
    return module("data").load()


@cache
def truth(folder: Path) -> list[dict[str, str]]:
    return module("expect").read(folder / "lab.truth.tsv")  # type: ignore[no-any-return]


@cache
def report(folder: Path) -> dict[str, Any]:
    return module("check").audit(folder, "lab")  # type: ignore[no-any-return]


def compared(folder: Path, told: dict[str, Any] | None = None, rows: list[dict[str, str]] | None = None) -> Any:
    return module("check").compare(told or report(folder), rows or truth(folder), lab().raw)


# The scenarios


def test_every_rule_has_its_three_cases_or_says_why_not() -> None:
    rules = {rule.name for rule in discover("auditor.rules", "RULE")}
    played = defaultdict(set)
    for each in lab().scenarios:
        if each.rule:
            played[each.rule].add(each.case)
    without = lab().raw["without"]
    assert set(played) | {rule for rule, excuses in without.items() if len(excuses) == 3} == rules
    for rule in sorted(rules):
        excused = without.get(rule, {})
        assert all(len(why) > 20 for why in excused.values()), rule
        assert played[rule] | set(excused) == {"accepted", "refused", "innocent"}, rule
        assert not played[rule] & set(excused), rule


def test_every_documented_row_is_done_right_in_both_versions_in_full_and_resumed() -> None:
    done = defaultdict(set)
    for each in truth(RECORDED):
        if each["scenario"].startswith("row-") and each["accepted"] == "yes":
            for row in each["rows"].split(","):
                done[int(row)].add((each["tls"], each["connection"]))
    assert set(done) == set(range(1, 26))
    both = {(version, which) for version in ("1.2", "1.3") for which in ("full", "resumed")}
    for row, seen in done.items():
        if row == 7:  # OpenSSH resumes nothing: a connection is a login
            assert {("", "full"), ("1.2", "full"), ("1.3", "full")} <= seen
        else:
            assert both <= seen, row
    assert all(("", "full") in done[row] for row in (20, 24, 25)), "and in the clear where that is documented"


def test_three_stacks_and_six_daemons_take_part() -> None:
    rows = truth(RECORDED)
    assert {"go", "openssl", "java"} <= {each["client_stack"] for each in rows if each["tls"]}
    assert {"go", "openssl", "java"} <= {each["server_stack"] for each in rows if each["tls"]}
    assert {"nats", "mariadb", "sshd", "nginx", "dnsmasq"} <= {each["server_stack"] for each in rows}


def test_a_scenario_is_added_without_code() -> None:
    text = (LAB / "scenarios.yml").read_text(encoding="utf-8")
    more = "scenarios:\n  - {name: 'one-more', row: 13, each: {tls: ['1.2', '1.3']}, story: yes}\n"
    made = module("data").load(text.replace("scenarios:\n", more.replace("'one-more'", "'one-more-{tls}'"), 1))
    added = [each for each in made.scenarios if each.name.startswith("one-more")]
    assert [each.name for each in added] == ["one-more-1.2", "one-more-1.3"]
    assert (added[0].client["cert"], added[0].server["cert"], added[0].ports) == ("cell", "locket", [8891])
    with pytest.raises(ValueError, match="no such key: colour"):
        module("data").load(text.replace("scenarios:\n", "scenarios:\n  - {name: odd, row: 13, colour: red}\n", 1))


# The truth


@FOLDERS
def test_the_ends_agree_with_each_other(folder: Path) -> None:
    """Where both ends say what they saw, they saw the same; a certificate that a server saw is the one its client holds."""
    agreed = Counter[str]()
    by_name = {each.name: each for each in lab().scenarios}
    for each in truth(folder):
        name = each["scenario"]
        for what in ("version", "resumed"):
            said = {each[f"client_{what}"], each[f"server_{what}"]} - {"", "-"}
            if each["accepted"] == "yes" and each["tls"] and each["server_result"] == "ok" and len(said) == 1:
                agreed[what] += 1
            assert len(said) <= 1 or each["accepted"] == "no" or each["server_resumed"] == "-", (name, said)
        if each["server_saw"] not in {"", "-"}:
            holds = by_name[re.sub(r"[+:].*", "", name)].client["cert"]
            assert each["client_showed"] == holds, name
            agreed["certificate"] += 1
        if each["connection"] == "resumed":
            assert each["client_resumed"] == "yes", name
        if each["accepted"] == "yes":
            assert (each["client_result"], each["server_result"]) == ("ok", "ok"), name
    assert min(agreed[what] for what in ("version", "resumed", "certificate")) > 40


@FOLDERS
def test_refused_and_accepted_are_what_the_scenarios_are_called(folder: Path) -> None:
    for each in truth(folder):
        if each["case"] == "accepted" and each["captured"] == "whole":
            assert each["accepted"] == "yes", each["scenario"]
        if each["case"] == "refused" and each["rule"] != "port-sweep":
            assert each["accepted"] == "no" or each["established"] == "no", each["scenario"]


@FOLDERS
def test_recordings_are_small_and_hold_no_key(folder: Path) -> None:
    files = list(folder.glob("lab.*"))
    assert {each.name.split(".")[1] for each in files} >= {
        "bridge",
        "cell0",
        "cell1",
        "brain",
        "truth",
        "ca",
        "inventory",
    }
    assert max(each.stat().st_size for each in files) < 2_000_000
    assert sum(each.stat().st_size for each in files) < 10_000_000
    import zstandard

    for each in files:
        data = each.read_bytes()
        if each.suffix == ".zst":
            data = zstandard.ZstdDecompressor().decompress(data, max_output_size=1 << 28)
        assert b"PRIVATE KEY" not in data, each.name


# The audit against the truth


@FOLDERS
def test_the_audit_says_of_every_connection_what_its_ends_said(folder: Path) -> None:
    result = compared(folder)
    assert result.wrong == []
    assert result.connections == len(truth(folder)) > 130


def test_every_expectation_is_needed() -> None:
    """A rule of the expectations that no connection of the recording meets would go unnoticed when it is wrong."""
    expect, raw = module("expect"), lab().raw
    for kind in ("verdict", "findings"):
        for number, rule in enumerate(raw["expect"][kind]):
            less = copy.deepcopy(raw)
            del less["expect"][kind][number]
            try:
                same = expect.expect(truth(RECORDED), less) == expect.expect(truth(RECORDED), raw)
            except LookupError:
                same = False
            assert not same, rule


def test_the_check_finds_what_is_wrong() -> None:
    rows = copy.deepcopy(truth(SAMPLE))
    number = next(k for k, each in enumerate(rows) if each["scenario"] == "stranger-at-bbs")
    other = {**rows[number], "place": "undeclared-port"}
    wrong = compared(SAMPLE, rows=[*rows[:number], other, *rows[number + 1 :]]).wrong
    assert [line.split(" (")[0] for line in wrong] and all("stranger-at-bbs" in line for line in wrong)
    assert any("unknown-host must not fire" in line for line in wrong)
    assert any("undeclared-port is missing" in line for line in wrong)
    assert len(compared(SAMPLE, rows=rows[:-1]).wrong) == 1  # one connection more than the truth knows
    told = copy.deepcopy(report(SAMPLE))
    told["connections"].append(told["connections"][0])
    assert any("counted 2 times" in line for line in compared(SAMPLE, told).wrong)
    judged = next(each for each in told["connections"] if each["authentication"]["verdict"] == "inferred")
    judged["authentication"]["verdict"] = "verified"
    assert any("verdict verified, must be inferred" in line for line in compared(SAMPLE, told).wrong)


# The first thing that a newcomer sees


@cache
def shown() -> str:
    """What `make audit` prints."""
    recipe = re.search(r"^audit:.*\n\t@\$\(BIN\)/auditor (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    assert recipe
    command = [sys.executable, "-m", "auditor", *recipe[1].split(), "--no-color"]
    env = {**os.environ, "COLUMNS": "80", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, cwd=ROOT, env=env)
    assert done.returncode == 0, done.stderr
    return "\n".join(line.rstrip() for line in done.stdout.splitlines()) + "\n"


def excerpt(key: str) -> str:
    """``summary``, the name of a rule, or ``rows N-M`` of the coverage, as the report has it."""
    text = shown()
    if key == "summary":
        return text.split("\n\n")[0]
    if key.startswith("rows"):
        first, last = map(int, key.removeprefix("rows ").split("-"))
        table = text[text.index("Documented paths:") :].splitlines()
        begin = next(k for k, line in enumerate(table) if re.match(rf" *{first}  ", line))
        end = next((k for k, line in enumerate(table) if re.match(rf" *{last + 1}  ", line)), len(table))
        return "\n".join([*table[1:3], *table[begin:end]]).rstrip()
    lines = text.splitlines()
    begin = next(k for k, line in enumerate(lines) if re.match(rf"\S.* {key}: ", line))
    end = next(k for k in range(begin + 1, len(lines)) if not lines[k].startswith("   "))
    return "\n".join(lines[begin:end])


def test_the_readme_walks_through_what_make_audit_prints() -> None:
    text = README.read_text(encoding="utf-8")
    block = re.compile(r"<!-- make audit: (.+?) -->\n```text\n(.*?)```", re.S)
    assert len(block.findall(text)) >= 6
    wanted = block.sub(lambda found: f"<!-- make audit: {found[1]} -->\n```text\n{excerpt(found[1])}\n```", text)
    if os.environ.get("AUDITOR_GOLDEN") == "rewrite":
        README.write_text(wanted, encoding="utf-8")
    assert README.read_text(encoding="utf-8") == wanted


def test_the_first_report_tells_of_a_healthy_platform_with_a_dozen_faults() -> None:
    told = report(SAMPLE)
    summary = told["summary"]
    assert summary["sufficiency"]["complete"] and summary["inventory"] == "given"
    assert all(each["connections"] > 0 for each in told["coverage"] if each["row"])
    good = sum(summary["verdicts"].get(each, 0) for each in ("verified", "inferred", "inherited"))
    assert good > 80
    assert 12 <= len({each["rule"] for each in told["findings"] if each["severity"] != "info"}) <= 20


# Recording anew


def left(mark: str) -> list[str]:
    """Processes that name this folder."""
    found = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = each.read_bytes().decode(errors="replace").replace("\0", " ")
        except OSError:
            continue
        if mark in words:
            found.append(words)
    return found


def start(out: Path, scratch: Path, *more: str) -> subprocess.Popen[str]:
    scratch.mkdir()
    command = [sys.executable, str(LAB / "lab.py"), "record", "--only", "small", "--out", str(out), *more]
    env = {**os.environ, "TMPDIR": str(scratch), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env, start_new_session=True
    )


@pytest.fixture
def allowed() -> None:
    """Where namespaces are not allowed, the lab says so, and so does the test."""
    reason = module("lab").cannot()
    if reason:
        done = subprocess.run(
            [sys.executable, str(LAB / "lab.py"), "record"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 3
        assert reason in done.stdout
        pytest.skip(f"the lab is not recorded anew here: {reason}")
    if module("lab").missing("small"):
        pytest.skip(
            "the lab is not recorded anew here: its daemons are not installed (tests/system-packages installs them)"
        )


def nothing_left(folder: Path) -> None:
    until(lambda: not left(str(folder)), "nothing is left", says=lambda: str(left(str(folder))))


@pytest.mark.night
@pytest.mark.usefixtures("allowed")
def test_a_new_recording_is_judged_as_its_ends_say(tmp_path: Path) -> None:
    running = start(tmp_path / "out", tmp_path / "scratch")
    said, _ = running.communicate(timeout=300)
    assert running.returncode == 0, said
    rows = module("expect").read(tmp_path / "out" / "lab.truth.tsv")
    assert len(rows) > 60
    assert compared(tmp_path / "out", module("check").audit(tmp_path / "out", "lab"), rows).wrong == []
    assert list((tmp_path / "scratch").iterdir()) == []
    nothing_left(tmp_path)


@pytest.mark.night
@pytest.mark.usefixtures("allowed")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=lambda how: how.name)
def test_a_recording_that_is_stopped_leaves_nothing(tmp_path: Path, how: signal.Signals) -> None:
    before = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    running = start(tmp_path / "out", tmp_path / "scratch")
    try:
        until(
            lambda: any("nats-server" in each or "mariadbd" in each for each in left(str(tmp_path / "scratch"))),
            "the daemons",
            running,
        )
        os.kill(running.pid, how)
        running.wait(60)
        assert running.returncode == {signal.SIGINT: 130, signal.SIGKILL: -9}[how]
        nothing_left(tmp_path / "scratch")
        if how is not signal.SIGKILL:
            assert list((tmp_path / "scratch").iterdir()) == []
    finally:
        running.kill()
        running.communicate()
    assert not (tmp_path / "out").exists()
    names = {line.split(": ")[1] for line in before.splitlines()}
    after = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    assert {
        name for name in (line.split(": ")[1] for line in after.splitlines()) if name.startswith(("br0", "port"))
    } <= names


def test_where_it_cannot_record_it_says_why(tmp_path: Path) -> None:
    """As an ordinary user, or as root without the right to make namespaces."""
    command = [sys.executable, str(LAB / "lab.py"), "record", "--out", str(tmp_path)]
    reason = "recording needs root"
    if os.geteuid() == 0:
        command = ["setpriv", "--bounding-set=-sys_admin", *command]
        reason = "this machine allows no network namespaces here"
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 3, done.stderr
    assert done.stdout.startswith(f"The lab cannot be recorded here: {reason}")
    assert "make lab-check" in done.stdout
    assert list(tmp_path.iterdir()) == []
