"""Numbers as RFCs and IANA give them, and the byte cursor."""
