"""Runs behind a URL: on real servers of S3 and FTP on loopback, and in fsspec's memory."""

import json
import logging
import os
import pickle
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter

import fsspec
import pytest
import torch
import yaml
from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import FTPServer
from tests_support import experiment_of
from torch import nn

from nasbench.evaluators import Trial
from nasbench.storage import remote, remote_folder, remote_lock
from nasbench.storage.checkpoints import Checkpoints
from nasbench.storage.mirror import Mirror
from nasbench.storage.remote import RemoteRunFolder
from nasbench.storage.remote_folder import RemoteError, RemoteFolder
from nasbench.storage.remote_lock import Holder, RemoteLock
from nasbench_registry import UserError
from search_spaces import Architecture

REGION = {"AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
TRIAL = Trial(3, Architecture("mobile", (0, 1)), None, 7)


@pytest.fixture(autouse=True)
def own_machine(monkeypatch, tmp_path):
    """A cache folder of its own, an empty memory, and no patience with servers that are down."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(remote_folder, "WAITS_S", ())
    monkeypatch.setattr(remote_lock, "SETTLE_S", 0.2)
    fsspec.filesystem("memory").store.clear()


class Requests(logging.Handler):
    """The access log of the S3 server: (method, path) of what was answered with success."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = []

    def emit(self, record: logging.LogRecord) -> None:
        found = re.search(r'"(?:\x1b\[[\d;]*m)*(\w+) (\S+) HTTP/[\d.]+.*" 2\d\d', record.getMessage())
        if found:
            self.seen.append(found.groups())


@pytest.fixture(scope="module")
def s3_server():
    """The environment that leads to it, and its access log."""
    from moto.server import ThreadedMotoServer

    requests, log = Requests(), logging.getLogger("werkzeug")
    log.addHandler(requests)
    log.setLevel(logging.INFO)
    log.propagate = False
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield REGION | {"AWS_ENDPOINT_URL": f"http://{host}:{port}"}, requests
    server.stop()
    log.removeHandler(requests)


@pytest.fixture
def s3(s3_server, monkeypatch):
    """(URL of a run in a bucket of its own, environment, access log)."""
    environment, requests = s3_server
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    requests.seen.clear()
    bucket = f"bucket{time.monotonic_ns()}"
    fsspec.filesystem("s3").mkdir(bucket)
    return f"s3://{bucket}/runs/a", environment, requests


class Ftp:
    """A server of files that can go away and come back at the same address."""

    def __init__(self, folder) -> None:
        users = DummyAuthorizer()
        users.add_user("me", "secret", str(folder), perm="elradfmwMT")
        self.handler = type("Handler", (FTPHandler,), {"authorizer": users})
        logging.getLogger("pyftpdlib").setLevel(logging.ERROR)
        self.port = 0
        self.start()

    def start(self) -> None:
        self.server = FTPServer(("127.0.0.1", self.port), self.handler)
        self.port = self.server.address[1]
        self.going = True
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        while self.going:
            self.server.serve_forever(timeout=0.02, blocking=False)
        self.server.close_all()

    def stop(self) -> None:
        self.going = False
        self.thread.join()

    @property
    def url(self) -> str:
        return f"ftp://me:secret@127.0.0.1:{self.port}/runs/a"


@pytest.fixture
def ftp(tmp_path):
    (tmp_path / "served").mkdir()
    server = Ftp(tmp_path / "served")
    yield server
    if server.going:
        server.stop()


@pytest.fixture(params=["memory", "file", "ftp", "s3"])
def url(request, tmp_path):
    if request.param == "memory":
        return "memory://runs/a"
    if request.param == "file":
        return f"file://{tmp_path}/shared/a"
    return request.getfixturevalue("ftp").url if request.param == "ftp" else request.getfixturevalue("s3")[0]


class TestRemoteFolder:
    def test_files_on_every_kind_of_store(self, url, tmp_path) -> None:
        folder = pickle.loads(pickle.dumps(RemoteFolder.at(url)))
        assert folder.entries() == {}
        with pytest.raises(FileNotFoundError):
            folder.read("one")
        folder.write("one", b"0123456789")
        stamp = folder.entries()["one"]
        assert (folder.read("one"), folder.read("one", 2, 5), stamp.size) == (b"0123456789", b"234", 10)
        folder.write("one", b"another")
        assert folder.read("one") == b"another"
        assert folder.entries()["one"] != stamp
        (tmp_path / "file").write_bytes(bytes(100_000))
        folder.upload("below/deeper/two", tmp_path / "file")
        folder.below("checkpoints").write("three", b"3")
        assert set(folder.entries()) == {"one", "below/deeper/two", "checkpoints/three"}
        assert set(folder.entries(("checkpoints",))) == {"one", "below/deeper/two"}
        folder.download("below/deeper/two", tmp_path / "new" / "copy")
        assert (tmp_path / "new" / "copy").read_bytes() == bytes(100_000)
        with pytest.raises(RemoteError):
            folder.download("none", tmp_path / "none")
        for _ in range(2):  # the second time there is nothing to remove
            folder.remove("one")
        assert "one" not in folder.entries()
        files, root = fsspec.core.url_to_fs(folder.url)
        assert not [name for name in files.find(root) if name.endswith(".tmp")]

    @pytest.mark.parametrize(
        ("place", "told"),
        [
            ("nothing://a/b", "the protocol of nothing://a/b is unknown; give a folder, or a URL such as s3://"),
            ("gs://bucket/run", "gs://bucket/run needs a driver that is not installed .*: pip install gcsfs"),
            ("simplecache::s3://bucket/run", "names several protocols"),
            ("ftp://me:secret@127.0.0.1:9/a", r"^ftp://me:\.\.\.@127.0.0.1:9/a cannot be opened: .*refused"),
        ],
    )
    def test_a_url_that_cannot_be_opened(self, place, told) -> None:
        with pytest.raises(UserError, match=told) as error:
            RemoteFolder.at(place)
        assert "secret" not in str(error.value)


class TestCheckpoints:
    def test_a_training_goes_on_and_its_weights_come_back(self, url) -> None:
        kept = Checkpoints.at(url)
        state = {"weight": torch.arange(6.0).reshape(2, 3), "step": torch.tensor(4)}
        kept.save_training(TRIAL, state, {"epoch": 2, "past": [{"val_acc_pct": 9.5}]})
        kept = pickle.loads(pickle.dumps(kept))
        tensors, about = kept.load_training(TRIAL)
        assert about == {"epoch": 2, "past": [{"val_acc_pct": 9.5}]}
        assert {name: tensor.tolist() for name, tensor in tensors.items()} == {
            name: tensor.tolist() for name, tensor in state.items()
        }
        assert (kept.epoch(TRIAL.number), kept.epoch(99)) == (2, None)
        assert kept.load_training(Trial(3, Architecture("mobile", (1, 1)), None, 7)) is None
        model = nn.Linear(3, 2)
        kept.save_weights(TRIAL, model)
        assert list(kept.sizes()) == [kept.weights(TRIAL.number)]
        found = kept.load_weights(TRIAL)
        assert all(torch.equal(found[name], tensor) for name, tensor in model.state_dict().items())
        assert kept.load_weights(Trial(3, TRIAL.arch, None, 8)) is None

    def test_a_store_that_is_away_is_noticed_before_training_and_forgiven_after(self, ftp, caplog) -> None:
        kept = Checkpoints.at(ftp.url)
        ftp.stop()
        with pytest.raises(RemoteError, match="cannot be read: .*refused"):
            kept.load_training(TRIAL)
        kept.save_training(TRIAL, {"weight": torch.zeros(1)}, {"epoch": 1})
        kept.save_weights(TRIAL, nn.Linear(3, 2))
        assert [record.message.split(":")[0] for record in caplog.records if "is not kept" in record.message] == [
            "00003.training.safetensors is not kept",
            "00003.safetensors is not kept",
        ]
        assert "secret" not in caplog.text

    def test_a_worker_of_another_machine_tells_where_it_hung(self, tmp_path, monkeypatch) -> None:
        kept = Checkpoints.at("memory://runs/a/checkpoints")
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "worker"))
        kept.hang(3).parent.mkdir(parents=True)
        kept.hang(3).write_text('Thread 0x1 (most recent call first):\n  File "my.py", line 7 in forward\n')
        kept.send_hang(3)
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "driver"))
        assert "line 7 in forward" in kept.take_hang(3)
        assert kept.take_hang(3) == ""


