"""The lab's daemons: nginx, nats-server, mariadbd, sshd, dnsmasq. Each is one process in its VM's namespace, and tells from its own log how it saw a connection.

``report(peer, since)`` gives the endpoint's words on the connection from ``peer`` ("address:port"): result, version, resumed, saw (the SHA-1
fingerprint of the client's certificate), says. ``since`` is the length that the log had before.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

Spec = dict[str, Any]
PASSWORD = "lab-not-a-secret"  # noqa: S105  (it says so itself)
CLUSTER = "user: route, password: lab-not-a-secret"
NAMED = {"TLSv1": "1.0", "TLSv1.1": "1.1", "TLSv1.2": "1.2", "TLSv1.3": "1.3"}


def pam_services(rules: dict[str, str]) -> None:
    """Services of PAM beside the machine's own, in the lab's mount namespace alone."""
    beside = Path("/run/pam.d")
    if not beside.exists():
        shutil.copytree("/etc/pam.d", beside)
        for service, what in rules.items():
            (beside / service).write_text(f"auth required {what}\naccount required {what}\n")
        subprocess.run(["mount", "--bind", str(beside), "/etc/pam.d"], check=True)


class Daemon(ABC):
    """A process in a namespace. Subclasses write its configuration and read its log."""

    def __init__(self, spec: Spec, port: int, work: Path, keys: Path, inside: Callable[[list[str]], list[str]]) -> None:
        self.spec, self.port, self.work, self.keys, self.inside = spec, port, work, keys, inside
        self.work.mkdir(parents=True, exist_ok=True)
        self.log = work / "log"
        self.log.touch()
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(inside(self.command()), stdout=out, stderr=subprocess.STDOUT)

    @abstractmethod
    def command(self) -> list[str]:
        """What starts it."""

    def alive(self) -> None:
        """Raises RuntimeError with its last words where it ended."""
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.work.name} ended with {self.process.returncode}: {self.since(0)[-900:]}")

    def size(self) -> int:
        return self.log.stat().st_size

    def since(self, mark: int) -> str:
        with self.log.open("rb") as lines:
            lines.seek(mark)
            return lines.read().decode(errors="replace")

    def wait(self, pattern: str, mark: int, seconds: float) -> re.Match[str] | None:
        end = time.monotonic() + seconds
        while not (found := re.search(pattern, self.since(mark))):
            if time.monotonic() > end:
                return None
            time.sleep(0.02)
        return found

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    @abstractmethod
    def report(self, peer: str, mark: int) -> Spec:
        """Its words on the connection from ``peer``, told behind ``mark`` in its log."""


class Nginx(Daemon):
    """The Cloud Controller's nginx and the blobstore's: client certificates, and signed URLs by secure_link."""

    def command(self) -> list[str]:
        spec = self.spec
        (self.work / "www" / "read").mkdir(parents=True)
        (self.work / "www" / "open").mkdir()
        for folder in ("read", "open"):
            (self.work / "www" / folder / "droplet").write_text("a droplet\n" * 90)
        tls = ""
        if spec.get("cert"):
            verify = {"required": "on", "optional": "optional", "none": "off"}[spec.get("asks", "none")]
            tls = (
                f"ssl_certificate {self.keys}/{spec['cert']}.pem; ssl_certificate_key {self.keys}/{spec['cert']}.key;"
                f"ssl_client_certificate {self.keys}/ca.pem; ssl_verify_client {verify}; ssl_verify_depth 3;"
                "ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache shared:lab:1m;"
            )
        (self.work / "nginx.conf").write_text(
            f"""
