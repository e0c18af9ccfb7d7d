"""Makes healthy.pcap, healthy.inventory.yml and healthy.truth.tsv: a platform on which every documented path is used once, and nothing else happens.

Run it from any folder: ``python captures/sample/healthy.pcap.py``. It needs scapy and cryptography, no network and no rights.
"""

from pathlib import Path

from _diego import BRAIN0, CC0, CELL0, DB0, DB1, VMS, Story, Wire, documented, size_of

HERE = Path(__file__).resolve().parent

INVENTORY_HEAD = """\
# The VMs of the sample capture healthy.pcap. Made by healthy.pcap.py.
schema: auditor.inventory/1
title: a small foundation in two zones
networks: [10.0.4.0/24, 10.0.5.0/24]
vms:
"""


def main() -> None:
    """Write the files."""
    story = Story(Wire(seed=20_261_116))
    documented(story, 1.0, "1.2", cells=[CELL0], brains=[BRAIN0], databases=[DB0, DB1], controllers=[CC0], mark="row")
    story.wire.write_pcap(HERE / "healthy.pcap")
    story.write_truth(HERE / "healthy.truth.tsv")
    vms = "".join(f"  - {{name: {vm.name}, ips: [{vm.ip}]}}\n" for vm in VMS)
    (HERE / "healthy.inventory.yml").write_text(INVENTORY_HEAD + vms)
    print(f"healthy.pcap: {len(story.truth)} connections, {size_of(HERE / 'healthy.pcap')}")


if __name__ == "__main__":
    main()
