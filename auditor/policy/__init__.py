"""What is declared, who is who, and what a connection is by both."""