def copies(tmp_path, *names):
    """Working copies of one run."""
    return [Mirror(RemoteFolder("memory://runs/a"), tmp_path / name) for name in names]


class TestMirror:
    def test_only_what_changed_is_pushed_and_another_machine_gets_it(self, tmp_path) -> None:
        here, there = copies(tmp_path, "here", "there")
        here.pull(None)
        here.own("first")
        for name in ("config.yaml", "study.journal", "controller.json", "survivors/1/survivor.json", "tensorboard/x"):
            (here.path / name).parent.mkdir(parents=True, exist_ok=True)
            (here.path / name).write_text(f"{name}\n")
        (here.path / ".study.journal.7.tmp").write_text("half")
        assert (here.push(), here.push()) == (4, 0)
        (here.path / "study.journal").write_text("study.journal\nmore\nhalf a li")
        assert here.push() == 1
        there.pull("first")
        assert (there.path / "study.journal").read_text() == "study.journal\nmore\n"
        assert (there.path / "survivors/1/survivor.json").exists()
        assert not (there.path / "tensorboard").exists()
        assert there.push() == 0
        # Who wrote last is ahead of what is there, and keeps it; for all others the URL decides.
        (here.path / "config.yaml").write_text("changed, not pushed")
        here.pull("first")
        assert (here.path / "config.yaml").read_text() == "changed, not pushed"
        there.own("second")
        (there.path / "summary.json").write_text("{}")
        assert there.push() == 1
        here.pull("second")
        assert (here.path / "config.yaml").read_text() == "config.yaml\n"
        assert (here.path / "summary.json").exists()

    def test_a_run_that_is_gone_is_kept_aside(self, tmp_path) -> None:
        (here,) = copies(tmp_path, "here")
        here.pull(None)
        here.own("first")
        (here.path / "config.yaml").write_text("mine")
        here.push()
        here.remote.remove("config.yaml")
        here.pull(None)
        assert not (here.path / "config.yaml").exists()
        (aside,) = tmp_path.glob("here-*")
        assert (aside / "config.yaml").read_text() == "mine"

    def test_the_controller_is_never_newer_than_the_journal(self, tmp_path) -> None:
        (here,) = copies(tmp_path, "here")
        here.pull(None)
        ended = threading.Event()

        def study() -> None:
            number = 0
            while not ended.is_set():
                number += 1
                with (here.path / "study.journal").open("a") as journal:
                    journal.write(f"{number}\n")
                aside = here.path / ".controller.json.tmp"
                aside.write_text(str(number))
                aside.replace(here.path / "controller.json")

        writer = threading.Thread(target=study)
        writer.start()
        try:
            pushed = set()
            for _ in range(200):
                here.push()
                known = here.remote.entries()
                controller = int(here.remote.read("controller.json")) if "controller.json" in known else 0
                journal = here.remote.read("study.journal").split() if "study.journal" in known else []
                assert controller <= len(journal)
                pushed.add(controller)
        finally:
            ended.set()
            writer.join()
        assert len(pushed) > 20


