"""Two machines in one: network namespaces joined by a pair of virtual interfaces, with real programs talking between them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PATIENCE_S = 300.0
"""The machines that run tests are slow and loaded; what is waited for mostly comes at once."""


def until(
    holds: Callable[[], Any],
    what: str,
    process: subprocess.Popen[Any] | None = None,
    says: Callable[[], str] = lambda: "",
) -> Any:
    """Wait until something holds; a failure says what was waited for, and ``says``."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        found = holds()
        if found:
            return found
        if process is not None and process.poll() is not None and not holds():
            raise AssertionError(f"ended before {what}: exit status {process.returncode}; {says()}")
        time.sleep(0.05)
    raise AssertionError(f"waited in vain: {what}; {says()}")


def unavailable() -> str | None:
    """Why there are no namespaces here; None: there are."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "iproute2 is not installed (Debian package iproute2)"
    name = f"aud{os.getpid()}probe"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        return f"network namespaces are not allowed here: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", name], check=False)
    return None


class Net:
    """Hosts ``a`` (the Diego cell that is watched) and ``b`` (all others), each with an interface ``wire``."""

    A, B = "10.0.4.10", "10.0.4.20"

    def __init__(self, tag: str) -> None:
        self.names = {side: f"aud{os.getpid()}{tag}{side}" for side in "ab"}
        self._started: list[subprocess.Popen[Any]] = []
        a, b = self.names["a"], self.names["b"]
        self._ip("netns", "add", a)
        self._ip("netns", "add", b)
        self._ip("link", "add", "wire", "netns", a, "type", "veth", "peer", "name", "wire", "netns", b)
        for name, address in ((a, self.A), (b, self.B)):
            self._ip("-n", name, "addr", "add", f"{address}/24", "dev", "wire")
            self._ip("-n", name, "link", "set", "lo", "up")
            self._ip("-n", name, "link", "set", "wire", "up")
            # Nothing of its own on the wire: no IPv6 neighbour talk between the packets that a test counts.
            command = ["ip", "netns", "exec", name, "sysctl", "-qw", "net.ipv6.conf.wire.disable_ipv6=1"]
            subprocess.run(command, check=False, capture_output=True)

    @staticmethod
    def _ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    def inside(self, side: str, *argv: str) -> list[str]:
        """The command that runs ``argv`` on that host."""
        return ["ip", "netns", "exec", self.names[side], *argv]

    def start(self, side: str, *argv: str, **options: Any) -> subprocess.Popen[Any]:
        """A program on that host; ended with the hosts."""
        process = subprocess.Popen(self.inside(side, *argv), start_new_session=True, **options)
        self._started.append(process)
        return process

    def run(self, side: str, *argv: str, **options: Any) -> subprocess.CompletedProcess[Any]:
        return subprocess.run(self.inside(side, *argv), check=True, capture_output=True, timeout=PATIENCE_S, **options)

    def pids(self, side: str) -> list[int]:
        """What runs on that host."""
        told = subprocess.run(["ip", "netns", "pids", self.names[side]], capture_output=True, text=True, check=False)
        return [int(each) for each in told.stdout.split()]

    def replay(self, capture: Path, *, side: str = "b", rate: int = 2_000) -> None:
        """Put the packets of a capture on the wire, in their order."""
        self.run(side, "tcpreplay", "-q", "-i", "wire", f"--pps={rate}", str(capture))

    def end(self) -> None:
        """End all programs that were started."""
        for process in self._started:
            if process.poll() is None:
                with contextlib.suppress(OSError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait(30)
        self._started.clear()

    def close(self) -> None:
        self.end()
        for name in self.names.values():
            pids = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False).stdout
            for pid in pids.split():  # what a daemon forked
                with contextlib.suppress(OSError, ValueError):
                    os.kill(int(pid), signal.SIGKILL)
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
