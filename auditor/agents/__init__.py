"""Agents on VMs that send what they saw, and the collector that joins and judges it."""
