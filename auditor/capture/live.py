"""Live capture: what a source is, the command that captures there, and its bytes as a stream for the readers of files.

What holds here:

- Every source gives the bytes of a capture file: a program that captures (``dumpcap`` or ``tcpdump``, here or on a VM behind ``ssh`` or ``bosh ssh``;
  ``auditor.capture.sniffer`` where neither is there), standard input, a named pipe, or a file that grows. One reader for all, and that is the one of files.
- A capturing program runs under a few lines of shell (``_wrapped``): when its standard input ends, the program is told to finish, so that it
  writes what it still holds and says what it dropped. That ends it in the same way here, through sudo, and at the far end of a connection.
- The far end knows its own control connection (``SSH_CONNECTION``, set by sshd) and leaves it out. So does a capture here: of the connections that our own
  ssh has, and of the one through which we are watched. What was left out is said.
- What a program says on standard error is read all the time: how much it dropped, and why it died.
- Only fixed commands run with rights: they are made before anything is captured, and started by number (``Starter``).
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import re
import select
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import unquote, urlsplit

from auditor.errors import ConfigError, InputError, MissingToolError

INTERFACE, SSH, BOSH, STDIN, PIPE, FILE = "interface", "ssh", "bosh", "stdin", "pipe", "file"

DEFAULT_INTERFACE: Final = "eth0"
BUFFER_MIB: Final = 64
"""What the kernel may hold for a capturing program: some seconds of a busy VM while we write a report."""
PIPE_BYTES: Final = 1024 * 1024
POLL_SECONDS: Final = 0.2
KEPT_LINES: Final = 20
MANY: Final = 64
"""Connections that are left out, at most."""

_NAME = re.compile(r"[A-Za-z0-9_.:@-]{1,64}\Z")
"""Interfaces, hosts, users, deployments: no text that a shell or an option parser would misread."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where packets come from, as a user names it."""

    kind: str
    text: str
    """As given; reports call the source so."""
    interface: str = ""
    host: str = ""
    user: str = ""
    port: int | None = None
    deployment: str = ""
    path: str = ""

    @property
    def local(self) -> bool:
        """It is an interface of this machine."""
        return self.kind == INTERFACE

    @property
    def endless(self) -> bool:
        """A source without an end: if it ends, that is an error."""
        return self.kind in (INTERFACE, SSH, BOSH)


def place_of(text: str) -> Place:
    """What ``--from`` names. Raises ConfigError with the forms there are."""
    if text == "-":
        return Place(STDIN, text)
    if "://" in text:
        return _remote(text)
    try:
        mode = Path(text).stat().st_mode
    except (OSError, ValueError):
        mode = None
    if mode is not None and stat.S_ISFIFO(mode):
        return Place(PIPE, text, path=text)
    if mode is not None and stat.S_ISREG(mode):
        return Place(FILE, text, path=text)
    if "/" in text or mode is not None:
        says = "is neither a file nor a pipe" if mode is not None else "no such file"
        raise ConfigError(
            text, says, hint="an interface, a file, a pipe, -, ssh://HOST/IFACE or bosh://DEPLOYMENT/GROUP/ID"
        )
    return Place(INTERFACE, text, interface=_checked(text, "interface", text))


def _remote(text: str) -> Place:
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ConfigError(text, "is not an address", hint="ssh://[USER@]HOST[:PORT]/IFACE") from None
    steps = [unquote(each) for each in parts.path.split("/") if each]
    if parts.query or parts.fragment or parts.password:
        raise ConfigError(text, "has parts that are not allowed here", hint="ssh://[USER@]HOST[:PORT]/IFACE")
    if parts.scheme == "ssh":
        if len(steps) > 1 or not host:
            raise ConfigError(text, "names no host and interface", hint="ssh://[USER@]HOST[:PORT]/IFACE")
        interface = _checked(steps[0] if steps else DEFAULT_INTERFACE, "interface", text)
        user = unquote(parts.username or "")
        if user:
            _checked(user, "user", text)
        return Place(SSH, text, interface, _checked(host, "host", text), user, port)
    if parts.scheme == "bosh":
        deployment = unquote(parts.netloc)
        if len(steps) not in (2, 3):
            raise ConfigError(text, "names no instance", hint="bosh://DEPLOYMENT/GROUP/ID[/IFACE]")
        for each in (deployment, *steps):
            _checked(each, "name", text)
        interface = steps[2] if len(steps) == 3 else DEFAULT_INTERFACE
        return Place(BOSH, text, interface, host="/".join(steps[:2]), deployment=deployment)
    raise ConfigError(
        text, f"cannot capture through {parts.scheme}", hint="ssh://HOST/IFACE or bosh://DEPLOYMENT/GROUP/ID"
    )


