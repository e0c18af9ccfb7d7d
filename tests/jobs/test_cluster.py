"""A Dask cluster gives the report of one process; what is wrong with it is one line, soon. Schedulers and workers are real processes."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask.config
import pytest
from dask import distributed

from auditor import api
from auditor.errors import ConfigError, InputError
from auditor.jobs import cluster
from tests.capture.stores import object_store
from tests.conftest import ROOT
from tests.netns import until

SAMPLE = ROOT / "captures" / "sample"
LAB = [str(each) for each in sorted(SAMPLE.glob("lab.*.pcap.zst"))]
TWO = [str(SAMPLE / "diego.pcapng"), str(SAMPLE / "healthy.pcap")]
SECONDS = 120.0


class Cluster:
    """A scheduler on a free port of this machine, and workers in folders of their own."""

    def __init__(self, folder: Path, scheme: str = "tcp", **settings: str) -> None:
        self._folder, self._running = folder, list[subprocess.Popen[bytes]]()
        self.workers: list[subprocess.Popen[bytes]] = []
        self._env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        self._host = f"{scheme}://127.0.0.1"
        told = folder / "scheduler.json"
        self.scheduler = self._start(
            "scheduler", ["--host", self._host, "--port", "0", "--scheduler-file", str(told)], settings
        )
        self.address: str = until(lambda: _address(told), "the scheduler's address")

    def _start(self, what: str, options: list[str], settings: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        place = self._folder / f"{what}{len(self._running)}"
        place.mkdir()
        command = [sys.executable, "-m", f"distributed.cli.dask_{what}", "--no-dashboard", *options]
        with (place / "log").open("wb") as log:
            started = subprocess.Popen(
                command, cwd=place, env={**self._env, **(settings or {})}, stdout=log, stderr=log
            )
        self._running.append(started)
        return started

    def work(self, count: int, *more: str) -> None:
        """Start workers, and wait until the scheduler knows them."""
        options = ["--no-nanny", "--host", self._host, "--nthreads", "2", *more]
        self.workers = [self._start("worker", [self.address, *options]) for _ in range(count)]
        with self.client() as client:
            until(lambda: len(client.sync(client.scheduler.ncores)) == count, "the workers")

    @contextlib.contextmanager
    def client(self) -> Iterator[Any]:
        made = distributed.Client(self.address, set_as_default=False)
        try:
            yield made
        finally:
            made.close()

    def hold(self) -> None:
        """Workers that are asked for something and do nothing."""
        for each in self.workers:
            each.send_signal(signal.SIGSTOP)

    def wait_for_tasks(self, count: int) -> None:
        with self.client() as client:
            until(lambda: sum(map(len, client.processing().values())) == count, "the work")

    def close(self) -> None:
        for each in self._running:
            each.kill()
            each.wait()


def _address(told: Path) -> str | None:
    try:
        return str(json.loads(told.read_text())["address"])
    except (OSError, ValueError):
        return None


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        made.work(2)
        yield made
    finally:
        made.close()


@pytest.fixture
def frail(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster that gives up a task whose worker has died once."""
    made = Cluster(tmp_path, DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0")
    try:
        yield made
    finally:
        made.close()


def lasting(report: api.Report) -> str:
    """The JSON report without what is another in every run."""
    told = json.loads(report.to_json())
    for name in ("id", "started", "finished"):
        del told["audit"][name]
    return json.dumps(told)


def run(*args: str, given: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "auditor", *args]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, cwd=ROOT, env=env, input=given, stdin=None if given else subprocess.DEVNULL,
        capture_output=True, timeout=SECONDS, check=False,
    )  # fmt: skip


def test_a_cluster_gives_the_report_of_one_process(two: Cluster) -> None:
    said: list[Any] = []
    one = api.audit(LAB, inventory=str(SAMPLE / "lab.inventory.yml"))
    many = api.audit(LAB, inventory=str(SAMPLE / "lab.inventory.yml"), scheduler=two.address, progress=said.append)
    assert len(LAB) == 4
    assert len(one.findings) > 10
    assert lasting(many) == lasting(one)
    assert many.to_csv() == one.to_csv()
    assert [each.packets for each in said] == sorted(each.packets for each in said)
    assert said[-1].packets == one.captures["packets"].sum()
    alone, there = api.audit(TWO[0]), api.audit(TWO[0], scheduler=two.address)
    assert lasting(there) == lasting(alone)


