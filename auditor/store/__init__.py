"""What earlier audits found, kept."""
