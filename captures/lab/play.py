"""Plays the scenarios and writes down what both ends of each connection reported."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import queue
import subprocess
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from daemons import DAEMONS, NAMED, Daemon
from data import Lab, Machine, Scenario
from network import GAP, ONE_WAY, Network

HERE = Path(__file__).resolve().parent
Said = dict[str, Any]
COLUMNS = [
    *["scenario", "says", "connection", "rule", "case", "place", "after", "captured", "rows", "required"],
    *["originator_vm", "responder_vm", "transport", "originator", "originator_port", "responder", "responder_port"],
    *[
        "client_stack",
        "server_stack",
        "spoke",
        "established",
        "accepted",
        "tls",
        "resumed",
        "asked",
        "client_showed",
        "server_showed",
    ],
    *["checked", "presented", "plugin", "status", "rounds", "suites", "weak_suite"],
    *["client_result", "client_version", "client_resumed", "client_saw", "client_says"],
    *["server_result", "server_version", "server_resumed", "server_saw", "server_says"],
]
WEAK = ("3DES", "RC4", "NULL", "EXPORT", "anon")
PATIENCE = 30
SLOW = 2
"""Seconds: a scenario that takes longer is told of."""


class Talker:
    """A process that takes commands and reports: ``talk.py`` in JSON, the peers of ``captures/tls`` in words."""

    def __init__(self, command: list[str], errors: Path) -> None:
        self.answers: queue.Queue[Any] = queue.Queue()
        self.served: dict[tuple[str, int], Said] = {}
        self.arrived = threading.Condition()
        self.errors = errors.open("ab")
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            said = self.parse(line.rstrip("\n"))
            if said.get("server"):
                with self.arrived:
                    self.served[said["peer"]] = said
                    self.arrived.notify_all()
            else:
                self.answers.put(said)

    def parse(self, line: str) -> Said:
        return dict(json.loads(line))

    def tell(self, line: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def ask(self, **wish: Any) -> Said:
        self.tell(json.dumps(wish))
        heard = self.hear()
        if heard["id"] != wish["id"]:
            raise RuntimeError(f"an answer to {heard['id']} came instead of one to {wish['id']}: {heard}")
        return heard

    def hear(self) -> Said:
        return dict(self.answers.get(timeout=PATIENCE))

    def report(self, peer: str, seconds: float = 3) -> Said:
        end = time.monotonic() + seconds
        with self.arrived:
            while peer not in self.served and time.monotonic() < end:
                self.arrived.wait(0.1)
            return self.served.pop(peer, {"result": "none", "says": "no report"})


def _word(text: str) -> str:
    return "" if text in {"", "-"} else text


class Peer(Talker):
    """peer.go and Peer.java: words between tabs."""

    def parse(self, line: str) -> Said:
        words = line.split("\t")
        if words[0] == "server":
            return {
                "server": True, "peer": words[7], "version": NAMED.get(words[2], "-"), "resumed": words[3] == "1",
                "result": words[5], "says": words[6], "saw": words[8],
            }  # fmt: skip
        if words[0] == "client":
            words += ["-"] * (8 - len(words))
            return {
                "version": NAMED.get(words[1], "-"), "resumed": words[2] == "1", "result": words[3], "says": words[4],
                "saw": words[6], "statuses": [int(words[7])] if words[7] != "-" else [],
            }  # fmt: skip
        return {"result": words[0], "says": " ".join(words[1:])}


class Stage:
    """The running lab: who talks where, what listens where."""

    def __init__(self, lab: Lab, network: Network, work: Path, shown: dict[str, str]) -> None:
        self.lab, self.network, self.work, self.keys = lab, network, work, work / "keys"
        self.stems = shown
        self.talkers: dict[tuple[str, str], Talker] = {}
        self.listening: dict[tuple[str, int], tuple[Said, Talker | Daemon]] = {}
        self.sources = itertools.count(40001)
        self.special = {"one_way": itertools.count(ONE_WAY[0]), "gap": itertools.count(GAP[0])}
        self.counter = itertools.count(1)

    def talker(self, machine: Machine, stack: str) -> Talker:
        key = (machine.name, stack)
        if key not in self.talkers:
            command = {
                "go": [str(self.work / "bin" / "peer_go"), str(self.keys)],
                "java": ["java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-Xmx96m", "-cp", str(self.work / "bin"), "Peer", str(self.keys)],
                "talk": [sys.executable, str(HERE / "peers" / "talk.py"), str(self.keys)],
            }[stack]  # fmt: skip
            kind = Talker if stack == "talk" else Peer
            self.talkers[key] = kind(self.network.inside(machine.name, command), self.work / "errors.log")
        return self.talkers[key]

    # Servers

    def ensure(self, machine: Machine, port: int, spec: Said) -> Talker | Daemon | None:
        """What is to listen there, and nothing else."""
        key = (machine.name, port)
        running = self.listening.get(key)
        if running and running[0] == spec:
            return running[1]
        if running:
            self.close(key)
        if spec.get("stack") == "none":
            return None
        if "relay" in spec:
            self.ensure(machine, spec["relay"], {"daemon": "sshd"})
        if "daemon" in spec:
            daemon = self.daemon(machine, port, spec)
            self.listening[key] = (spec, daemon)
            return daemon
        if spec["stack"] in {"go", "java"}:
            peer = self.talker(machine, spec["stack"])
            words = [f"cert={spec['cert']}", "many=900"] + ([f"suites={spec['suites']}"] if "suites" in spec else [])
            peer.tell("\t".join(["listen", str(port), spec.get("tls", "1.2-1.3"), spec["asks"], "0", *words]))
            heard = peer.hear()
        else:
            peer = self.talker(machine, "talk")
            heard = peer.ask(id="listen", do="listen", port=port, **{k: v for k, v in spec.items() if k != "stack"})
        if heard["result"] not in {"ready", "ok"}:
            raise RuntimeError(f"{machine.name}:{port} {spec}: {heard}")
        self.listening[key] = (spec, peer)
        return peer

    def daemon(self, machine: Machine, port: int, spec: Said) -> Daemon:
        number = next(self.counter)
        folder = self.work / "daemons" / f"{number}-{spec['daemon']}-{port}"
        plugins = self.work / "mariadb" / "usr/lib/mysql/plugin"
        whole = spec | {"plugins": str(plugins)} if spec["daemon"] == "mariadb" else spec
        made = DAEMONS[spec["daemon"]](
            whole, port, folder, self.keys, lambda command: self.network.inside(machine.name, command)
        )
        bound = "-lun" if spec["daemon"] == "dnsmasq" else "-ltn"
        end = time.monotonic() + PATIENCE
        while not subprocess.run(
            self.network.inside(machine.name, ["ss", "-H", bound, f"sport = :{port}"]), capture_output=True, check=False
        ).stdout:
            made.alive()
            if time.monotonic() > end:
                raise RuntimeError(f"{spec['daemon']} on {machine.name}:{port} did not start: {made.since(0)[-600:]}")
            time.sleep(0.05)
        return made

    def close(self, key: tuple[str, int]) -> None:
        spec, server = self.listening.pop(key)
        if isinstance(server, Daemon):
            server.stop()
        elif spec["stack"] in {"go", "java"}:
            server.tell(f"close\t{key[1]}")
            server.hear()
        else:
            server.ask(id="close", do="close", port=key[1])

    def stop(self) -> None:
        for _, server in self.listening.values():
            if isinstance(server, Daemon):
                server.process.kill()
        for talker in self.talkers.values():
            talker.process.kill()

    # Clients

    def call(self, scene: Scenario, port: int, source_port: int, slot: str) -> Said:
        """The client's report of one connection."""
        wish = {key: value for key, value in scene.client.items() if key != "stack"}
        stack = scene.client["stack"]
        if stack in {"go", "java"}:
            peer = self.talker(scene.source, stack)
            words = [f"from={source_port}", f"name={wish.get('name', 'lab')}"]
            words += [
                f"{key}={value}"
                for key, value in (("lax", int(bool(wish.get("lax")))), ("suites", wish.get("suites")))
                if value
            ]
            rounds, size = wish.get("rounds", 1), wish.get("size", 200)
            peer.tell(
                "\t".join(
                    map(
                        str,
                        [
                            "connect",
                            scene.target.ip,
                            port,
                            wish.get("tls", "1.2-1.3"),
                            wish.get("cert", "-"),
                            slot or "-",
                            rounds,
                            size,
                            1,
                            *words,
                        ],
                    )
                )
            )
            return peer.hear()
        do = {"openssl": "tls"}.get(stack, stack)
        wish |= {
            "id": scene.name,
            "do": do,
            "to": scene.target.ip,
            "port": port,
            "from": source_port,
            "hold": scene.captured == "midstream",
        }
        if slot:
            wish["slot"] = slot
        if "requests" in wish:
            wish["requests"] = [signed(each) for each in wish["requests"]]
        return self.talker(scene.source, "talk").ask(**wish)

    def source_port(self, scene: Scenario) -> int:
        return next(self.special.get(scene.captured, self.sources))

    def play(self, scene: Scenario) -> list[Said]:
        """One row of the truth for each connection. A midstream one is held: ``finish`` ends it."""
        if scene.target.down:
            self.network.nobody(scene.source.name, scene.target.ip)
        if scene.client["stack"] == "route":
            return [self.route(scene)]
        rows = []
        slot = scene.name if "resumed" in scene.connections else ""
        for port in scene.ports:
            server = None if scene.target.down else self.ensure(scene.target, port, scene.server)
            for which in scene.connections:
                mark = server.size() if isinstance(server, Daemon) else 0
                source_port = self.source_port(scene)
                heard = self.call(scene, port, source_port, slot)
                row = {
                    "scene": scene,
                    "port": port,
                    "source_port": source_port,
                    "which": which,
                    "server": server,
                    "mark": mark,
                }
                if heard.get("held"):
                    rows.append(row)
                    continue
                rows.append(self.row(row, heard))
        return rows

    def finish(self, held: Said) -> Said:
        """Lets a held connection go on to its end."""
        talker = self.talker(held["scene"].source, "talk")
        talker.tell(json.dumps({"id": held["scene"].name, "do": "go_on"}))
        return self.row(held, talker.hear())

    def route(self, scene: Scenario) -> Said:
        """A second nats-server joins the cluster; its source port is what the first one logs."""
        port = scene.ports[0]
        first = self.ensure(scene.target, port, scene.server)
        assert isinstance(first, Daemon)
        mark = first.size()
        second = self.daemon(scene.source, 4298, {"daemon": "nats", "route": f"{scene.target.ip}:{port}"})
        found = first.wait(rf"{scene.source.ip}:(\d+) - rid:\d+ - Route connection created", mark, 10)
        time.sleep(0.5)
        second.stop()
        if not found:
            raise RuntimeError("no route came about")
        row = {
            "scene": scene,
            "port": port,
            "source_port": int(found[1]),
            "which": "full",
            "server": first,
            "mark": mark,
        }
        return self.row(row, {"result": "ok"})

    # The truth

    def row(self, told: Said, client: Said) -> Said:
        scene: Scenario = told["scene"]
        server, port = told["server"], told["port"]
        peer = f"{scene.source.ip}:{told['source_port']}"
        stack = scene.client["stack"]
        refused = str(client.get("says", ""))
        reached = not any(
            word in refused
            for word in ("ConnectionRefused", "connection refused", "ConnectException", "timed out", "TimeoutError")
        )
        heard: Said = {"result": "none"}
        if reached and isinstance(server, Daemon):
            heard = server.report(peer, told["mark"])
        elif reached and server is not None and "relay" not in scene.server:
            heard = server.report(peer)
        elif reached and server is not None:
            heard = server.report(peer, 12)
        if says := client.get("server_says"):
            heard |= {"says": json.dumps(says), "version": NAMED.get(says.get("Ssl_version", ""), "-")}
            if says["peer"] != peer:
                raise RuntimeError(f"{scene.name}: the server saw {says['peer']}, the client was {peer}")
        return self.truth(scene, told, client, heard, established=reached, stack=stack, port=port)

    def truth(
        self, scene: Scenario, told: Said, client: Said, server: Said, *, established: bool, stack: str, port: int
    ) -> Said:
        tcp = stack not in {"dns", "udp"}
        rows = self.lab.numbers(scene.source, scene.target, port) if tcp else []
        required = "|".join(dict.fromkeys(self.lab.rows[number].required for number in rows))
        spoke = {"go": "tls", "java": "tls", "openssl": "tls", "route": "nats", "dns": "dns"}.get(stack, stack)
        if stack == "tcp":
            spoke = "bytes" if scene.client.get("send") else "nothing"
        wished = scene.client.get("tls", "") if "tls" in scene.client else ""
        version = _word(client.get("version", "")) or _word(server.get("version", ""))
        version = version or (wished if spoke == "tls" or wished else "")
        resumed = bool(client.get("resumed"))
        asked = version != "" and scene.server.get("asks", "none") != "none"
        saw = _word(server.get("saw", "-"))
        showed = "none"
        if saw:
            showed = self.stems[saw]
        elif (
            asked
            and scene.client.get("cert")
            and (server.get("result") != "ok" or scene.server.get("daemon") == "nats" or "relay" in scene.server)
        ):
            showed = scene.client[
                "cert"
            ]  # refused, or not logged by a server that requires one: what the client was given to show
        theirs = _word(client.get("saw", "-"))
        presented, checked = self.credentials(scene, client)
        statuses = client.get("statuses") or []
        accepted = "none"
        if established and spoke != "nothing":
            both = (
                client["result"] == "ok"
                and server["result"] in {"ok", "none"}
                and all(status < 400 for status in statuses)
            )
            accepted = "yes" if both else "no"
        return {
            "scenario": scene.name + ("" if told["which"] == "full" else "+resumed") + (f":{port}" if len(set(scene.ports)) > 1 else ""),
            "says": scene.says, "connection": told["which"], "rule": scene.rule, "case": scene.case, "place": scene.place,
            "after": scene.after, "captured": scene.captured, "rows": ",".join(map(str, rows)), "required": required,
            "originator_vm": scene.source.name, "responder_vm": scene.target.name, "transport": "tcp" if tcp else "udp",
            "originator": scene.source.ip, "originator_port": told["source_port"], "responder": scene.target.ip, "responder_port": port,
            "client_stack": stack, "server_stack": scene.server.get("daemon") or scene.server.get("stack", ""), "spoke": spoke,
            "established": "yes" if established else "no", "accepted": accepted, "tls": version, "resumed": "yes" if resumed else "no",
            "asked": "yes" if asked else "no", "client_showed": showed if version else "",
            "server_showed": (self.stems[theirs] if theirs else scene.server.get("cert", "")) if version else "",
            "checked": checked, "presented": presented, "plugin": client.get("plugin", ""),
            "rounds": scene.client.get("rounds", len(scene.client.get("requests", [1]))), "status": ",".join(map(str, dict.fromkeys(statuses))), "suites": scene.client.get("suites", ""),
            "weak_suite": "yes" if any(word in scene.client.get("suites", "") for word in WEAK) else "no",
            "client_result": client["result"], "client_version": client.get("version", "-"),
            "client_resumed": "yes" if resumed else "no", "client_saw": theirs, "client_says": client.get("says", ""),
            "server_result": server["result"], "server_version": server.get("version", "-"),
            "server_resumed": {True: "yes", False: "no"}.get(server.get("resumed"), "-"), "server_saw": saw, "server_says": server.get("says", ""),
        }  # fmt: skip

    @staticmethod
    def credentials(scene: Scenario, client: Said) -> tuple[str, str]:
        """What the client presented beside TLS, and whether the server says that it checks."""
        stack, wish = scene.client["stack"], scene.client
        if stack == "nats":
            login = wish.get("login", {})
            presented = "password" if "pass" in login else "token" if "auth_token" in login else "nothing"
            info = client.get("info")
            return presented, "" if info is None else "yes" if info["auth_required"] else "no"
        if stack == "mysql":
            if not wish.get("password"):
                return "nothing", "yes"
            return ("clear-password" if client.get("plugin") == "mysql_clear_password" else "password"), "yes"
        requests = wish.get("requests", [])
        if any("signed" in each for each in requests):
            return "signature", "yes"
        return ("token" if any("headers" in each for each in requests) else "nothing"), ""