class TestLock:
    def hold(self, **changes) -> Holder:
        """Somebody else's lock."""
        there = {"host": "node-7", "pid": 4711, "system": "another", "session": "theirs", "time_s": time.time()}
        (holder := Holder(**there | changes))
        RemoteFolder("memory://runs/a").write("lock.json", json.dumps(vars(holder)).encode())
        return holder

    def test_who_shows_signs_of_life_is_respected(self) -> None:
        self.hold(time_s=time.time() - 100)
        with pytest.raises(
            UserError, match=r"process 4711 on node-7 works in memory://runs/a, .* 100 seconds ago; wait"
        ):
            RemoteLock(RemoteFolder("memory://runs/a")).acquire()
        assert RemoteRunFolder(RemoteFolder("memory://runs/a"), print).is_locked()

    @pytest.mark.parametrize("dead", ["stale", "released", "its process is gone"])
    def test_who_is_dead_is_replaced(self, dead) -> None:
        if dead == "stale":
            before = self.hold(time_s=time.time() - remote_lock.STALE_S - 1)
        elif dead == "released":
            before = self.hold(released=True)
        else:
            ended = subprocess.Popen(["true"])
            ended.wait()
            before = self.hold(system=remote_lock._system(), pid=ended.pid)
        lock = RemoteLock(RemoteFolder("memory://runs/a"))
        assert lock.acquire() == before
        lock.check()
        with pytest.raises(UserError, match=f"process {os.getpid()} on {socket.gethostname()} works in"):
            RemoteLock(lock.folder).acquire()
        lock.release()
        assert RemoteLock(lock.folder).holder().released

    def test_one_of_two_that_begin_at_once_holds_it(self) -> None:
        locks = [RemoteLock(RemoteFolder("memory://runs/a")) for _ in range(4)]
        start, refused = threading.Barrier(4), []

        def begin(lock) -> None:
            start.wait()
            try:
                lock.acquire()
            except UserError as error:
                refused.append(str(error))

        threads = [threading.Thread(target=begin, args=(lock,)) for lock in locks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(refused) == 3
        holder = locks[0].holder()
        assert [lock.session for lock in locks if lock._thread is not None] == [holder.session]
        for lock in locks:
            lock.release()

    def test_signs_of_life_are_given(self, monkeypatch) -> None:
        monkeypatch.setattr(remote_lock, "REFRESH_S", 0.05)
        lock = RemoteLock(RemoteFolder("memory://runs/a"))
        lock.acquire()
        first = lock.holder().time_s
        wait_for(lambda: lock.holder().time_s > first)
        lock.release()


def wait_for(reached, seconds=60.0) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


class TestRunFolder:
    def test_a_search_that_was_replaced_writes_nothing_more(self, small, tmp_path) -> None:
        told = []
        folder = RemoteRunFolder(RemoteFolder("memory://runs/a"), told.append)
        with (
            pytest.raises(UserError, match="no longer held by this search but by process 4711 on node-7"),
            folder.locked(),
        ):
            folder.start(small(), tmp_path, "test")
            wait_for(lambda: "config.yaml" in RemoteFolder("memory://runs/a").entries())
            TestLock().hold()
            (folder.path / "summary.json").write_text("{}")
            while True:
                folder.push()
                time.sleep(0.02)
        assert "summary.json" not in RemoteFolder("memory://runs/a").entries()
        assert len(told) == 1  # where the working copy is; the error says the rest

    def test_a_server_that_comes_back_gets_what_it_missed(self, ftp, small, tmp_path, monkeypatch) -> None:
        monkeypatch.setattr(remote, "EVERY_S", 0.05)
        told = []
        folder = RemoteRunFolder(RemoteFolder.at(ftp.url), told.append)
        with folder.locked():
            folder.start(small(), tmp_path, "test")
            wait_for(lambda: "config.yaml" in RemoteFolder(ftp.url).entries())
            ftp.stop()
            (folder.path / "summary.json").write_text("{}")
            wait_for(lambda: len(told) > 1)
            time.sleep(0.3)  # several further pushes fail, and nobody hears of them
            ftp.start()
            wait_for(lambda: "summary.json" in RemoteFolder(ftp.url).entries())
            wait_for(lambda: len(told) > 2)
        assert [re.sub(r"(?<=127.0.0.1:)\d+", "P", text)[:60] for text in told[1:]] == [
            "ftp://me:...@127.0.0.1:P/runs/a cannot be read: [Errno 111] ",
            "ftp://me:...@127.0.0.1:P/runs/a answers again and has everyt",
        ]


class TestCommands:
    def test_search_status_and_report_of_a_url(self, nasbench, tmp_path) -> None:
        """The limit of the disk counts what lies at the URL, too."""
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(experiment_of(executor={"name": "inline"}, survivors=1)))
        limit = "search.max_disk_gb=0.00003"  # 30 kB: the weights of about two candidates
        code, out, err = nasbench("search", "mine.yaml", "--run", "memory://runs/a", "-o", limit, "--json")
        assert code == 0, err
        assert json.loads(out)["status"].startswith("complete") or "max_disk_gb" in json.loads(out)["status"]
        there = RemoteFolder("memory://runs/a").entries()
        weights = [entry.size for name, entry in there.items() if name.startswith("checkpoints/")]
        assert sum(weights) < 30_000
        assert {"config.yaml", "study.journal", "controller.json", "report.html", "survivors/1/survivor.json"} <= set(
            there
        )
        shutil.rmtree(tmp_path / "cache")
        code, out, err = nasbench("status", "memory://runs/a", "--json")
        assert (code, json.loads(out)["run"], json.loads(out)["active"]) == (0, "memory://runs/a", False)
        RemoteFolder("memory://runs/a").remove("report.html")
        assert nasbench("report", "memory://runs/a")[0] == 0
        assert "report.html" in RemoteFolder("memory://runs/a").entries()

    def test_mistakes_cost_a_sentence(self, nasbench, s3, tmp_path) -> None:
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(experiment_of()))
        code, _, err = nasbench("status", s3[0])
        assert (code, err) == (
            2,
            f"error: {s3[0]} is no run folder, for it has no config.yaml; give the folder of a search.\n",
        )
        code, _, err = nasbench("search", "mine.yaml", "--run", "s3://nobody-has-this/run")
        assert code == 2
        assert err.startswith(
            "error: s3://nobody-has-this/run cannot be written: The specified bucket does not exist; check"
        )
        assert len(err.splitlines()) == 1


