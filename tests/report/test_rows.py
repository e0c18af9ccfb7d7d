"""CSV without DataFrames has the bytes of CSV with them."""

import io
import sys
from dataclasses import replace
from pathlib import Path
from subprocess import run
from typing import Any

import pytest

from auditor import api
from auditor.cli import _filters, main
from auditor.errors import AuditorError
from tests.conftest import ROOT

CAPTURES = sorted(
    path for path in (ROOT / "captures").rglob("*") if path.is_file() and path.suffix in (".pcap", ".pcapng", ".gz")
)


def both(sources: Any, fields: tuple[str, ...] = ()) -> tuple[bytes, bytes]:
    with_frames, without = io.BytesIO(), io.BytesIO()
    report = api.connections(sources, evidence=False)
    api.Report(_filters.apply(report.audit, _filters.Filter(), fields)).write("csv", with_frames, table="connections")
    bare = api.bare_connections(sources)
    bare.write_csv(without, fields)
    assert bare.incomplete() == report.incomplete(100.0)
    assert len(bare) == len(report.connections)
    return with_frames.getvalue(), without.getvalue()


@pytest.mark.parametrize("name", ["diego", "healthy"])
def test_samples(name: str) -> None:
    with_frames, without = both(f"sample:{name}")
    assert with_frames == without
    assert without.count(b"\n") > 10


def test_captures_of_every_kind() -> None:
    seen = 0
    for path in CAPTURES[:: max(len(CAPTURES) // 60, 1)]:
        try:
            with_frames, without = both(path)
        except AuditorError:
            continue
        assert with_frames == without, path
        seen += 1
    assert seen > 10


def test_public_captures(public_captures: Path) -> None:
    files = sorted(each for each in public_captures.rglob("*") if each.suffix in (".pcap", ".pcapng", ".cap"))
    told = b""
    for path in files[:: max(len(files) // 60, 1)]:
        try:
            with_frames, without = both(path)
        except AuditorError:
            continue
        assert with_frames == without, path
        told += without
    assert told.count(b"\n") > 100


def test_many_captures_and_chosen_columns(tmp_path: Path) -> None:
    odd = tmp_path / '=1+1,"quoted".pcap'
    odd.write_bytes((ROOT / "captures" / "sample" / "healthy.pcap").read_bytes())
    with_frames, without = both([str(odd), "sample:diego"])
    assert with_frames == without
    assert b'""quoted' in without.replace(b"\\", b"")
    fields = ("duration", "vantages", "tunnel", "responder_ip", "start", "history", "id")
    with_frames, without = both([str(odd), "sample:diego"], fields)
    assert with_frames == without
    assert without.startswith(b'"duration","vantages","tunnel"')


@pytest.mark.parametrize("ns", [-5 * 10**9, 2_000_000 * 10**9 + 123_456_789, 10**18 + 7])
def test_durations_beyond_what_digits_can_tell(ns: int) -> None:
    from auditor import pipeline  # the table is made odd by hand
    from auditor.report import _rows

    found = pipeline.bare(["captures/sample/diego.pcapng"], options={"evidence": False})
    last = found.table.last_ns.copy()
    last[3] = found.table.first_ns[3] + ns
    out = io.BytesIO()
    _rows.write_csv(replace(found.table, last_ns=last), found.texts(), found.vantages(), [6], ("duration",), out)
    told = out.getvalue().decode().splitlines()
    assert float(told[4]) == ns / 1e9


@pytest.mark.parametrize(("sample", "spared"), [("sample:diego", ""), ("sample:healthy", "numpy.ma")])
def test_the_command_imports_neither_pandas_nor_the_compiler(sample: str, spared: str) -> None:
    code = (
        "import sys\n"
        "from auditor.cli import main\n"
        f"main(['connections', '{sample}', '--format', 'csv'])\n"
        f"main(['connections', '{sample}', '--format', 'csv'])\n"
        "heavy = {'numba', 'pandas', 'pyarrow', 'scapy', 'cryptography', 'pydantic', 'yaml', 'msgspec', 'jinja2', 'rich'}\n"
        f"heavy |= {{'llvmlite', '{spared}'}}\n"
        "heavy |= {each for each in sys.modules if each.startswith(('auditor.rules', 'auditor.policy.loader'))}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    for _ in range(2):  # the first may compile
        done = run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[]"


def test_a_filter_or_a_judged_column_still_works(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    assert (
        main(["connections", "sample:diego", "--format", "csv", "--to-port", "8889", "--fields", "responder_port"]) == 0
    )
    lines = capsysbinary.readouterr().out.split()
    assert lines[0] == b'"responder_port"'
    assert set(lines[1:]) == {b"8889"}
