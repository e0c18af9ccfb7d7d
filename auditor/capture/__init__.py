"""Frames in: capture files, streams and interfaces.

``expand`` turns what a user names into captures, ``open_capture`` gives the reader of one.
"""

from auditor.capture.opening import expand, open_capture, reopen_capture

__all__ = ["expand", "open_capture", "reopen_capture"]