def _checked(name: str, what: str, text: str) -> str:
    if not _NAME.match(name) or name.startswith("-"):
        raise ConfigError(text, f"{name!r} is not a valid {what}", hint="letters, digits and . : _ -")
    return name


# Rights and tools


@dataclass(frozen=True, slots=True)
class Tool:
    """A way to capture on this machine."""

    name: str
    """tcpdump, dumpcap or scapy."""
    path: str
    why: str
    """What lets it capture."""


BEARS: Final = {"dumpcap": 200_000, "tcpdump": 200_000, "scapy": 50_000}
"""Packets a second that came through whole on two shared cores (docs/live.md says how that was measured)."""

_CAP_NET_RAW = 13


def has_net_raw() -> bool:
    """Whether this process may open packet sockets itself (Linux capability CAP_NET_RAW, root's in most places)."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return bool(int(status.split("CapEff:")[1].split()[0], 16) >> _CAP_NET_RAW & 1)
    except (OSError, IndexError, ValueError):
        return False


def _has_capability(path: str) -> bool:
    try:
        os.getxattr(path, "security.capability")
    except (OSError, AttributeError):
        return False
    return os.access(path, os.X_OK)


def _found(name: str) -> str | None:
    """A program, also where ordinary users do not look for it."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/local/sbin")


def capture_tools() -> list[Tool]:
    """The ways to capture here that have the rights to, the best first."""
    own = has_net_raw()
    found = []
    for name in ("tcpdump", "dumpcap"):  # equally fast; tcpdump reports drops while it runs
        path = _found(name)
        if path is not None and own:
            found.append(Tool(name, path, "this user may capture"))
        elif path is not None and _has_capability(path):
            found.append(Tool(name, path, f"{path} has the capability itself"))
    if own and find_spec("scapy") is not None:
        found.append(Tool("scapy", sys.executable, "this user may capture"))
    return found


NO_RIGHTS: Final = "capturing is not allowed"
RIGHTS_HINT: Final = "sudo auditor live ..., or once: sudo setcap cap_net_raw,cap_net_admin+eip $(command -v dumpcap), as `dpkg-reconfigure wireshark-common` does"


def check_rights(place: Place, wanted: str | None = None) -> Tool:
    """The tool that captures on a local interface. Raises InputError in one line where there is none, or no such interface."""
    interfaces = _interfaces()
    if place.interface != "any" and interfaces and place.interface not in interfaces:
        raise InputError(place.text, f"no such interface; this machine has {', '.join(interfaces)}, any")
    tools = [each for each in capture_tools() if each.name != "scapy" or place.interface != "any"]
    if wanted is not None:
        tools = [each for each in tools if each.name == wanted]
    if not tools:
        what = NO_RIGHTS if wanted is None else f"{wanted} is not installed, or may not capture"
        raise InputError(place.text, f"{what} ({RIGHTS_HINT})")
    return tools[0]


def _interfaces() -> list[str]:
    try:
        return sorted(name for _, name in socket.if_nameindex())
    except OSError:
        return []


# Commands


@dataclass(frozen=True, slots=True)
class CaptureOptions:
    """How to capture."""

    filter: str = ""
    """pcap-filter expression; empty: all packets."""
    snaplen: int = 262_144
    buffer_mib: int = BUFFER_MIB


@dataclass(frozen=True, slots=True)
class Command:
    """What to run for a source."""

    argv: tuple[str, ...]
    hexed: bool = False
    """Standard output carries lines of hexadecimal text, perhaps behind a prefix, as ``bosh ssh -c`` lets nothing else through."""
    tool: str = ""


Ends = tuple[str, int, str, int]
"""Address and port of both ends of a TCP connection."""


