"""nfstream as its own users run it on a file, with everything off that the comparison does not need: flows counted, nothing kept.

One meter (``n_meters=1``), no statistics, IP bytes as nfstream's default accounting has them, nDPI's dissection at its default depth: it names
the application, as the auditor does.
"""

import sys

from nfstream import NFStreamer


def main() -> None:
    """Count the flows of one capture."""
    tcp = packets = 0
    streamer = NFStreamer(source=sys.argv[1], n_meters=1, statistical_analysis=False, accounting_mode=0)
    for flow in streamer:
        tcp += flow.protocol == 6
        packets += flow.bidirectional_packets
    print(f"tcp_flows {tcp}\npackets {packets}")


if __name__ == "__main__":
    main()
