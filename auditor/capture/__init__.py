"""Frames in: capture files, streams and interfaces."""