def command_for(place: Place, options: CaptureOptions, tool: Tool | None = None) -> Command:
    """The command of a source that needs one. Raises MissingToolError."""
    if place.kind == INTERFACE:
        if tool is None:
            raise ValueError("a local capture needs a tool")
        signals = ("USR1",) if tool.name in ("tcpdump", "scapy") else ()
        joined = f"f={shlex.quote(f'({options.filter})' if options.filter else '')}; " + _JOIN.format(own=f"${APART}")
        script = joined + _wrapped(_local(tool, place.interface, options), *signals)
        return Command(("/bin/sh", "-c", script), tool=tool.name)
    if place.kind == SSH:
        ssh = shutil.which("ssh")
        if ssh is None:
            raise MissingToolError(f"{place.text}: ssh is not installed (Debian package openssh-client)")
        name = f"{place.user}@{place.host}" if place.user else place.host
        port = ("-p", str(place.port)) if place.port is not None else ()
        quiet = ("-T", "-x", "-o", "BatchMode=yes", "-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=3")
        return Command((ssh, *quiet, *port, "--", name, _far_end(place.interface, options, hexed=False)), tool="ssh")
    if place.kind == BOSH:
        bosh = shutil.which("bosh")
        if bosh is None:
            raise MissingToolError(f"{place.text}: the bosh command line is not installed")
        far = _far_end(place.interface, options, hexed=True)
        return Command((bosh, "-n", "-d", place.deployment, "ssh", place.host, "-c", far), hexed=True, tool="bosh ssh")
    raise ValueError(f"{place.kind} needs no command")


APART: Final = "AUDITOR_LEFT_OUT"
"""Environment of a local capture: the filter expression of connections that it leaves out, known only when it starts."""
_JOIN: Final = '[ -n "$f" ] && [ -n "{own}" ] && f="$f and {own}" || f="$f{own}"; '
"""Shell lines: what is wanted, and what is left out, in one filter."""


def without(apart: Sequence[Ends]) -> str:
    """The filter expression that leaves connections out. Raises ValueError for what is not an address or port."""
    return " and ".join(f"not ({_expression(each)})" for each in apart)


def _expression(ends: Ends) -> str:
    one, one_port, other, other_port = ends
    hosts = [str(ipaddress.ip_address(each)) for each in (one, other)]
    ports = [int(each) for each in (one_port, other_port)]
    if not all(0 < each < 65_536 for each in ports):
        raise ValueError("no port")
    return f"tcp and host {hosts[0]} and port {ports[0]} and host {hosts[1]} and port {ports[1]}"


def _local(tool: Tool, interface: str, options: CaptureOptions) -> str:
    """The capturing program as shell words; ``$f`` is the filter."""
    if tool.name == "scapy":
        return shlex.join([tool.path, "-m", "auditor.capture.sniffer", interface, str(options.snaplen)]) + ' "$f"'
    size = [
        "-s",
        str(options.snaplen),
        "-B",
        str(options.buffer_mib if tool.name == "dumpcap" else options.buffer_mib * 1024),
    ]
    if tool.name == "dumpcap":
        return shlex.join([tool.path, "-q", "-P", "-i", interface, *size]) + ' -f "$f" -w -'
    # -U: else packets wait for a full buffer. Telling it to flush (USR2) is no way: it does so in the signal's handler, in the middle of a write.
    return shlex.join([tool.path, "-n", "-U", "-i", interface, *size, *_as_user()]) + ' -w - "$f"'


def _as_user() -> list[str]:
    """tcpdump as root changes its user by itself, to one that may not exist; it stays who we are."""
    return ["-Z", "root"] if os.geteuid() == 0 else []


def _wrapped(program: str, *signals: str, until_told: bool = True) -> str:
    """Shell lines that run ``program`` until standard input ends, then let it finish; ``signals`` are sent to it twice a second.

    They are ignored until it is ready for them. tcpdump answers USR1 with its counts. ``until_told``: False
    where there is no standard input that could end.
    """
    sends = "; ".join(f"kill -{each} $p || exit" for each in signals)
    ticks = f"(while sleep 0.5; do {sends}; done) </dev/null >/dev/null 2>&1 3<&- & u=$!; " if signals else "u=; "
    # `read` and not `cat`: it belongs to the shell and goes with it.
    told = "(while read -r _ <&3; do :; done; kill -INT $p) >/dev/null 2>&1 & c=$!; " if until_told else "c=; "
    return (
        f"exec 3<{'&0' if until_told else '/dev/null'}; "
        f"(trap '' USR1; exec {program}) </dev/null 3<&- & p=$!; "
        f"{told}{ticks}wait $p; s=$?; kill $c $u 2>/dev/null; exit $s"
    )


