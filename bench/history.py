"""A year of hourly audits of fifty VMs in a store: how large it gets, and how fast it answers.

    python bench/history.py FOLDER [--audits 8760] [--connections 2000]

Each audit has the shape that fifty Diego VMs give in an hour: two thirds of the connections are streams that live for days and are in every audit, the rest are new; a dozen
findings continue, now and then one comes and one goes. They are made from an audit of the sample ``diego`` by changing what differs from hour to hour, and kept by the
code that keeps every audit. Then ``auditor history diff`` is timed as a whole process, the first audit against the last and the last two. A store that is
there already is measured again.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa

import auditor
from auditor.jobs import keep
from auditor.report._json import encode
from auditor.report.parquet import arrow_table
from auditor.store.history import Fact, Kept, open_history

HOUR = 3_600 * 1_000_000_000
VMS = 50
TIMES = 5


def _names(rng: np.random.Generator, count: int) -> list[str]:
    return [rng.bytes(10).hex() for _ in range(count)]


class Year:
    """Hours, one after the other."""

    def __init__(self, connections: int) -> None:
        report = auditor.audit("sample:diego")
        self.base = keep.marked(report.audit, ())
        rng = self.rng = np.random.default_rng(1)
        frame = self.base.connections
        documented = np.flatnonzero(frame["disposition"].astype(str) == "documented")
        self.lasting = connections * 2 // 3
        self.count = connections
        self.rows = np.concatenate([rng.choice(documented, connections - 40), rng.choice(len(frame), 40)])
        self.ids = _names(rng, connections)
        self.community = ["1:" + hashlib.sha1(name.encode()).hexdigest()[:28] for name in self.ids]  # noqa: S324  # as long as one, no more
        self.begun = np.full(connections, 0, np.int64)
        hosts = np.array([f"10.0.{4 + k // 250}.{10 + k % 250}" for k in range(VMS)], object)
        self.ports = rng.integers(32_768, 60_999, connections)
        taken = frame.iloc[self.rows].reset_index(drop=True)
        for which in ("originator", "responder"):
            taken[f"{which}_ip"] = pd.Categorical(hosts[rng.integers(0, VMS, connections)])
        captures = self.base.captures.iloc[[0] * VMS].reset_index(drop=True).copy()
        captures["capture"] = np.arange(VMS)
        whole = replace(self.base, connections=taken, captures=captures)
        self.tables = {
            name: arrow_table(whole, name, [column for column in columns if column.name in getattr(whole, name)])
            for name, columns in keep.COLUMNS.items()
        }
        self.body = {
            name: msgspec.json.decode(encode(value))
            for name, value in (("audit", whole.info), ("summary", whole.summary))
        }

    def kept(self, hour: int, start_ns: int) -> Kept:
        """The audit of one hour, as the store takes it."""
        rng = self.rng
        renewed = np.concatenate(
            [np.arange(self.lasting, self.count), rng.choice(self.lasting, self.lasting // 72, replace=False)]
        )
        fresh = rng.bytes(25 * renewed.size).hex()
        for at, k in enumerate(renewed.tolist()):
            self.ids[k] = fresh[50 * at : 50 * at + 20]
            self.community[k] = "1:" + fresh[50 * at + 20 : 50 * at + 48]
        self.begun[renewed] = start_ns + rng.integers(0, HOUR, renewed.size)
        self.ports[renewed] = rng.integers(32_768, 60_999, renewed.size)
        own: dict[str, Any] = {
            "id": self.ids,
            "community_id": self.community,
            "start": np.where(self.begun == 0, start_ns, self.begun),
            "duration": rng.random(self.count) * 3_600,
            "originator_port": self.ports,
            "payload_bytes": rng.integers(0, 40_000_000, self.count),
            "first_frame": rng.integers(1, 10_000_000, self.count),
        }
        for which in ("originator", "responder"):
            own[f"{which}_packets"] = rng.integers(2, 40_000, self.count)
            own[f"{which}_bytes"] = rng.integers(100, 40_000_000, self.count)
        shown = [*range(12), *([12 + hour // 24 % 20] if hour % 24 < 12 else [])]
        findings = self.tables["findings"].take(shown)
        seen = {"first_seen": [start_ns] * len(shown), "last_seen": [start_ns + HOUR - 1] * len(shown)}
        captures = {
            "path": [f"/var/spool/captures/vm-{k}/{hour:05d}.pcap" for k in range(VMS)],
            "sha256": [rng.bytes(32).hex() for _ in range(VMS)],
            "first_packet": [start_ns] * VMS,
            "last_packet": [start_ns + HOUR - 1] * VMS,
        }
        facts = [
            Fact(
                row["fingerprint"],
                row["rule"],
                row["severity"],
                row["path"],
                row["title"],
                start_ns,
                start_ns + HOUR - 1,
            )
            for row in findings.select(["fingerprint", "rule", "severity", "path", "title"]).to_pylist()
        ]
        tables = {
            "connections": changed(self.tables["connections"], own),
            "findings": changed(findings, seen),
            "coverage": self.tables["coverage"],
            "captures": changed(self.tables["captures"], captures),
        }
        counts = {
            "captures": VMS,
            "packets": 10_000_000,
            "connections": self.count,
            "findings": len(shown),
            "complete": 1,
        }
        ends = start_ns + HOUR
        return Kept(rng.bytes(8).hex(), "run", ends, ends, start_ns, ends - 1, counts, self.body, tables, facts)


def changed(table: pa.Table, columns: dict[str, Any]) -> pa.Table:
    """The table with these columns in place of its own."""
    for name, values in columns.items():
        at = table.schema.get_field_index(name)
        kind = table.schema.field(at).type
        array = pa.array(values)
        made = array.cast(pa.int64()).cast(kind) if pa.types.is_timestamp(kind) else array.cast(kind)
        table = table.set_column(at, table.schema.field(at), made)
    return table


def make(store: Path, audits: int, connections: int) -> None:
    """Keep so many hours, one after the other, as passes do."""
    year = Year(connections)
    begin_ns = 1_764_000_000 * 1_000_000_000
    began, cpu = time.perf_counter(), time.process_time()
    with open_history(store, write=True) as history:
        for hour in range(audits):
            history.keep(year.kept(hour, begin_ns + hour * HOUR), gone_after_ns=keep.GONE_AFTER_NS)
            history.tidy(begin_ns + hour * HOUR)
            if hour % 500 == 0:
                print(f"{hour} audits, {time.perf_counter() - began:.0f} s", flush=True)
        history.tidy(begin_ns + (audits + 1) * HOUR)
    made, cpu = time.perf_counter() - began, time.process_time() - cpu
    print(
        f"{audits} audits of {VMS} VMs kept in {made:.0f} s, {1000 * cpu / audits:.0f} ms of CPU each, making them included"
    )


def measure(store: Path) -> None:
    """Its rows and size, and how long questions take as whole processes."""
    with open_history(store) as history:
        rows = history.sql.execute("SELECT of, sum(rows), sum(bytes), count(*) FROM pieces GROUP BY of").fetchall()
        size = history.size()
    for name, count, volume, pieces in rows:
        print(f"  {name}: {count:,} rows, {volume / 1e6:,.1f} MB, {pieces} pieces")
    print(f"store: {size / 1e9:.2f} GB")
    for what in (
        ["diff", "1", "latest"],
        ["diff"],
        ["list", "--last", "24"],
        ["query", "SELECT count(*), sum(originator_bytes) FROM connections"],
    ):
        took, before = [], resource.getrusage(resource.RUSAGE_CHILDREN)
        for _ in range(TIMES):
            start = time.perf_counter()
            command = [sys.executable, "-m", "auditor", "history", *what, "--store", str(store)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            took.append(time.perf_counter() - start)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / len(took)
        load = os.getloadavg()[0]
        print(
            f"auditor history {' '.join(what)}: {min(took):.2f} to {max(took):.2f} s of {TIMES}, {cpu:.2f} s of CPU (load {load:.1f} on {os.cpu_count()} cores)"
        )


def main() -> int:
    """Make it where it is not there yet, measure it, say what was measured."""
    words = argparse.ArgumentParser()
    words.add_argument("folder", type=Path)
    words.add_argument("--audits", type=int, default=8_760)
    words.add_argument("--connections", type=int, default=2_000)
    given = words.parse_args()
    store = given.folder / "store"
    if not store.is_dir():
        make(store, given.audits, given.connections)
    measure(store)
    return 0


if __name__ == "__main__":
    sys.exit(main())