daemon off; master_process off; pid {self.work}/pid; error_log {self.work}/error.log info;
events {{ worker_connections 64; }}
http {{
  client_body_temp_path {self.work}/t1; proxy_temp_path {self.work}/t2; fastcgi_temp_path {self.work}/t3;
  uwsgi_temp_path {self.work}/t4; scgi_temp_path {self.work}/t5;
  log_format lab '$remote_addr:$remote_port status=$status version=$ssl_protocol resumed=$ssl_session_reused saw=$ssl_client_fingerprint';
  access_log {self.log} lab; root {self.work}/www; default_type text/plain;
  server {{
    listen {self.port} {"ssl" if tls else ""}; {tls}
    location / {{ return 200 "here is the platform, and it is well; here is the platform, and it is well\\n"; }}
    location /forbidden {{ return 403; }}
    location /open/ {{ }}
    location /read/ {{
      secure_link $arg_md5,$arg_expires; secure_link_md5 "$secure_link_expires$uri lab-not-a-secret";
      if ($secure_link = "") {{ return 403; }}
      if ($secure_link = "0") {{ return 410; }}
    }}
  }}
}}
"""
        )
        return ["nginx", "-p", str(self.work), "-e", str(self.work / "error.log"), "-c", str(self.work / "nginx.conf")]

    def report(self, peer: str, mark: int) -> Spec:
        found = self.wait(rf"(?m)^{re.escape(peer)} status=(\d+) version=(\S+) resumed=(\S+) saw=(\S+)$", mark, 1)
        if not found:
            lines = (self.work / "error.log").read_text(errors="replace").splitlines()
            mine = [line for line in lines if f"client: {peer.partition(':')[0]}," in line]
            return {
                "result": "refused",
                "says": mine[-1].partition("*")[2].partition(" ")[2] if mine else "no request came",
            }
        lines = re.findall(rf"(?m)^{re.escape(peer)} status=(\d+)", self.since(mark))
        return {
            "result": "refused" if any(int(status) >= 400 for status in lines) else "ok",
            "version": NAMED.get(found[2], "-"),
            "resumed": found[3] == "r",
            "saw": found[4],
            "says": "status " + ", ".join(lines),
        }


class Nats(Daemon):
    """Port 4222: users in the clear, and the cluster on 4223; 4224: mutual TLS. ``login``: none, token; else user and password."""

    def command(self) -> list[str]:
        spec = self.spec
        login = {
            "none": "",
            "token": f"authorization {{ token: {PASSWORD} }}",
        }.get(spec.get("login", ""), f"authorization {{ user: nats, password: {PASSWORD} }}")
        lines = [f"server_name: lab-{self.port}-{self.work.name}", "debug: true", login]
        if spec.get("cluster"):
            lines.append("port: 4299")
            lines.append(f"cluster {{ name: lab, port: {self.port}, authorization {{ {CLUSTER} }} }}")
        elif spec.get("route"):
            lines.append("port: 4299")
            lines.append(
                f"cluster {{ name: lab, port: 4298, no_advertise: true, routes: [nats://route:{PASSWORD}@{spec['route']}] }}"
            )
        else:
            lines.append(f"port: {self.port}")
        if spec.get("cert"):
            ask = "true" if spec.get("asks") == "required" else "false"
            where = f"cert_file: {self.keys}/{spec['cert']}.pem, key_file: {self.keys}/{spec['cert']}.key, ca_file: {self.keys}/ca.pem"
            lines.append(f"tls {{ {where}, verify: {ask}, timeout: 5 }}")
        (self.work / "nats.conf").write_text("\n".join(lines) + "\n")
        return ["nats-server", "-c", str(self.work / "nats.conf")]

    def report(self, peer: str, mark: int) -> Spec:
        who = re.escape(peer)
        self.wait(rf"{who} - (c|r)id:\d+ - [^\n]*connection closed", mark, 3)
        text = self.since(mark)
        if error := re.search(rf"\[ERR\] {who} - (?:cid|rid):\d+ - (.+)", text):
            return {"result": "refused", "says": error[1]}
        if not re.search(rf"{who} - (?:cid|rid):\d+ - (?:Client|Route) connection created", text):
            return {"result": "none", "says": "no connection was logged"}
        version = re.search(rf"{who} - cid:\d+ - [^\n]*TLS version (\S+), cipher", text)
        closed = re.search(rf"{who} - (?:cid|rid):\d+ - [^\n]*connection closed: (.+)", text)
        return {
            "result": "ok",
            "version": version[1].rstrip(",") if version else "-",
            "says": closed[1] if closed else "",
        }


class MariaDb(Daemon):
    """Accounts with native passwords, one without a password, two whose password PAM takes in the clear."""

    def command(self) -> list[str]:
        data = self.work / "data"
        base = ["--no-defaults", f"--datadir={data}", "--user=root"]
        subprocess.run(
            ["mariadb-install-db", *base, "--auth-root-authentication-method=normal", "--skip-test-db"],
            check=True,
            capture_output=True,
        )
        plugins = self.work / "plugins"
        plugins.mkdir()
        more = []
        if packed := self.spec.get("plugins"):
            for each in Path(packed).glob("auth_pam_v1.so"):
                shutil.copy(each, plugins)
                more = ["--plugin-load-add=auth_pam_v1", "--pam-use-cleartext-plugin=1"]
        if more:
            pam_services({"pam_ok": "pam_permit.so", "pam_no": "pam_deny.so"})
        users = {"bbs": PASSWORD, "locket": PASSWORD, "diego_copy": ""}
        sql = [
            f"CREATE USER '{user}'@'%' IDENTIFIED VIA mysql_native_password USING PASSWORD('{word}');"
            for user, word in users.items()
        ]
        if more:
            sql += [f"CREATE USER '{user}'@'%' IDENTIFIED VIA pam USING '{user}';" for user in ("pam_ok", "pam_no")]
        sql += ["DELETE FROM mysql.global_priv WHERE User = '';", "FLUSH PRIVILEGES;"]
        (self.work / "init.sql").write_text("\n".join(sql) + "\n")
        where = [f"--ssl-cert={self.keys}/{self.spec['cert']}.pem", f"--ssl-key={self.keys}/{self.spec['cert']}.key"]
        return [
            *[
                "mariadbd",
                *base,
                f"--port={self.port}",
                "--bind-address=0.0.0.0",
                f"--socket=/run/mariadb-{self.port}",
                f"--pid-file={self.work}/pid",
            ],
            *[
                *where,
                f"--init-file={self.work}/init.sql",
                f"--plugin-dir={plugins}",
                "--skip-name-resolve",
                "--log-warnings=4",
                *more,
            ],
            *["--innodb-buffer-pool-size=16M", "--tls-version=TLSv1.2,TLSv1.3"],
        ]

    def report(self, peer: str, mark: int) -> Spec:
        """What it logs; a login that it took tells of itself by SQL, in the client's report."""
        if refused := self.wait(
            rf"Access denied for user '[^']*'@'{re.escape(peer.partition(':')[0])}'[^\n]*", mark, 0.3
        ):
            return {"result": "refused", "says": refused[0]}
        return {"result": "ok"}