def _far_end(interface: str, options: CaptureOptions, *, hexed: bool) -> str:
    """What runs on the VM: tcpdump, as root or through sudo, without the connection that it is watched through."""
    # sshd says who is at the other end; in the shell variables are replaced before tcpdump parses them, and hold numbers and addresses only.
    own = 'set -- $SSH_CONNECTION; [ $# = 4 ] && o="not (tcp and host $1 and port $2 and host $3 and port $4)" || o=; '
    told = '[ -n "$o" ] && echo "auditor-left-out: tcp $1 port $2, $3 port $4" >&2; '
    joined = f"f={shlex.quote(f'({options.filter})' if options.filter else '')}; " + _JOIN.format(own="$o")
    program = (
        f'tcpdump -n -U -i {shlex.quote(interface)} -s {options.snaplen} -B {options.buffer_mib * 1024} $z -w - "$f"'
    )
    user = "z=; [ $(id -u) = 0 ] && z='-Z root'; "
    # bosh ssh gives no standard input to the command, and a terminal: closing the connection ends it.
    inner = user + (_as_text(_wrapped(program, "USR1", until_told=False)) if hexed else _wrapped(program, "USR1"))
    inside = f"f=$1; {inner}"
    quoted = shlex.quote(inside)
    script = (
        own
        + told
        + joined
        + f'PATH=$PATH:/usr/sbin:/sbin; if [ $(id -u) = 0 ]; then exec sh -c {quoted} sh "$f"; else exec sudo -n sh -c {quoted} sh "$f"; fi'
    )
    return f"exec sh -c {shlex.quote(script)}"


def _as_text(program: str) -> str:
    """Shell lines: what ``program`` writes as lines of hexadecimal text, what it says as lines between them; all on standard output, a terminal.

    Each line is one write, so that none tears another: tcpdump itself writes a line of words in pieces.
    """
    words = """while IFS= read -r l || [ -n "$l" ]; do printf '%s\\n' "$l"; done >&5"""
    return f"exec 5>&1; {{ ({program}) 2>&1 >&4 5>&- | {words} 4>&-; }} 4>&1 | ({_HEX}) 5>&-"


_HEX = (
    "if command -v perl >/dev/null; then perl -e "
    + shlex.quote('while (sysread STDIN, $b, 8192) { syswrite STDOUT, unpack("H*", $b) . "\\n" }')
    + "; else od -An -v -tx1 -w64; fi"
)


# Starting


class Running(Protocol):
    """A command that runs; its three ends are ours to close."""

    stdin: int
    stdout: int
    stderr: int

    @property
    def connections(self) -> list[Ends]:
        """The TCP connections that it has."""

    def kill(self) -> None:
        """Stop it at once, with all that it started."""

    def interrupt(self) -> None:
        """What Ctrl-C would do to it."""

    def wait(self, seconds: float) -> int | None:
        """Its exit status; None: it still runs, or the status is unknown."""


class Starter(Protocol):
    """Starts the commands it was made with."""

    def start(self, which: int, apart: Sequence[Ends] = ()) -> Running:
        """Command number ``which``; a local capture leaves the connections ``apart`` out. Raises OSError."""

    def close(self) -> None:
        """Kill what still runs."""


@dataclass(slots=True)
class _Child:
    """A child of this process."""

    process: subprocess.Popen[bytes]
    stdin: int
    stdout: int
    stderr: int

    @property
    def connections(self) -> list[Ends]:
        return connections_of(self.process.pid)

    def interrupt(self) -> None:
        if self.process.poll() is None:  # else its number may be another's
            with contextlib.suppress(OSError):
                os.killpg(self.process.pid, signal.SIGINT)

    def kill(self) -> None:
        if self.process.poll() is not None:
            return
        with contextlib.suppress(OSError):
            os.killpg(self.process.pid, signal.SIGKILL)
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            self.process.wait(5)

    def wait(self, seconds: float) -> int | None:
        end = time.monotonic() + seconds
        # Checked before it is reaped: until then no other process can have its id or group.
        while self.process.returncode is None:
            try:
                gone = os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
            except ChildProcessError:  # another thread has killed and taken it
                return self.process.wait()
            if gone:
                with contextlib.suppress(OSError):  # a `sleep` of the wrapper
                    os.killpg(self.process.pid, signal.SIGTERM)
                self.process.wait()
            elif time.monotonic() >= end:
                return None
            else:
                time.sleep(0.02)
        return self.process.returncode


