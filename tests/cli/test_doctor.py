"""``auditor doctor`` tells what is there and what is not, and never fails."""

from __future__ import annotations

import os

from auditor.cli import _machine, main
from auditor.kernels import _folder


def test_doctor_on_this_machine(capsys):
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    for what in (
        "python",
        "processors",
        "compiled kernels",
        "compressions",
        "tshark",
        "dumpcap",
        "tcpdump",
        "capture rights",
    ):
        assert what in said


def test_doctor_where_nothing_is_there(capsys, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(_machine, "has_module", lambda name: False)
    monkeypatch.setattr("auditor.capture.live.capture_tools", list)
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "!!  libraries" in said
    assert "--  tshark            missing" in said
    assert "--  cluster           no dask" in said
    assert "--  scapy             missing: auditor live then needs dumpcap or tcpdump" in said
    assert "--  capture rights    none: sudo auditor live" in said
    assert "--  captures on VMs   neither ssh nor bosh" in said
    assert "such captures cannot be read" in said


def test_a_cache_is_warm_when_it_has_code_of_these_very_sources(monkeypatch, tmp_path):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    assert _machine.kernel_cache() == _machine.KernelCache(tmp_path, False)
    mine, there = _folder.known_folder()
    assert not there
    names = [each.stem for each in _machine.KERNELS.glob("*.py") if "@kernel" in each.read_text()]
    for folder in (tmp_path / ("0" * 16), mine):
        assert not _machine.kernel_cache().warm
        folder.mkdir()
        for name in names:
            (folder / f"{name}.walk-0123456789abcdef.o").write_text("")
    assert _machine.kernel_cache().warm
    # Older than the sources, as after a checkout that changed nothing in them: it is their content that counts.
    for each in mine.iterdir():
        os.utime(each, (1, 1))
    assert _machine.kernel_cache().warm


def test_a_cache_that_cannot_be_written_is_told(monkeypatch, tmp_path, capsys):
    """Else each run compiles, and says that it is the first."""
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file" / "cache"))
    cache = _machine.kernel_cache()
    assert cache == _machine.KernelCache(tmp_path / "file" / "cache", warm=False, keeps=False)
    assert "on every run" in (cache.notice or "")
    main(["doctor"])
    assert (
        f"on every run, because this folder is not writable; set NUMBA_CACHE_DIR ({cache.folder})"
        in capsys.readouterr().out
    )


def test_an_audit_leaves_the_cache_warm(monkeypatch):
    """What the second audit still has to compile would be told to its user as a first run."""
    monkeypatch.setenv("AUDITOR_COMPILE", "now")
    assert main(["audit", "sample:healthy", "--quiet", "--format", "ndjson", "--output", os.devnull]) in (0, 1)
    assert _machine.kernel_cache().warm


def test_a_tool_that_does_not_start(monkeypatch, tmp_path):
    broken = tmp_path / "tshark"
    broken.write_text("#!/nonexistent/interpreter\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert _machine.tool("tshark")[1].startswith("does not start")
    assert _machine.tool("dumpcap") is None