class Sshd(Daemon):
    """Public keys only; one key is known."""

    def command(self) -> list[str]:
        return [
            *["/usr/sbin/sshd", "-D", "-e", "-f", "/dev/null", "-p", str(self.port), "-h", str(self.keys / "ssh-host")],
            *["-o", "LogLevel=VERBOSE", "-o", "UsePAM=no", "-o", "StrictModes=no", "-o", "PasswordAuthentication=no"],
            *[
                "-o",
                f"AuthorizedKeysFile={self.keys}/ssh-key.pub",
                "-o",
                "PermitRootLogin=yes",
                "-o",
                f"PidFile={self.work}/pid",
            ],
        ]

    def report(self, peer: str, mark: int) -> Spec:
        host, _, port = peer.partition(":")
        if peer.startswith("127."):
            return {"result": "ok"}
        who = rf"{re.escape(host)} port {port}"
        self.wait(
            rf"(Accepted publickey for \S+ from|[Cc]losed by[^\n]*|Connection reset by[^\n]*|Disconnected[^\n]*) {who}",
            mark,
            2,
        )
        text = self.since(mark)
        if taken := re.search(rf"Accepted publickey for \S+ from {who}", text):
            return {"result": "ok", "says": taken[0]}
        said = re.findall(rf"[^\n]*{who}[^\n]*", text)
        return {
            "result": "refused" if said else "none",
            "says": said[-1].strip() if said else "no connection was logged",
        }


class Dnsmasq(Daemon):
    """One name, one address."""

    def command(self) -> list[str]:
        return [
            *[
                "dnsmasq",
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--no-resolv",
                "--no-hosts",
                f"--port={self.port}",
            ],
            *[
                "--log-queries=extra",
                "--log-facility=-",
                "--user=root",
                "--address=/bbs.service.cf.internal/10.0.8.40",
                f"--pid-file={self.work}/pid",
            ],
        ]

    def report(self, peer: str, mark: int) -> Spec:
        found = self.wait(rf"{re.escape(peer.replace(':', '/'))} query[^\n]*", mark, 2)
        return {"result": "ok" if found else "none", "says": found[0] if found else ""}


DAEMONS: dict[str, type[Daemon]] = {"nginx": Nginx, "nats": Nats, "mariadb": MariaDb, "sshd": Sshd, "dnsmasq": Dnsmasq}
