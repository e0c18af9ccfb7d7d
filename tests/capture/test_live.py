"""Sources as they are named, the commands that capture there, their words, and their bytes."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from auditor.capture import live
from auditor.capture.live import (
    APART,
    CaptureOptions,
    Command,
    DirectStarter,
    KeptStarter,
    Place,
    Said,
    Tool,
    command_for,
    connections_of,
    open_stream,
    place_of,
    told,
    watched_through,
    without,
)
from auditor.errors import ConfigError, InputError, MissingToolError
from tests.netns import PATIENCE_S, until


@pytest.mark.parametrize(
    ("text", "kind", "has"),
    [
        ("eth0", "interface", {"interface": "eth0"}),
        ("any", "interface", {"interface": "any"}),
        ("-", "stdin", {}),
        ("ssh://cell/eth1", "ssh", {"host": "cell", "interface": "eth1", "user": "", "port": None}),
        ("ssh://vcap@10.0.4.10:2222", "ssh", {"host": "10.0.4.10", "interface": "eth0", "user": "vcap", "port": 2222}),
        ("ssh://[fd00::1]/any", "ssh", {"host": "fd00::1", "interface": "any"}),
        ("bosh://cf/diego_cell/0", "bosh", {"deployment": "cf", "host": "diego_cell/0", "interface": "eth0"}),
        ("bosh://cf-abc/diego-cell/9e1f-22/eth1", "bosh", {"host": "diego-cell/9e1f-22", "interface": "eth1"}),
    ],
)
def test_what_a_source_is(text, kind, has):
    place = place_of(text)
    assert place.kind == kind
    assert place.text == text
    assert {key: getattr(place, key) for key in has} == has


@pytest.mark.parametrize(
    "text",
    [
        "ssh://",
        "ssh://-oProxyCommand=evil/eth0",
        "ssh://cell/eth0;reboot",
        "ssh://cell/$(reboot)",
        "ssh://us%3ber@cell/eth0",
        "ssh://user:password@cell/eth0",
        "ssh://cell/eth0/more",
        "ssh://cell:port/eth0",
        "bosh://cf/diego_cell",
        "bosh://cf/-o/0",
        "http://cell/eth0",
        "/no/such/file",
        "-i",
        "eth0 --help",
        "",
    ],
)
def test_what_is_no_source_is_said_in_a_line(text):
    with pytest.raises(ConfigError) as caught:
        place_of(text)
    assert "\n" not in str(caught.value)
    assert caught.value.hint


def test_a_pipe_and_a_file_are_known_by_what_they_are(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"")
    assert place_of(str(tmp_path / "pipe")).kind == "pipe"
    assert place_of(str(tmp_path / "file")).kind == "file"
    with pytest.raises(ConfigError, match="is neither a file nor a pipe"):
        place_of(str(tmp_path))


def _echoing(folder: Path, name: str) -> Path:
    """A program that says its arguments, one a line."""
    program = folder / name
    program.write_text('#!/bin/sh\nfor each in "$@"; do echo "arg: $each"; done\n')
    program.chmod(0o755)
    return program


def _said(argv: Sequence[str], environment: dict[str, str]) -> tuple[bytes, bytes]:
    """What a command writes and says while its standard input stays open: that ending is what ends a capture."""
    kept, given = os.pipe()
    try:
        run = subprocess.run(argv, capture_output=True, check=True, stdin=kept, env=environment, timeout=PATIENCE_S)
    finally:
        os.close(kept)
        os.close(given)
    return run.stdout, run.stderr


@pytest.mark.parametrize("name", ["dumpcap", "tcpdump"])
@pytest.mark.parametrize(
    ("wanted", "apart", "expected"),
    [
        ("", (), ""),
        ("tcp port 8889 or host 10.0.4.10", (), "(tcp port 8889 or host 10.0.4.10)"),
        (
            "",
            (("10.0.4.10", 40000, "fd00::1", 22),),
            "not (tcp and host 10.0.4.10 and port 40000 and host fd00::1 and port 22)",
        ),
        (
            "udp",
            (("10.0.4.10", 1, "10.0.4.11", 2),),
            "(udp) and not (tcp and host 10.0.4.10 and port 1 and host 10.0.4.11 and port 2)",
        ),
        ("tcp[((tcp[12] & 0xf0) >> 2):4] = 0x5353482d", (), "(tcp[((tcp[12] & 0xf0) >> 2):4] = 0x5353482d)"),
    ],
    ids=["everything", "filter", "apart", "both", "brackets"],
)
def test_a_local_capture_gets_its_filter_as_one_word(tmp_path, name, wanted, apart, expected):
    """Run for real, by the shell that would run the capture; a program of that name tells what it was given."""
    tool = Tool(name, str(_echoing(tmp_path, name)), "test")
    command = command_for(Place("interface", "eth0", "eth0"), CaptureOptions(wanted, 4096), tool)
    out, _ = _said(command.argv, {**os.environ, APART: without(apart)})
    said = [line[5:] for line in out.decode().splitlines()]
    assert expected in said
    assert said[said.index("-i") + 1] == "eth0"
    assert said[said.index("-s") + 1] == "4096"
    assert said[said.index("-w") + 1] == "-"


def test_what_is_left_out_is_addresses_and_ports_and_nothing_else():
    for bad in (
        ("evil or host 1", 1, "10.0.0.1", 2),
        ("10.0.0.1", 70_000, "10.0.0.1", 2),
        ("10.0.0.1", 0, "10.0.0.1", 2),
    ):
        with pytest.raises(ValueError):
            without([bad])
    assert without([]) == ""


@pytest.mark.parametrize("hexed", [False, True], ids=["ssh", "bosh"])
@pytest.mark.parametrize("known", [True, False], ids=["sshd says who we are", "nobody says"])
def test_the_far_end_leaves_its_own_connection_out(tmp_path, monkeypatch, hexed, known):
    """The command line as a login shell on a VM gets it; ``tcpdump`` there tells what it was given."""
    _echoing(tmp_path, "tcpdump")
    far = live._far_end("eth0", CaptureOptions("tcp port 8889", 4096), hexed=hexed)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    if known:
        environment["SSH_CONNECTION"] = "10.0.4.1 40000 10.0.4.10 22"
    written, words = _said(["/bin/sh", "-c", far], environment)
    out = bytes.fromhex("".join(written.decode().split())) if hexed else written
    said = [line[5:] for line in out.decode().splitlines()]
    own = " and not (tcp and host 10.0.4.1 and port 40000 and host 10.0.4.10 and port 22)" if known else ""
    assert f"(tcp port 8889){own}" in said
    assert "-U" in said
    heard = Said()
    for line in words.decode().splitlines():
        heard.hear(line)
    assert heard.left_out == ([("10.0.4.1", 40_000, "10.0.4.10", 22)] if known else [])


def test_ssh_and_bosh_are_the_users_own(tmp_path, monkeypatch):
    for name in ("ssh", "bosh"):
        _echoing(tmp_path, name)
    monkeypatch.setenv("PATH", str(tmp_path))
    how = CaptureOptions("udp")
    ssh = command_for(place_of("ssh://vcap@cell:2222/eth0"), how)
    assert ssh.argv[0] == str(tmp_path / "ssh")
    assert ssh.argv[-3:-1] == ("--", "vcap@cell")
    assert ssh.argv[ssh.argv.index("-p") + 1] == "2222"
    bosh = command_for(place_of("bosh://cf/diego_cell/0"), how)
    assert bosh.argv[1:7] == ("-n", "-d", "cf", "ssh", "diego_cell/0", "-c")
    assert bosh.hexed
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    for place in ("ssh://cell", "bosh://cf/cell/0"):
        with pytest.raises(MissingToolError, match="not installed"):
            command_for(place_of(place), how)


def test_the_words_of_tcpdump_and_dumpcap_are_understood():
    said = Said()
    for line in (
        "tcpdump: listening on eth0, link-type EN10MB (Ethernet), snapshot length 262144 bytes",
        "tcpdump: 5 packets captured, 7 packets received by filter, 2 packets dropped by kernel",
        "9 packets captured",
        "30 packets received by filter",
        "21 packets dropped by kernel",
        "3 packets dropped by interface",
    ):
        said.hear(line)
    assert said.ready
    assert (said.drops.kernel, said.drops.pipe) == (24, None)
    assert not said.lines
    said = Said()
    for line in (
        "Capturing on 'eth0'",
        "File: -",
        "Packets captured: 10",
        "Packets received/dropped on interface 'eth0': 10/6 (pcap:1/dumpcap:2/flushed:3/ps_ifdrop:4) (62.5%)",
        "diego_cell/0: stderr | sudo: a password is required",
    ):
        said.hear(line)
    assert (said.drops.kernel, said.drops.pipe) == (5, 5)
    assert list(said.lines) == ["sudo: a password is required"]


def test_drops_that_come_one_by_one_are_added_up_and_not_twice():
    said = Said()
    for dropped in (0, 4, 9):
        said.hear(f"tcpdump: 5 packets captured, 7 packets received by filter, {dropped} packets dropped by kernel")
    assert said.drops.kernel == 9
    for line in ("9 packets dropped by kernel", "2 packets dropped by interface"):
        said.hear(line)
    assert said.drops.kernel == 11


def _all_of(stream: live.Stream) -> bytes:
    room, found = bytearray(1000), b""
    while count := stream.readinto(memoryview(room)):
        found += room[:count]
    return found


STARTERS = pytest.mark.parametrize("make", [DirectStarter, KeptStarter], ids=["direct", "kept"])


@STARTERS
def test_a_program_is_told_to_finish_and_gives_what_it_still_holds(make):
    """SIGINT reaches the program, not the shell around it; what it writes then still comes."""
    program = f"{sys.executable} -u -c {shlex.quote(FINISHES)}"
    command = Command(("/bin/sh", "-c", live._wrapped(program, "USR1")))
    starter = make([command])
    stream = open_stream(Place("ssh", "x", "x", "x"), starter, 0, command)
    room = bytearray(100)
    count = stream.readinto(memoryview(room))
    assert room[:count] == b"begin\n"
    stream.stop()
    assert _all_of(stream) == b"the end\n"
    assert stream.why() == "bye"
    stream.close()
    starter.close()


FINISHES = r"""
import os, signal, sys, time
def end(*_):
    os.write(1, b'the end\n'); print('bye', file=sys.stderr, flush=True); sys.exit(0)
