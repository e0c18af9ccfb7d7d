"""One file a protocol: first bytes of a connection to evidence, no judgement."""
