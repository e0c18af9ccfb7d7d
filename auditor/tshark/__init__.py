"""tshark, Wireshark without windows: what our own inspectors leave closed, opened with it, always in a process of its own."""