def _spawn(command: Command, apart: Sequence[Ends]) -> _Child:
    process = subprocess.Popen(
        command.argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        start_new_session=True,  # Ctrl-C is ours: it lets the program finish instead of killing it
        env={**_environment(), APART: without(apart)},
    )
    assert process.stdin and process.stdout and process.stderr  # noqa: S101
    _widen(process.stdout.fileno())
    ends = [os.dup(each.fileno()) for each in (process.stdin, process.stdout, process.stderr)]
    for each in (process.stdin, process.stdout, process.stderr):
        each.close()
    return _Child(process, *ends)


def _environment() -> Mapping[str, str]:
    """Ours, with a language in which the words of tools are known."""
    here = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(dict.fromkeys([here, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]))
    return {**os.environ, "LC_ALL": "C", "PYTHONPATH": path}


def _widen(pipe: int) -> None:
    import fcntl

    with contextlib.suppress(OSError, AttributeError):
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


class DirectStarter:
    """Starts commands with the rights of this process."""

    def __init__(self, commands: Sequence[Command]) -> None:
        self._commands = list(commands)
        self._started: list[_Child] = []

    def start(self, which: int, apart: Sequence[Ends] = ()) -> Running:
        """Command number ``which``. Raises OSError."""
        child = _spawn(self._commands[which], apart)
        self._started = [each for each in self._started if each.process.poll() is None]
        self._started.append(child)
        return child

    def close(self) -> None:
        """Kill what still runs."""
        for each in self._started:
            if each.process.poll() is None:
                each.kill()


@dataclass(slots=True)
class _Remote:
    """A child of the keeper."""

    keeper: KeptStarter
    number: int
    stdin: int
    stdout: int
    stderr: int

    @property
    def connections(self) -> list[Ends]:
        return []  # what captures here has none

    def interrupt(self) -> None:
        self.keeper.ask({"interrupt": self.number})

    def kill(self) -> None:
        self.keeper.ask({"kill": self.number})

    def wait(self, seconds: float) -> int | None:
        answer = self.keeper.ask({"wait": self.number, "seconds": seconds})
        status = answer.get("status")
        return status if isinstance(status, int) else None


class KeptStarter:
    """A process that keeps the rights while this one drops them; all it can do is start the commands it was made with, and end them.

    Made by ``fork`` before there are threads. It ends, and with it all that it started, when this process is gone.
    """

    def __init__(self, commands: Sequence[Command]) -> None:
        self._lock = threading.Lock()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = os.fork()
        if self.pid == 0:
            ours.close()
            try:
                _keep(theirs, commands)
            finally:
                os._exit(0)
        theirs.close()
        self._socket = ours

    def ask(self, question: Mapping[str, object]) -> dict[str, object]:
        """The keeper's answer; empty where it is gone."""
        answer, ends = self._ask(question)
        for each in ends:
            os.close(each)
        return answer

    def _ask(self, question: Mapping[str, object]) -> tuple[dict[str, object], list[int]]:
        with self._lock:
            try:
                self._socket.sendall(json.dumps(question).encode())
                data, ends, _, _ = socket.recv_fds(self._socket, 4096, 3)
            except OSError:
                return {}, []
        if not data:
            return {}, []
        found: dict[str, object] = json.loads(data)
        return found, list(ends)

    def start(self, which: int, apart: Sequence[Ends] = ()) -> Running:
        """Command number ``which``. Raises OSError."""
        answer, ends = self._ask({"start": which, "apart": list(apart)})
        if len(ends) != 3:
            raise OSError(str(answer.get("failed") or "the process that starts captures has ended"))
        return _Remote(self, int(str(answer["number"])), *ends)

    def close(self) -> None:
        """Kill what still runs."""
        self._socket.close()
        with contextlib.suppress(OSError):
            os.waitpid(self.pid, 0)


