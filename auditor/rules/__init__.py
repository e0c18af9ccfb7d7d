"""One file a finding rule."""
