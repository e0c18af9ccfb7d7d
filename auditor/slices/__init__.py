"""The packets behind a finding or a connection, as a capture to hand over."""