def _keep(asked: socket.socket, commands: Sequence[Command]) -> None:
    """The keeper's life."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # A handler and not SIG_IGN: that one what it starts would inherit.
        signal.signal(number, lambda *_: None)
    children: list[_Child] = []
    while True:
        try:
            data = asked.recv(4096)
        except OSError:
            data = b""
        if not data:
            break
        question = json.loads(data)
        if "start" in question:
            try:
                apart = [(str(a), int(b), str(c), int(d)) for a, b, c, d in question["apart"][:MANY]]
                child = _spawn(commands[question["start"]], apart)
            except (OSError, ValueError, TypeError, LookupError) as error:
                asked.sendall(json.dumps({"failed": str(error)}).encode())
                continue
            children.append(child)
            ends = [child.stdin, child.stdout, child.stderr]
            socket.send_fds(asked, [json.dumps({"number": len(children) - 1}).encode()], ends)
            for each in ends:
                os.close(each)
        elif "interrupt" in question:
            children[question["interrupt"]].interrupt()
            asked.sendall(b"{}")
        elif "kill" in question:
            children[question["kill"]].kill()
            asked.sendall(b"{}")
        else:
            status = children[question["wait"]].wait(min(float(question["seconds"]), 5.0))
            asked.sendall(json.dumps({"status": status}).encode())
    for child in children:
        if child.process.poll() is None:
            child.kill()


# Streams


@dataclass(slots=True)
class Drops:
    """Packets lost before they reached us, by stage; None: unknown."""

    kernel: int | None = None
    """The kernel or the interface had no room for them."""
    pipe: int | None = None
    """The capturing program had taken them and could not hand them on."""


_TCPDUMP_COUNT = re.compile(r"(\d+) packets? (captured|received by filter|dropped by kernel|dropped by interface)")
_DUMPCAP_COUNT = re.compile(
    r"Packets received/dropped on interface '.*': (\d+)/(\d+) \(pcap:(\d+)/dumpcap:(\d+)/flushed:(\d+)/ps_ifdrop:(\d+)\)"
)
_LEFT_OUT = re.compile(r"auditor-left-out: tcp (\S{1,64}) port (\d{1,5}), (\S{1,64}) port (\d{1,5})")
_READY = re.compile(r"listening on |^File: |^Capturing on ")
_NOISE = re.compile(
    r"^(tcpdump: data link type|dropped privs|tcpdump: listening|Capturing on|File: |Packets (captured|received)|verbose output)"
)
_PREFIX = re.compile(r"^\S+: (stdout|stderr) \| ?")
"""How ``bosh ssh -c`` marks the lines of an instance (bosh-cli, ssh/streaming_writer.go)."""


@dataclass(slots=True)
class Said:
    """Messages of a capturing program on standard error."""

    drops: Drops = field(default_factory=Drops)
    left_out: list[Ends] = field(default_factory=list)
    """The connection that it is watched through, which it leaves out."""
    ready: bool = False
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_LINES))
    """The last lines that are neither counts nor chatter: why it died."""
    _dropped: dict[str, int] = field(default_factory=dict)

    def hear(self, line: str) -> None:
        """Take a line in."""
        line = _PREFIX.sub("", line.strip())
        counts = {what: int(number) for number, what in _TCPDUMP_COUNT.findall(line)}
        if counts:
            # All on one line while it runs, each on a line of its own at the end.
            for what in ("dropped by kernel", "dropped by interface"):
                if what in counts:
                    self._dropped[what] = counts[what]
                    self.drops.kernel = sum(self._dropped.values())
            return
        told = _DUMPCAP_COUNT.search(line)
        if told:
            _, _, by_pcap, by_program, flushed, by_interface = map(int, told.groups())
            self.drops.kernel, self.drops.pipe = by_pcap + by_interface, by_program + flushed
            return
        out = _LEFT_OUT.search(line)
        if out:
            self.left_out = _ends(out.groups())
        elif _READY.search(line):
            self.ready = True
        elif line and not _NOISE.search(line):
            self.lines.append(line[:300])


class Stream:
    """The bytes of one source, as a file for ``open_capture``; and the end of it.

    ``stop`` lets a capturing program finish: what it still holds comes, then the end. ``abort`` is for at once.
    """

    def __init__(
        self, name: str, running: Running | None, descriptor: int, *, hexed: bool = False, grows: bool = False
    ) -> None:
        self.name = name
        self.said = Said()
        self._running, self._descriptor = running, descriptor
        self._grows = grows
        self._stopping = threading.Event()
        self._wake_read, self._wake_write = os.pipe()
        self._text = b""
        self._bytes = b""
        self._hexed = hexed
        self._closed = False
        self._listener: threading.Thread | None = None
        self.tick: Callable[[], None] | None = None
        """Called while no packets arrive."""
        if running is not None:
            self._listener = threading.Thread(target=self._listen, args=(running.stderr,), daemon=True)
            self._listener.start()

    def _listen(self, stderr: int) -> None:
        waits = b""
        with contextlib.suppress(OSError):
            while data := os.read(stderr, 4096):
                waits += data
                *lines, waits = re.split(rb"[\r\n]+", waits)
                for line in lines:
                    self.said.hear(line.decode("utf-8", "replace"))
                waits = waits[-4096:]
        if waits:
            self.said.hear(waits.decode("utf-8", "replace"))
        with contextlib.suppress(OSError):
            os.close(stderr)

    # What open_capture asks for

    def readinto(self, view: memoryview) -> int:
        """What there is, at least a byte; 0 at the end."""
        if self._hexed:
            while not self._bytes:
                if not self._decode():
                    return 0
            count = min(len(view), len(self._bytes))
            view[:count] = self._bytes[:count]
            self._bytes = self._bytes[count:]
            return count
        return self._take(view)

    def _take(self, view: memoryview) -> int:
        count = 0
        while count < len(view):
            # Wait for the first bytes only; of the rest, take what is there.
            if not self._readable(0 if count else POLL_SECONDS):
                if count:
                    break
                if self._stopping.is_set() and self._running is None:
                    return 0
                continue
            got = os.readv(self._descriptor, [view[count:]])
            if got == 0:
                if not self._grows or count:
                    break
                # The end of a file that grows: more comes, or the user stops.
                if self._stopping.wait(POLL_SECONDS) or self._replaced():
                    break
                continue
            count += got
        return count

    def _readable(self, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        if not self._stopping.is_set():
            poll.register(self._wake_read, select.POLLIN)
        return any(descriptor == self._descriptor for descriptor, _ in poll.poll(int(seconds * 1000)))

    def _replaced(self) -> bool:
        """Whether the file that grew has become shorter: it was started again."""
        return os.fstat(self._descriptor).st_size < os.lseek(self._descriptor, 0, os.SEEK_CUR)

    def _decode(self) -> bool:
        """One more chunk of hexadecimal lines; lines that are none are words of the far end. False at the end."""
        room = bytearray(65_536)
        count = self._take(memoryview(room))
        self._text += room[:count]
        *lines, self._text = self._text.split(b"\n")
        if count == 0 and self._text:
            lines, self._text = [self._text], b""
        for line in lines:
            text = _PREFIX.sub("", line.decode("ascii", "replace").strip())
            try:
                self._bytes += bytes.fromhex(text)
            except ValueError:
                self.said.hear(text)
        if len(self._text) > PIPE_BYTES:
            self._text = b""
        return count > 0 or len(self._bytes) > 0

    # The end

    def stop(self) -> None:
        """Let it finish: what was captured until now still comes. May be called again, from any thread."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        with contextlib.suppress(OSError):
            os.write(self._wake_write, b"x")
        if self._running is not None:
            with contextlib.suppress(OSError):
                os.close(self._running.stdin)
            if self._hexed:  # no program there reads standard input
                self._running.interrupt()

    @property
    def connections(self) -> list[Ends]:
        """The TCP connections through which it comes."""
        return self._running.connections if self._running is not None else []

    @property
    def stopping(self) -> bool:
        """Somebody asked for its end."""
        return self._stopping.is_set()

    def abort(self) -> None:
        """End it at once."""
        self.stop()
        if self._running is not None:
            self._running.kill()

    def close(self) -> None:
        """Free what it holds; call it when no thread reads any more."""
        if self._closed:
            return
        self._closed = True
        self.stop()
        if self._running is not None and self._running.wait(2.0) is None:
            self._running.kill()
        for each in (self._descriptor, self._wake_read, self._wake_write):
            if each > 2:
                with contextlib.suppress(OSError):
                    os.close(each)
        if self._listener is not None:
            self._listener.join(5.0)

    def why(self) -> str:
        """Why it ended, as far as it said; only once it has ended."""
        if self._listener is not None:
            self._listener.join(2.0)  # its last words may still be on their way
        return self.said.lines[-1] if self.said.lines else ""


