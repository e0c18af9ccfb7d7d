"""Who may talk to whom, and who is who."""
