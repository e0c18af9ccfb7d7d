"""``auditor live`` as its users start it: in network namespaces, between real programs, with real signals."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.netns import PATIENCE_S, Net, until

SAMPLES = ROOT / "captures" / "sample"
INVENTORY = str(SAMPLES / "diego.inventory.yml")
PYTHON = sys.executable


class Live:
    """A running ``auditor live`` on host ``a``."""

    def __init__(self, net: Net, tmp_path: Path, *arguments: str, side: str = "a", **environment: str) -> None:
        self.out_path, self.err_path = tmp_path / "out", tmp_path / "err"
        given = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
        with self.out_path.open("wb") as out, self.err_path.open("wb") as err:
            words = (PYTHON, "-m", "auditor", "live", *arguments)
            self.process = net.start(side, *words, stdout=out, stderr=err, stdin=subprocess.DEVNULL, env=given)

    @property
    def err(self) -> str:
        return self.err_path.read_text()

    @property
    def records(self) -> list[dict[str, Any]]:
        """The whole lines of standard output."""
        return [json.loads(line) for line in self.out_path.read_bytes().split(b"\n")[:-1]]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [{k: v for k, v in each.items() if k != "kind"} for each in self.records if each["kind"] == kind]

    def capturing(self, count: int = 1) -> Live:
        until(lambda: len(re.findall("capturing", self.err)) >= count, "capturing", self.process, lambda: self.err)
        return self

    def told(self, rule: str) -> Live:
        until(lambda: any(each["rule"] == rule for each in self.of("finding")), rule, self.process, lambda: self.err)
        return self

    def stop(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)


def offline(*captures: Path, inventory: str = INVENTORY) -> dict[str, Any]:
    """What ``auditor audit`` says of them."""
    words = [
        PYTHON,
        "-m",
        "auditor",
        "audit",
        *map(str, captures),
        "--inventory",
        inventory,
        "--format",
        "json",
        "--quiet",
    ]
    run = subprocess.run(words, capture_output=True, check=False, cwd=ROOT, timeout=PATIENCE_S)
    found: dict[str, Any] = json.loads(run.stdout)
    return found


def same(live: list[dict[str, Any]], audited: list[dict[str, Any]]) -> bool:
    """Connections, but for the names of the places where they were seen."""
    return [{**each, "vantages": None} for each in live] == [{**each, "vantages": None} for each in audited]


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that others than root can reach, too."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


def test_an_interface_is_audited_as_its_packets_come_and_the_kept_packets_say_the_same(net, place):
    """Findings come while it runs; Ctrl-C finishes; what was kept, audited afterwards, gives the same connections, verdicts and findings."""
    ring = place / "ring"
    live = Live(net, place, "wire", "--inventory", INVENTORY, "--write-ring", str(ring)).capturing()
    net.replay(SAMPLES / "diego.pcapng")
    live.told("missing-client-certificate")
    assert not live.of("summary"), "it was told before the end"
    assert live.stop() == 1
    (capture,) = live.of("capture")
    assert capture["path"] == "wire"
    assert capture["packets"] == 2580
    assert capture["dropped"] == 0
    assert capture["problems"] == []
    audited = offline(ring)
    assert len(audited["connections"]) == 136
    assert same(live.of("connection"), audited["connections"])
    findings = live.of("finding")
    final = findings[-len(audited["findings"]) :]
    assert final == audited["findings"]
    early = findings[: -len(audited["findings"])]
    assert early
    assert {each["fingerprint"] for each in early} <= {each["fingerprint"] for each in final}
    (summary,) = live.of("summary")
    assert summary == audited["summary"]
    assert "rights given up: packets are read as nobody" in live.err
    (kept,) = ring.iterdir()
    assert kept.stat().st_mode & 0o077 == 0, "secrets may be in it"
    assert kept.stat().st_uid != 0