def signed(request: Said) -> Said:
    """With the signature that nginx' secure_link wants; ``age``: seconds since it ran out."""
    if "signed" not in request:
        return request
    expires = int(time.time()) + 3600 - (request.get("age", 0) and 3600 + request["age"])
    digest = hashlib.md5(f"{expires}{request['signed']} lab-not-a-secret".encode()).digest()  # noqa: S324  (what secure_link takes)
    mark = base64.urlsafe_b64encode(digest).decode().rstrip("=")
    return {"path": f"{request['signed']}?md5={mark}&expires={expires}"}


def play(lab: Lab, scenes: list[Scenario], stage: Stage, record: Any) -> list[Said]:
    """All scenarios in order; those that begin before the capture first. ``record`` starts the recorders and is called once."""
    held = [row for scene in scenes if scene.captured == "midstream" for row in stage.play(scene)]
    for scene in scenes:  # daemons take a second to start: not while the capture runs
        if "daemon" in scene.server and not scene.target.down and scene.captured != "midstream":
            for port in scene.ports:
                if (scene.target.name, port) not in stage.listening:
                    stage.ensure(scene.target, port, scene.server)
    record()
    rows = []
    began = time.monotonic()
    problems: dict[str, str] = defaultdict(str)
    for scene in scenes:
        if scene.captured == "midstream":
            continue
        start = time.monotonic()
        time.sleep(scene.pause)
        try:
            rows += stage.play(scene)
        except Exception as error:
            problems[scene.name] = f"{type(error).__name__}: {error}"
        if (took := time.monotonic() - start) > SLOW:
            print(
                f"{time.monotonic() - began:5.0f} s  {len(rows):4d} connections; {scene.name} took {took:.1f} s",
                flush=True,
            )
    rows += [stage.finish(row) for row in held]
    for _, server in stage.listening.values():
        if isinstance(server, Daemon):
            server.alive()
    if problems:
        raise RuntimeError("; ".join(f"{name}: {says}" for name, says in problems.items()))
    return rows