def test_streams_and_broken_captures_stand_among_the_others(two: Cluster, tmp_path: Path) -> None:
    (tmp_path / "text.pcap").write_text("this is not a capture\n")
    (tmp_path / "cut.pcap").write_bytes(Path(TWO[1]).read_bytes()[:-5])

    def sources() -> list[Any]:
        stream = io.BytesIO(Path(TWO[0]).read_bytes())
        return [str(tmp_path / "cut.pcap"), stream, str(tmp_path / "text.pcap"), LAB[0]]

    one, many = api.connections(sources()), api.connections(sources(), scheduler=two.address)
    assert lasting(many) == lasting(one)
    assert [len(each) for each in many.captures["problems"]] == [1, 0, 1, 0]
    assert many.captures["path"].tolist() == one.captures["path"].tolist()


def test_paths_are_told_as_they_were_named(two: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(TWO[1], tmp_path / "a.pcap")
    (tmp_path / "b.pcap").write_text("this is not a capture\n")
    monkeypatch.chdir(tmp_path)
    report = api.connections("a.pcap", scheduler=two.address)
    assert report.captures["path"].tolist() == ["a.pcap"]
    with pytest.raises(InputError, match=r"^b\.pcap: is not a pcap or pcapng capture"):
        api.connections("b.pcap", scheduler=two.address)


def test_the_command_takes_captures_from_its_input_too(two: Cluster) -> None:
    given = Path(TWO[0]).read_bytes()
    one = run("connections", "-", "--quiet", "--format", "csv", given=given)
    many = run("connections", "-", TWO[1], "--quiet", "--format", "csv", "--scheduler", two.address, given=given)
    assert (one.returncode, many.returncode, one.stderr, many.stderr) == (0, 0, b"", b"")
    assert set(one.stdout.splitlines()) < set(many.stdout.splitlines())


def test_a_worker_that_cannot_read_a_capture_or_has_another_is_an_error(
    two: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One path that leads each process somewhere else, as a disk that is not shared does.
    (tmp_path / "link.pcap").symlink_to("/proc/self/cwd/a.pcap")
    shutil.copy(TWO[1], tmp_path / "a.pcap")
    monkeypatch.chdir(tmp_path)
    captures = ["link.pcap", TWO[0]]
    with pytest.raises(
        InputError, match=r"^link\.pcap: a worker of tcp://.*cannot read it: No such file.*this path\)$"
    ):
        api.audit(captures, scheduler=two.address)
    for each in two._folder.glob("worker*"):
        shutil.copy(TWO[0], each / "a.pcap")
    with pytest.raises(InputError, match=r"^link\.pcap: a worker of tcp://.*has another file there"):
        api.audit(captures, scheduler=two.address)


def test_an_answer_that_does_not_come_holds_up_no_other_audit(two: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """An audit that ends in an error closes its client, and whoever waits for an answer of it may wait for ever."""
    fetched = distributed.Future.result
    stuck, over = threading.Event(), threading.Event()

    def result(self: Any, timeout: float | None = None) -> Any:
        stuck.set()
        over.wait()
        return fetched(self, timeout)

    first, second = (
        threading.Thread(target=lambda: ended.append(api.connections(TWO[0], scheduler=two.address)), daemon=True)
        for _ in range(2)
    )
    ended: list[Any] = []
    with monkeypatch.context() as patch:
        patch.setattr(distributed.Future, "result", result)
        first.start()
        until(stuck.is_set, "an answer that is asked for")
    second.start()
    second.join(SECONDS)
    assert len(ended) == 1
    over.set()
    first.join(SECONDS)
    assert len(ended) == 2


def test_a_worker_of_another_version_refuses(two: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "VERSION", "9.9.9")
    with pytest.raises(ConfigError, match=r"has auditor 0\.\S+ \(install diego-flow-auditor 9\.9\.9"):
        api.connections(TWO, scheduler=two.address)


def test_a_worker_says_its_version_and_follows_nothing_for_another() -> None:
    errand = cluster.Errand(TWO[0], TWO[0], 0, {}, True, "0.0.1", -1)
    assert cluster.run_errand(errand) == (cluster.Refused(f"has auditor {cluster.VERSION}", False), b"")


def test_what_one_worker_left_another_does_and_without_any_it_is_an_error(
    two: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost, left = two.workers
    lost.send_signal(signal.SIGSTOP)
    killed: list[Any] = []

    def kill(progress: Any) -> None:
        if not killed:
            lost.kill()
        killed.append(progress)

    report = api.audit(LAB, inventory=str(SAMPLE / "lab.inventory.yml"), scheduler=two.address, progress=kill)
    assert sum(not each.doing for each in killed) == 4
    assert lasting(report) == lasting(api.audit(LAB, inventory=str(SAMPLE / "lab.inventory.yml")))
    monkeypatch.setattr(cluster, "PATIENCE_SECONDS", 2.0)
    left.send_signal(signal.SIGSTOP)
    killer = threading.Thread(target=lambda: (two.wait_for_tasks(2), left.kill()))
    killer.start()
    with pytest.raises(InputError, match=r"diego\.pcapng: no worker of tcp://.* is left to read it"):
        api.audit(TWO, scheduler=two.address)
    killer.join()


@pytest.mark.night
def test_a_cluster_that_falls_apart_is_told_step_by_step(frail: Cluster) -> None:
    ended = run("audit", *TWO, "--scheduler", frail.address)
    assert (ended.returncode, ended.stdout) == (2, b"")
    assert ended.stderr.decode() == (
        f"auditor: --scheduler: the cluster at {frail.address} has no worker (start dask worker there)\n"
    )
    frail.work(2)
    frail.hold()
    killer = threading.Thread(target=lambda: (frail.wait_for_tasks(2), frail.workers[0].kill()))
    killer.start()
    ended = run("audit", *TWO, "--scheduler", frail.address)
    killer.join()
    assert (ended.returncode, ended.stdout) == (2, b"")
    assert b": each worker that read it died: killed, or out of memory\n" in ended.stderr
    assert ended.stderr.count(b"\n") == 1
    killer = threading.Thread(target=lambda: (frail.wait_for_tasks(2), frail.scheduler.kill()))
    killer.start()
    ended = run("audit", *TWO, "--scheduler", frail.address)
    killer.join()
    assert (ended.returncode, ended.stdout) == (2, b"")
    assert ended.stderr.startswith(b"auditor: --scheduler: the scheduler at ")
    assert ended.stderr.count(b"\n") == 1


def test_interrupted_the_command_ends_and_the_cluster_has_nothing_left_of_it(two_held: Cluster) -> None:
    command = [sys.executable, "-m", "auditor", "audit", *TWO, "--scheduler", two_held.address]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    started = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    two_held.wait_for_tasks(2)
    started.send_signal(signal.SIGINT)
    said, complained = started.communicate(timeout=SECONDS)
    assert (started.returncode, said, complained) == (130, b"", b"auditor: interrupted\n")
    two_held.wait_for_tasks(0)


@pytest.fixture
def two_held(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    try:
        made.work(1)
        made.hold()
        yield made
    finally:
        made.close()


def test_a_worker_without_the_auditor_is_told(tmp_path: Path) -> None:
    made = Cluster(tmp_path)
    try:
        (tmp_path / "without.py").write_text("import sys\nsys.modules['auditor'] = None\n")
        made.work(1, "--preload", str(tmp_path / "without.py"))
        with pytest.raises(ConfigError, match=r"has no auditor \(install diego-flow-auditor "):
            api.connections(TWO, scheduler=made.address)
    finally:
        made.close()


def test_tls_between_all_and_captures_in_an_object_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scheduler, workers and client show certificates of one authority; each capture is an object, named by a prefix."""
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", "/CN=cluster", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    settings = {"ca-file": str(cert)}
    for role in ("scheduler", "worker", "client"):
        settings |= {f"{role}.cert": str(cert), f"{role}.key": str(key)}
    settings = {f"distributed.comm.tls.{name}": value for name, value in settings.items()}
    settings["distributed.comm.require-encryption"] = "true"
    objects = {f"lab/{Path(each).name}": Path(each).read_bytes() for each in LAB}
    with object_store(objects) as store, dask.config.set(settings), store.known():
        for name, value in settings.items():
            monkeypatch.setenv("DASK_" + name.upper().replace(".", "__").replace("-", "_"), value)
        made = Cluster(tmp_path, "tls")
        try:
            made.work(2)
            assert made.address.startswith("tls://")
            inventory = str(SAMPLE / "lab.inventory.yml")
            here = api.audit("s3://lab/", inventory=inventory)
            there = api.audit("s3://lab/", inventory=inventory, scheduler=made.address.removeprefix("tls://"))
        finally:
            made.close()
    assert lasting(there) == lasting(here)
    assert there.captures["path"].tolist() == [f"s3://{each}" for each in sorted(objects)]


@pytest.mark.parametrize("address", ["tcp://192.0.2.1:8786", "tcp://[2001:db8::1]:8786", "ws://8.8.8.8:80"])
def test_a_public_address_without_tls_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="is not encrypted: anyone on the network path could run programs here"):
        api.connections(TWO, scheduler=address)


def test_what_may_be_plain() -> None:
    for address in (
        "tcp://127.0.0.1:1",
        "tcp://10.0.0.5:1",
        "tcp://[fd00::5]:1",
        "tls://192.0.2.1:1",
        "tcp://no.such.host.invalid:1",
    ):
        assert cluster.protected(address) == address
    assert cluster.protected("10.0.0.5:8786") == "tls://10.0.0.5:8786"
    assert cluster.protected("plain+tcp://192.0.2.1:8786") == "tcp://192.0.2.1:8786"


@pytest.mark.parametrize(
    "address", ["nonsense", "foo://10.0.0.5:8786", "inproc://10.0.0.5:1", "tcp://host", "tcp://h:0"]
)
def test_what_is_no_address_is_told_at_once(address: str) -> None:
    with pytest.raises(ConfigError, match="is not an address"):
        api.connections(TWO, scheduler=address)


@pytest.mark.parametrize("listens", [True, False], ids=["silent", "closed"])
def test_an_address_that_does_not_answer_is_an_error_in_time(listens: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "PATIENCE_SECONDS", 1.0)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        if listens:
            silent.listen()
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ConfigError, match=f"{address}: no Dask scheduler answers within 1 s"):
            api.connections(TWO, scheduler=address)


def test_options_that_do_not_go_with_it() -> None:
    with pytest.raises(ConfigError, match=r"own workers \(leave --workers out\)"):
        api.audit(TWO, scheduler="tcp://127.0.0.1:1", workers=2)
    with pytest.raises(ConfigError, match="--follow works only without a scheduler"):
        api.audit(TWO[0], scheduler="tcp://127.0.0.1:1", follow=lambda: True)


def test_without_dask_it_is_said_and_without_the_option_dask_is_not_imported() -> None:
    script = (
        "import sys\n"
        "{0}"
        "from auditor.cli import main\n"
        "status = main(sys.argv[1:])\n"
        "assert {1}, [name for name in sys.modules if name.startswith('distributed')]\n"
        "sys.exit(status)\n"
    )
    gone = script.format("sys.modules['dask'] = sys.modules['distributed'] = None\n", "True")
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, "-c", gone, "audit", *TWO, "--scheduler", "tcp://127.0.0.1:1"],
        cwd=ROOT, env=env, capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "auditor: --scheduler needs Dask (pip install 'diego-flow-auditor[cluster]')\n"
    without = script.format("", "not {'dask', 'distributed', 'tornado'} & set(sys.modules)")
    ended = subprocess.run(
        [sys.executable, "-c", without, "audit", TWO[0], "--quiet", "--format", "csv", "--fail-on", "never", "--allow-incomplete"],
        cwd=ROOT, env=env, capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
