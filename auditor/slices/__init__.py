"""The packets of a finding or a connection, as a capture."""
