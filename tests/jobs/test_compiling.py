"""The first run of a small capture compiles nothing; who comes back finds machine code; several at once compile once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from auditor.cli import main
from auditor.jobs import compiling
from auditor.kernels import _folder
from tests.conftest import ROOT

SMALL = ROOT / "captures" / "sample" / "healthy.pcap"
RECORDING = """
import os, sys
from auditor.kernels import _compile
real = _compile.compile_entry
def compile_entry(compiled, given, symbol):
    with open(os.environ["RECORD"], "a") as file:
        file.write(symbol + "\\n")
    return real(compiled, given, symbol)
_compile.compile_entry = compile_entry
from auditor.cli import main
sys.exit(main(sys.argv[1:]))
"""


def begin(cache: Path, *args: str, code: str | None = None, **more: str) -> subprocess.Popen[str]:
    command = [sys.executable, *(["-c", code] if code else ["-m", "auditor"]), *args]
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": str(ROOT), **more}
    return subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )


def test_a_first_run_of_few_packets_compiles_nothing_and_says_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where nothing can be kept, either: that was a minute on every run."""
    assert main(["connections", str(SMALL), "--format", "csv"]) == 0
    told = [capsys.readouterr().out]
    (tmp_path / "file").write_text("")
    for cache in (tmp_path / "empty", tmp_path / "file" / "none"):
        out, error = (run := begin(cache, "connections", str(SMALL), "--format", "csv")).communicate(timeout=300)
        assert (run.returncode, error) == (0, ""), error
        told.append(out)
    assert told[0] == told[1] == told[2] != ""
    [folder] = (tmp_path / "empty").iterdir()
    assert [each.name for each in folder.iterdir()] == [compiling.MARK]


def test_who_comes_back_has_it_compiled_in_the_background(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    started: list[list[str]] = []
    monkeypatch.setattr("auditor.jobs.compiling.subprocess.Popen", lambda command, **_: started.append(command))
    assert [compiling.compile_later() for _ in range(2)] == [False, True]
    assert len(started) == 1


def test_where_nothing_can_be_kept_nothing_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file" / "none"))
    monkeypatch.setattr("auditor.jobs.compiling.subprocess.Popen", lambda *_, **__: pytest.fail("started"))
    assert not any(compiling.compile_later() for _ in range(3))
    assert list(compiling.compile_now([])) == ["no folder can be written to; NUMBA_CACHE_DIR names another"]


def test_only_one_compiles_in_the_background(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    folder = _folder.writing_folder()
    with _folder.alone(folder, "all") as mine:
        assert mine
        assert list(compiling.compile_now([], wait=False)) == []
    with _folder.alone(folder, "all", wait=False) as mine:
        assert mine, "free again"


@pytest.mark.night
def test_four_first_runs_at_once_compile_each_kernel_once(tmp_path: Path) -> None:
    record = tmp_path / "record"
    runs = [
        begin(tmp_path / "cache", "connections", str(SMALL), code=RECORDING, RECORD=str(record), AUDITOR_COMPILE="now")
        for _ in range(4)
    ]
    said = [run.communicate(timeout=1_800) for run in runs]
    assert [run.returncode for run in runs] == [0] * 4, said
    assert len({out for out, _ in said}) == 1
    compiled = Counter(record.read_text().split())
    assert len(compiled) > 10
    assert set(compiled.values()) == {1}


@pytest.mark.night
def test_an_image_compiled_by_doctor_compiles_nothing_later(tmp_path: Path) -> None:
    record = tmp_path / "record"
    record.write_text("")
    made = begin(tmp_path / "cache", "doctor", "--compile")
    out, error = made.communicate(timeout=1_800)
    assert (made.returncode, error) == (0, ""), error
    assert "kernels in" in out
    run = begin(
        tmp_path / "cache", "audit", "sample:lab", "--fail-on", "never", "--allow-incomplete", code=RECORDING,
        RECORD=str(record), AUDITOR_COMPILE="now",
    )  # fmt: skip
    run.communicate(timeout=600)
    assert run.returncode == 0
    assert record.read_text() == ""
