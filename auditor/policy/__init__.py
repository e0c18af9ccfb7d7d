"""Policies, inventories, and the classification of connections by both."""