signal.signal(signal.SIGINT, end)
os.write(1, b'begin\n')
while True: time.sleep(0.05)
"""


@STARTERS
def test_nothing_is_left_behind(make, tmp_path):
    """Neither by ending at once nor by closing what started it."""
    marks = [f"{tmp_path}/{name}" for name in ("first", "second")]
    commands = [Command(("/bin/sh", "-c", live._wrapped(f"sh -c 'sleep 1000; : {mark}'", "USR1"))) for mark in marks]
    starter = make(commands)
    streams = [open_stream(Place("ssh", "x", "x", "x"), starter, k, commands[k]) for k in range(2)]

    def marked(which: int) -> list[int]:
        return [pid for pid in _processes() if marks[which] in _command_line(pid)]

    until(lambda: len(marked(0)) >= 4 and len(marked(1)) >= 4, "shell, program, and the two that look after it")
    streams[0].abort()
    streams[0].close()
    until(lambda: not marked(0), "the first is gone")
    assert marked(1)
    starter.close()
    streams[1].close()
    until(lambda: not marked(1), "all are gone")


def _processes() -> list[int]:
    return [int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit()]


def _command_line(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace")
    return ""


def test_the_keeper_of_rights_starts_nothing_but_its_commands():
    starter = KeptStarter([Command(("/bin/echo", "mine"))])
    with pytest.raises(OSError, match="out of range"):
        starter.start(1)
    with pytest.raises(OSError):
        starter.start(0, [("10.0.0.1 or host 10.0.0.2", 1, "10.0.0.3", 2)])
    running = starter.start(0)
    assert os.read(running.stdout, 100) == b"mine\n"
    for each in (running.stdin, running.stdout, running.stderr):
        os.close(each)
    starter.close()


def test_the_keeper_goes_when_its_maker_goes():
    """A process that is killed by force cannot end what it started: the keeper does."""
    code = (
        "import os, time; from auditor.capture.live import *; "
        "k = KeptStarter([Command(('/bin/sleep', '1000'))]); k.start(0); print(k.pid, flush=True); time.sleep(1000)"
    )
    maker = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert maker.stdout
    keeper = int(maker.stdout.readline())
    children = lambda: live._family(keeper)  # noqa: E731
    until(lambda: len(children()) == 2, "it sleeps")
    family = children()
    maker.kill()
    maker.wait()
    maker.stdout.close()
    until(lambda: not any(_command_line(each) for each in family), "keeper and sleeper are gone")


def test_a_child_may_be_killed_and_taken_by_another_thread_while_one_looks_at_it(monkeypatch):
    """As the second Ctrl-C does: here just before the look."""
    starter = DirectStarter([Command(("/bin/sleep", "1000"))])
    child = starter.start(0)
    look = os.waitid

    def taken(*asked):
        child.kill()
        return look(*asked)

    monkeypatch.setattr(os, "waitid", taken)
    assert child.wait(60) == -signal.SIGKILL
    for each in (child.stdin, child.stdout, child.stderr):
        os.close(each)


def test_hexadecimal_lines_are_bytes_and_others_are_words():
    script = r"printf 'diego_cell/0: stdout | 6162\r\ndiego_cell/0: stderr | tcpdump: listening on eth0\ndiego_cell/0: stdout | 63 64 \n'; printf 65"
    command = Command(("/bin/sh", "-c", script), hexed=True)
    starter = DirectStarter([command])
    stream = open_stream(Place("bosh", "x"), starter, 0, command)
    assert _all_of(stream) == b"abcde"
    assert stream.said.ready
    stream.close()
    starter.close()


def test_words_and_bytes_that_share_a_terminal_do_not_tear_each_other(tmp_path, monkeypatch):
    """tcpdump writes a line of words in pieces; what it captures may come between two of them."""
    pieces = "printf 'tcpdump: ' >&2; sleep 0.5; printf {data}; sleep 0.5; printf 'listening on lo, link' >&2; sleep 0.5; echo '-type EN10MB' >&2"
    program = tmp_path / "tcpdump"
    program.write_text(f"#!/bin/sh\n{pieces.format(data='one')}\n{pieces.format(data='two')}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    far = live._far_end("lo", CaptureOptions(), hexed=True)
    command = Command(("/bin/sh", "-c", f"exec 2>&1; {far}"), hexed=True)
    starter = DirectStarter([command])
    stream = open_stream(Place("bosh", "x"), starter, 0, command)
    assert _all_of(stream) == b"onetwo"
    assert stream.said.ready
    assert not stream.said.lines, "all its words were understood"
    stream.close()
    starter.close()


def test_a_pipe_waits_for_its_writer_and_ends_with_it(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    stream = open_stream(place_of(str(tmp_path / "pipe")))
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(_all_of(stream)))
    reader.start()
    with (tmp_path / "pipe").open("wb") as writer:
        writer.write(b"packets")
    reader.join(60)
    assert found == [b"packets"]
    stream.close()


def test_whoever_waits_for_a_silent_pipe_can_be_told_to_stop(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    stream = open_stream(place_of(str(tmp_path / "pipe")))
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(_all_of(stream)))
    reader.start()
    stream.stop()
    reader.join(60)
    assert found == [b""]
    stream.close()


def test_a_file_that_is_begun_anew_ends(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"0123456789")
    stream = open_stream(place_of(str(file)))
    room = bytearray(100)
    assert stream.readinto(memoryview(room)) == 10
    file.write_bytes(b"0")
    assert stream.readinto(memoryview(room)) == 0
    stream.close()


def test_our_own_connections_are_found():
    """By what /proc says of a process and its children: IPv4, and IPv6 as far as it is there."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = (
            "import socket, subprocess, sys; s = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); "
            "print('there', flush=True); sys.stdin.read()"
        )
        script = f'{sys.executable} -c "{code}" {server.getsockname()[1]}; true'
        child = subprocess.Popen(["/bin/sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert child.stdout and child.stdin
        child.stdout.readline()
        accepted, peer = server.accept()
        assert connections_of(child.pid) == [(*peer, *server.getsockname())]
        child.stdin.close()
        child.wait()
        child.stdout.close()
        accepted.close()
    assert live._end("0100007F:0016") == ("127.0.0.1", 22)
    assert live._end("0000000000000000FFFF00000A04000A:1F90") == ("10.0.4.10", 8080)


def test_whoever_watches_over_ssh_is_left_out():
    assert watched_through({}) == []
    assert watched_through({"SSH_CONNECTION": "not what sshd sets"}) == []
    ends = watched_through({"SSH_CONNECTION": "fe80::1%eth0 50000 10.0.4.10 22"})
    assert ends == [("fe80::1", 50_000, "10.0.4.10", 22)]
    assert told(ends) == "tcp fe80::1 port 50000, 10.0.4.10 port 22"
    assert told([]) is None


def test_without_scapy_scapy_is_not_offered(monkeypatch):
    monkeypatch.setattr(live, "has_net_raw", lambda: True)
    monkeypatch.setattr(live, "find_spec", lambda name: None)
    assert "scapy" not in {tool.name for tool in live.capture_tools()}
    monkeypatch.setattr(live, "find_spec", lambda name: object())
    assert live.capture_tools()[-1].name == "scapy"


def test_rights_are_checked_before_anything_else(monkeypatch):
    monkeypatch.setattr(live, "capture_tools", list)
    with pytest.raises(InputError, match=r"^lo: capturing is not allowed \(sudo auditor live"):
        live.check_rights(place_of("lo"))
    with pytest.raises(InputError, match=r"no such interface; this machine has .*lo"):
        live.check_rights(place_of("nosuch0"))
    monkeypatch.setattr(live, "capture_tools", lambda: [Tool("scapy", "x", "root")])
    with pytest.raises(InputError, match="not allowed"):
        live.check_rights(place_of("any"))
    assert live.check_rights(place_of("lo")).name == "scapy"
    with pytest.raises(InputError, match="dumpcap is not installed"):
        live.check_rights(place_of("lo"), "dumpcap")
