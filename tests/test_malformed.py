"""Truncated, corrupt and fuzzed captures of other projects, through `auditor audit` and every format there is.

One process audits them all, so that what it takes of memory is known: a capture of a few KiB must not ask for more than any other.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from auditor.api import format_names
from tests.conftest import ROOT, by_day

pytestmark = pytest.mark.slow

MEMORY_MIB = 1536
"""Of the one process; an audit of the sample needs about 250."""
HANGS_AFTER_S = 1_200

AUDIT_ALL = """
import contextlib, io, json, resource, sys
from pathlib import Path
from auditor import api
from auditor.cli import main
from auditor.errors import AuditorError

formats, out = sys.argv[1].split(","), Path(sys.argv[2])
for line in sys.stdin:
    file = line.rstrip("\\n")
    said, written, report = io.StringIO(), [], None
    try:
        report = api.audit(file, scope="all")
    except AuditorError:
        pass
    status = 2 if report is None else report.exit_status("never")
    if report is None or report.audit.captures["problems"].astype(bool).any():
        # Through the command, too, what there is to say of it.
        with contextlib.redirect_stderr(said):
            told = main(["audit", file, "--scope", "all", "--fail-on", "never", "--output", str(out / "report.txt"), "--quiet"])
        assert told == status, file
    if report is not None:
        for name in formats:
            report.write(name, out / f"report.{name}")
            written.append(name)
    print(json.dumps([file, status, said.getvalue(), written, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024]), flush=True)
"""


def test_every_malformed_capture_passes_in_every_format(public_captures: Path, tmp_path: Path) -> None:
    """Some of them by day. test_public.py audits all, in no format."""
    files = sorted(each for each in (public_captures / "malformed").rglob("*") if each.is_file())
    assert len(files) >= 150
    files = list(by_day(files, 7))
    ran = subprocess.run(
        [sys.executable, "-c", AUDIT_ALL, ",".join(format_names()), str(tmp_path)],
        input="".join(f"{file}\n" for file in files),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=HANGS_AFTER_S,
    )
    assert ran.returncode == 0, ran.stderr[-2_000:]
    rows = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [file for file, *_ in rows] == [str(file) for file in files]
    for file, status, said, written, _ in rows:
        assert status in (0, 2, 3), (file, status, said)
        assert "internal error" not in said, (file, said)
        assert said.count("\n") == (status == 2), (file, said)
        assert written == ([] if status == 2 else list(format_names())), file
    assert max(row[4] for row in rows) < MEMORY_MIB
    # What holds no packet is refused; everything else is audited.
    refused = [file for file, status, *_ in rows if status == 2]
    print(f"{len(rows) - len(refused)} audited, {len(refused)} refused, {max(row[4] for row in rows)} MiB at most")
    assert len(refused) <= 12, refused
