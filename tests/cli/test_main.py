"""What every command has in common: one line for each mistake, the exit statuses of the contract, a quick start."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from auditor.cli import COMMANDS, _internal, main
from auditor.errors import ConfigError, InputError
from tests.report import make

PYTHON = [sys.executable, "-m", "auditor"]


def one_line(capsys) -> str:
    """The only line on standard error."""
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert "Traceback" not in said.err
    assert said.err.startswith("auditor: ")
    return said.err[len("auditor: ") : -1]


# -- exit statuses ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("clean", "complete", "options", "status"),
    [
        (True, True, [], 0),
        (True, True, ["--fail-on", "info"], 0),
        (False, True, [], 1),
        (False, True, ["--fail-on", "critical"], 1),
        (False, True, ["--fail-on", "never"], 0),
        (True, False, [], 3),
        (True, False, ["--allow-incomplete"], 0),
        (False, False, [], 1),  # findings win over incompleteness
        (False, False, ["--allow-incomplete"], 1),
        (False, False, ["--fail-on", "never"], 3),
        (False, False, ["--fail-on", "never", "--allow-incomplete"], 0),
    ],
)
def test_exit_status(clean, complete, options, status, given, capsys):
    given(make.audit(clean=clean, complete=complete))
    assert main(["audit", "x.pcap", *options]) == status
    assert capsys.readouterr().out.startswith("CLEAN" if clean else "NOT CLEAN")


@pytest.mark.parametrize(("most", "status"), [("5", 0), ("4.79", 3), ("4.8", 0), ("100", 0), ("0", 3)])
def test_exit_status_by_what_is_undecided(most, status, given):
    audit = make.audit(clean=True, complete=True)
    audit.summary["sufficiency"]["undecided_percent"] = 4.8
    given(audit)
    assert main(["audit", "x.pcap", "--max-undecided", most, "--quiet"]) == status


def test_a_waived_finding_fails_nothing(given):
    audit = make.audit(complete=True)
    keep = audit.findings["rule"] == "authentication-rejected"
    given(
        type(audit)(audit.info, audit.summary, audit.captures, audit.connections, audit.findings[keep], audit.coverage)
    )
    assert main(["audit", "x.pcap", "--quiet"]) == 0


# -- mistakes --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["frobnicate"], "frobnicate"),
        (["audit"], "CAPTURE"),
        (["audit", "x.pcap", "--frobnicate"], "--frobnicate"),
        (["audit", "missing.pcap"], "missing.pcap: no such file"),
        (["audit", "x.pcap", "--format", "docx"], "--format: unknown value 'docx' (one of table, json"),
        (["audit", "x.pcap", "--table", "weird"], "--table: unknown value 'weird'"),
        (["audit", "x.pcap", "--format", "parquet"], "add --output DIR"),
        (["audit", "x.pcap", "--fail-on", "severe"], "--fail-on: unknown value 'severe'"),
        (["audit", "x.pcap", "--scope", "world"], "--scope"),
        (["audit", "x.pcap", "--progress", "always"], "--progress"),
        (["audit", "x.pcap", "--max-undecided", "nan"], "nan is not a percentage"),
        (["audit", "x.pcap", "--max-undecided", "101"], "101 is not a percentage"),
        (["audit", "x.pcap", "--max-undecided", "few"], "--max-undecided"),
        (["audit", "x.pcap", "--linktype", "-1"], "--linktype"),
        (["audit", "x.pcap", "--linktype", "ethernet"], "--linktype"),
        (["audit", "x.pcap", "--policy", "no-such-policy"], "no-such-policy"),
        (["audit", "x.pcap", "--inventory", "no-such-inventory.yml"], "no-such-inventory.yml"),
        (
            ["audit", "sample:nonesuch"],
            "sample:nonesuch: no such sample; samples: diego, healthy, intruder, lab",
        ),
        (["audit", "sample:lba"], "sample:lba: no such sample; did you mean lab?"),
        (["slice", "--verify", "nowhere.zip"], "nowhere.zip: no such file"),
        (["audit", "sample:"], "sample:: no such sample"),
        (["audit", "x.pcap", "--output", "/nonexistent/report.txt"], "/nonexistent/report.txt: cannot be written"),
        (["connections", "x.pcap", "--fields", "sni"], "unknown column 'sni'"),
        (["connections", "x.pcap", "--ip", "10.0.0.300"], "10.0.0.300"),
        (["connections", "x.pcap", "--to-port", "99999"], "99999"),
        (["connections", "x.pcap", "--to-port", "20-10"], "20-10"),
        (["connections", "x.pcap", "--disposition", "weird"], "--disposition"),
        (["connections", "x.pcap", "--not"], "--not"),
    ],
)
def test_a_mistake_is_one_line_and_2(argv, says, given, capsys):
    given(make.audit())
    assert main(argv) == 2
    assert says in one_line(capsys)


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (InputError("a\x1b[31m.pcap", "is empty"), 2, r"a\x1b[31m.pcap: is empty"),
        (ConfigError("policy.yml", "bad port", line=7, hint="1 to 65535"), 2, "policy.yml:7: bad port (1 to 65535)"),
        (PermissionError(13, "Permission denied", "secret.pcap"), 2, "secret.pcap: Permission denied"),
        (OSError(28, "No space left on device"), 2, "No space left on device"),
        (MemoryError(), 2, "out of memory"),
        (KeyError("surprise\nof two lines"), 2, "internal error: KeyError in "),
        (RecursionError("deep"), 2, "please report"),
    ],
)
def test_whatever_goes_wrong_is_one_line(error, status, says, given, capsys):
    given(error)
    assert main(["audit", "x.pcap"]) == status
    line = one_line(capsys)
    assert says in line
    assert "surprise" not in line  # the text of an unexpected error may quote the wire


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [(KeyboardInterrupt(), 130, "auditor: interrupted\n"), (BrokenPipeError(), 141, "")],
)
def test_who_stops_us_hears_no_more_than_that(error, status, says, given, capsys):
    given(error)
    assert main(["audit", "x.pcap"]) == status
    assert capsys.readouterr().err == says


def test_ctrl_c_while_modules_are_imported_is_a_line():
    # The signal comes just when the command line's first module is looked for.
    script = (
        "import os, signal, sys\n"
        "class Pressed:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'auditor.cli':\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Pressed())\n"
        "from auditor.__main__ import start\n"
        "start()\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, "doctor"], capture_output=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, b"", b"auditor: interrupted\n")


def test_an_internal_error_names_the_place():
    try:
        make.audit(inventory=1 / 0)
    except ZeroDivisionError as error:
        assert _internal(error).startswith("internal error: ZeroDivisionError; please report it")


# -- a quick start ---------------------------------------------------------------------------------------------------------------


def test_help_imports_nothing_heavy():
    script = (
        "import sys; from auditor.cli import main; main(['--help']);"
        "print(sorted({m.split('.')[0] for m in sys.modules}"
        " & {'numba','numpy','pandas','pyarrow','scapy','pydantic','rich','cryptography','yaml','msgspec'}), file=sys.stderr)"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stderr.strip() == "[]"
    for name in COMMANDS:
        assert f"  {name} " in run.stdout


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("auditor ")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_help(name, capsys):
    assert find_spec(f"auditor.cli.{name}"), f"there is no module for {name}"
    assert main([name, "--help"]) == 0
    assert "Usage: auditor " + name in capsys.readouterr().out


# -- the end of the process ------------------------------------------------------------------------------------------------------

ENDING = (
    "import atexit, sys, threading, time\n"
    "from auditor.cli import start\n"
    "atexit.register(print, 'the end')\n"
    "class Torn:\n"
    "    def __del__(self): print('taken apart')\n"
    "kept = Torn()\n"
)


@pytest.mark.parametrize(("arguments", "status"), [(["--version"], 0), (["nothing"], 2)])
def test_what_is_registered_for_the_end_happens_and_nothing_is_taken_apart(arguments, status):
    run = subprocess.run(
        [sys.executable, "-c", f"{ENDING}start()", *arguments], capture_output=True, text=True, check=False
    )
    assert run.returncode == status
    assert run.stdout.splitlines()[-1] == "the end"


def test_a_thread_that_is_at_work_is_waited_for():
    work = "threading.Thread(target=lambda: (time.sleep(0.3), print('done'))).start()\n"
    run = subprocess.run(
        [sys.executable, "-c", f"{ENDING}{work}start()", "--version"], capture_output=True, text=True, check=True
    )
    assert run.stdout.splitlines()[1:] == ["done", "the end", "taken apart"]


def test_a_profiler_gets_its_figures():
    run = subprocess.run(
        [sys.executable, "-m", "cProfile", "-m", "auditor", "--version"], capture_output=True, text=True, check=True
    )
    assert "function calls" in run.stdout


# -- pipes and signals -----------------------------------------------------------------------------------------------------------


def test_a_closed_pipe_ends_quietly():
    reader, writer = os.pipe()
    os.close(reader)
    run = subprocess.run([*PYTHON, "explain"], stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (run.returncode, run.stderr) == (141, b"")


def test_a_closed_standard_output_is_told():
    run = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m auditor audit sample:healthy >&-"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 2
    assert run.stderr == "auditor: standard output: is closed (name a file with --output)\n"


def test_a_full_disk_is_told():
    with Path("/dev/full").open("wb") as full:
        run = subprocess.run([*PYTHON, "doctor"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert run.returncode == 2
    assert run.stderr.startswith("auditor: ")
    assert run.stderr.endswith("No space left on device\n")
    assert run.stderr.count("\n") == 1


def test_a_full_disk_is_told_of_a_report(given, capsys):
    given(make.large(2_000))
    assert main(["audit", "x.pcap", "--format", "json", "--output", "/dev/full"]) == 2
    assert one_line(capsys) == "/dev/full: cannot be written: No space left on device"


def test_ctrl_c_while_waiting_for_packets(tmp_path):
    fifo = tmp_path / "live.pcap"
    os.mkfifo(fifo)
    run = subprocess.Popen([*PYTHON, "audit", str(fifo)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    feed = _opened_by_its_reader(fifo, run)
    os.write(feed, b"\xd4\xc3\xb2\xa1\x02\x00\x04\x00" + bytes(8) + b"\xff\xff\x00\x00\x01\x00\x00\x00")
    time.sleep(0.3)
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=60)
    os.close(feed)
    assert (run.returncode, out, err) == (130, b"", b"auditor: interrupted\n")


def _opened_by_its_reader(fifo, run) -> int:
    """The end to write into, once the other end is open; fails instead of waiting where the reader has gone."""
    for _ in range(600):
        try:
            return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            assert run.poll() is None, run.communicate()
            time.sleep(0.1)
    raise AssertionError("nobody reads")


def test_progress_is_for_terminals_only(given, capsys, monkeypatch):
    given(make.audit(clean=True, complete=True))
    main(["audit", "x.pcap"])
    assert capsys.readouterr().err == ""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        assert main(["audit", "x.pcap"]) == 0
        assert main(["audit", "x.pcap", "--progress", "never"]) == 0
        assert main(["audit", "x.pcap", "--quiet"]) == 0
    drawn = os.read(ours, 65_536).decode()
    os.close(ours)
    assert "50% 48.8 KiB of 97.7 KiB, 1,000 packets" in drawn
    assert drawn.endswith("\r\x1b[K")
    assert drawn.count("1,000 packets,") == 1
    assert "1,000 packets read, judging 7 connections" in drawn


def test_progress_is_told_to_the_end(given, monkeypatch, tmp_path):
    given(make.audit(clean=True, complete=True))
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        assert main(["audit", "x.pcap", "--format", "json", "--output", str(tmp_path / "report.json")]) == 0
    drawn = os.read(ours, 65_536).decode()
    os.close(ours)
    assert "read and judged, writing " in drawn
    assert drawn.endswith("\r\x1b[K")
