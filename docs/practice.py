"""The files that the tutorial works with, for whoever has no foundation at hand: ``python docs/practice.py FOLDER``.

``vms.json`` is what ``bosh vms --json`` would print, ``monday.pcapng`` and ``tuesday.pcapng`` are what ``bosh pcap`` would bring: the shipped
sample capture ``captures/sample/diego.pcapng`` up to its 64th second, and the whole of it dated a day later.
"""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path

SAMPLE = Path(__file__).resolve().parents[1] / "captures" / "sample"
ENHANCED_PACKET, DAY_NS = 6, 86_400_000_000_000
MONDAY_NS = 64_000_000_000
"""How much of the sample is Monday's."""


def _blocks(data: bytes) -> list[tuple[int, bytes]]:
    """Kind and bytes of each block (pcapng, section 3.1); the sample is little-endian, its clock counts nanoseconds."""
    found, at = [], 0
    while at < len(data):
        kind, size = struct.unpack_from("<II", data, at)
        found.append((kind, data[at : at + size]))
        at += size
    return found


def _dated(block: bytes) -> int:
    high, low = struct.unpack_from("<II", block, 12)
    return (high << 32) | low


def _moved(block: bytes, by_ns: int) -> bytes:
    when = _dated(block) + by_ns
    return block[:12] + struct.pack("<II", when >> 32, when & 0xFFFFFFFF) + block[20:]


def _vms() -> dict[str, object]:
    """The VMs of the sample's inventory as ``bosh vms --json`` prints them: what is not a VM, and who was deleted, is not there."""
    import yaml

    known = yaml.safe_load((SAMPLE / "diego.inventory.yml").read_text(encoding="utf-8"))
    rows = [
        {"instance": each["name"], "process_state": "running", "az": "z1", "ips": "\n".join(each["ips"])}
        for each in known["vms"]
        if "until" not in each
    ]
    return {"Tables": [{"Content": "vms", "Rows": rows}]}


def write(folder: Path) -> None:
    """Lay the three files out."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vms.json").write_text(json.dumps(_vms(), indent=1) + "\n", encoding="utf-8")
    blocks = _blocks((SAMPLE / "diego.pcapng").read_bytes())
    first = min(_dated(block) for kind, block in blocks if kind == ENHANCED_PACKET)
    monday = (block for kind, block in blocks if kind != ENHANCED_PACKET or _dated(block) < first + MONDAY_NS)
    (folder / "monday.pcapng").write_bytes(b"".join(monday))
    tuesday = (_moved(block, DAY_NS) if kind == ENHANCED_PACKET else block for kind, block in blocks)
    (folder / "tuesday.pcapng").write_bytes(b"".join(tuesday))


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "practice"))