def open_stream(
    place: Place,
    starter: Starter | None = None,
    which: int = 0,
    command: Command | None = None,
    apart: Sequence[Ends] = (),
) -> Stream:
    """The bytes of a source from now on. Raises InputError where it cannot be opened."""
    try:
        if command is not None and starter is not None:
            running = starter.start(which, apart)
            return Stream(place.text, running, running.stdout, hexed=command.hexed)
        if place.kind == STDIN:
            if sys.stdin is None or sys.stdin.isatty():
                raise InputError("-", "standard input is neither a pipe nor a file: nothing to read")
            descriptor = os.dup(sys.stdin.fileno())
            return Stream(place.text, None, descriptor)
        # Non-blocking: a pipe is open at once, before its writer is.
        flags = os.O_RDONLY | (os.O_NONBLOCK if place.kind == PIPE else 0)
        descriptor = os.open(place.path, flags)
        if place.kind == PIPE:
            return _pipe(place, descriptor)
        return Stream(place.text, None, descriptor, grows=True)
    except OSError as error:
        raise InputError(place.text, f"cannot be opened: {error.strerror or error}") from None


def _pipe(place: Place, descriptor: int) -> Stream:
    """A named pipe; until its first writer comes, reading gives the end at once, so that is waited for."""
    os.set_blocking(descriptor, True)
    _widen(descriptor)
    return Stream(place.text, None, descriptor)