EPOCHS, CANDIDATES = 10, 5


def outcomes(journal: bytes) -> list[int]:
    """The trial of each outcome in a journal, in order."""
    entries = (json.loads(line) for line in journal.splitlines() if b'"outcome"' in line)
    return [entry["trial_id"] for entry in entries if "outcome" in entry.get("user_attr", {})]


@pytest.mark.slow
def test_a_killed_search_goes_on_from_its_url_on_another_machine(s3, tmp_path) -> None:
    url, environment, requests = s3
    asked = experiment_of(
        executor={"name": "inline"}, training={"epochs": EPOCHS}, search={"candidates": CANDIDATES}, survivors=1
    )
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(asked))

    def nasbench(machine: str, *words: str) -> subprocess.Popen:
        command = [sys.executable, "-c", "from nasbench.cli.app import main; main()", *words]
        own = os.environ | environment | {"XDG_CACHE_HOME": str(tmp_path / machine)}
        with (tmp_path / f"{machine}.err").open("w") as log:
            return subprocess.Popen(command, cwd=tmp_path, env=own, stdout=subprocess.PIPE, stderr=log, text=True)

    def written(*suffixes: str) -> Counter[int]:
        """How often a checkpoint of each candidate was written so far."""
        names = [
            re.search(r"/checkpoints/(\d+)\.(.*)safetensors$", path) for kind, path in requests.seen if kind == "PUT"
        ]
        return Counter(int(name.group(1)) for name in names if name and name.group(2) in suffixes)

    folder, kept = RemoteFolder(url), Checkpoints.at(f"{url}/checkpoints")

    def journal() -> bytes:
        try:
            return folder.read("study.journal")
        except FileNotFoundError:
            return b""

    def in_its_middle() -> bool:
        running = len(outcomes(journal()))
        return 2 <= running < CANDIDATES and 2 <= (kept.epoch(running) or 0) <= EPOCHS // 2

    first = nasbench("one", "search", "mine.yaml", "--run", url)
    wait_for(lambda: first.poll() is not None or in_its_middle(), 120)
    assert first.poll() is None, (tmp_path / "one.err").read_text()
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    before = journal()
    running = len(outcomes(before))
    reached = kept.epoch(running)
    assert 2 <= reached < EPOCHS - 1, f"candidate {running} was not killed in its middle"
    assert written("training.")[running] == reached
    shutil.rmtree(tmp_path / "one")

    second = nasbench("two", "resume", url, "--json")
    out, _ = second.communicate(timeout=120)
    assert second.returncode == 0, (tmp_path / "two.err").read_text()
    report = json.loads(out)
    assert report["status"] == "complete"
    assert [(each["id"], each["status"]) for each in report["candidates"]] == [(n, "done") for n in range(CANDIDATES)]
    after = journal()
    assert after.startswith(before), "what was at the URL was changed"
    assert sorted(outcomes(after)) == list(range(CANDIDATES)), "a candidate was evaluated twice"
    # The state of a training is written after each epoch but the last one: no epoch was trained twice.
    assert written("training.") == dict.fromkeys(range(CANDIDATES), EPOCHS - 1)
    assert written("") == dict.fromkeys(range(CANDIDATES), 1)
    assert sorted(kept.sizes()) == [kept.weights(number) for number in range(CANDIDATES)]
    (copy,) = (tmp_path / "two" / "nasbench" / "runs").glob("a-*/study.journal")
    assert copy.read_bytes() == after
    survivor = json.loads(folder.read("survivors/1/survivor.json"))
    assert folder.read(f"{survivor['stages'][0]['artefact']}/model.safetensors")
    assert json.loads(folder.read("lock.json"))["released"]