def watched_through(environment: Mapping[str, str]) -> list[Ends]:
    """The ssh connection of the user's terminal, if there is one: each line on it would be a packet to capture."""
    return _ends(environment.get("SSH_CONNECTION", "").split())


def _ends(words: Sequence[str]) -> list[Ends]:
    """A connection in four words, as sshd writes it; None if they are not one."""
    try:
        one, one_port, other, other_port = (each.partition("%")[0] for each in words)
        return [(str(ipaddress.ip_address(one)), int(one_port), str(ipaddress.ip_address(other)), int(other_port))]
    except ValueError:
        return []


def connections_of(process: int) -> list[Ends]:
    """The TCP connections of a process and its children, from /proc: those of our own ssh, through whatever gateway it goes."""
    sockets: set[str] = set()
    for each in _family(process):
        with contextlib.suppress(OSError):
            for descriptor in Path(f"/proc/{each}/fd").iterdir():
                with contextlib.suppress(OSError):
                    found = re.fullmatch(r"socket:\[(\d+)\]", str(descriptor.readlink()))
                    if found:
                        sockets.add(found[1])
    ends: list[Ends] = []
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{process}/net/{table}").read_text(encoding="ascii").splitlines()[1:]:
                words = line.split()
                if len(words) > 9 and words[9] in sockets and words[3] == "01":  # established
                    ends.append((*_end(words[1]), *_end(words[2])))
    return ends[:MANY]


def _family(process: int) -> list[int]:
    """A process and all below it."""
    parents: dict[int, list[int]] = {}
    for each in Path("/proc").iterdir():
        if each.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                # The name in brackets may hold anything; behind it come the state and the parent.
                parent = int(
                    (each / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1]
                )
                parents.setdefault(parent, []).append(int(each.name))
    found, waiting = [], [process]
    while waiting:
        one = waiting.pop()
        found.append(one)
        waiting += parents.get(one, [])
    return found


def _end(text: str) -> tuple[str, int]:
    """Address and port of /proc/net/tcp: 32-bit words in the machine's byte order."""
    host, _, port = text.partition(":")
    words = [int(host[at : at + 8], 16) for at in range(0, len(host), 8)]
    address = ipaddress.ip_address(b"".join(word.to_bytes(4, sys.byteorder) for word in words))
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address), int(port, 16)


def told(apart: Sequence[Ends]) -> str | None:
    """Connections that were left out, for people."""
    return ", ".join(f"tcp {a} port {b}, {c} port {d}" for a, b, c, d in apart) or None
