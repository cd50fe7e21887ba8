"""Children of a process that has loaded everything: each is a process of its own, as an interpreter would be."""

import os
import signal
import threading
import time

import pytest

from nasbench.deploy.process import ChildError, ask

ANSWERS = """
import os
import signal
import sys
import time


def about(request):
    return {
        "request": request,
        "folder": os.getcwd(),
        "variable": os.environ.get("OF_THE_CALLER"),
        "process": os.getpid(),
        "session": os.getsid(0),
        "server": os.getppid(),
        "torch": "torch" in sys.modules,
    }


def crash(request):
    os.kill(os.getpid(), signal.SIGSEGV)


def leave(request):
    print("no more of this")
    sys.exit(3)


def fail(request):
    raise ValueError("no good")


def kill_server(request):
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)


def hang(request):
    if not os.fork():  # a process that a compiler starts
        time.sleep(60)
    open(request["file"], "w").write(str(os.getpid()))
    time.sleep(60)
"""


@pytest.fixture
def answers(tmp_path, monkeypatch):
    (tmp_path / "answers_of_children.py").write_text(ANSWERS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return lambda name, request=None, timeout_s=60.0: ask(f"answers_of_children:{name}", request or {}, timeout_s)


def test_a_child_is_as_the_process_that_asks_and_has_torch_before_it_begins(answers, tmp_path, monkeypatch):
    monkeypatch.setenv("OF_THE_CALLER", "first")
    first = answers("about", {"a": [1, None]})
    monkeypatch.setenv("OF_THE_CALLER", "second")
    second = answers("about")
    assert first["request"] == {"a": [1, None]} and first["folder"] == str(tmp_path) and first["torch"]
    assert (first["variable"], second["variable"]) == ("first", "second")
    assert first["process"] == first["session"] != second["process"] and os.getpid() not in first.values()
    assert first["server"] == second["server"]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("crash", "its process died of SIGSEGV"),
        ("kill_server", "its process died of SIGKILL"),
        ("leave", "its process ended with code 3: no more of this"),
        ("fail", "ValueError: no good"),
        (
            "missing",
            "its process ended with code 1: AttributeError: module 'answers_of_children' has no attribute 'missing'",
        ),
    ],
)
def test_how_a_child_ended_is_said_and_the_next_one_begins(answers, name, sentence):
    with pytest.raises(ChildError) as raised:
        answers(name)
    assert str(raised.value) == sentence
    assert answers("about")["torch"]


def test_a_child_that_hangs_is_ended_with_what_it_started(answers, tmp_path):
    file = tmp_path / "process"
    with pytest.raises(ChildError, match="still running after 4 s"):
        answers("hang", {"file": str(file)}, timeout_s=4.0)
    session = int(file.read_text())
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.killpg(session, 0)
        except ProcessLookupError:
            break
        time.sleep(0.05)
    else:
        pytest.fail("something of the child still runs")


def test_variables_that_libraries_read_when_they_are_loaded_get_a_server_of_their_own(answers, monkeypatch):
    before = answers("about")["server"]
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert answers("about")["server"] != before


def test_a_server_that_is_gone_is_replaced(answers):
    server = answers("about")["server"]
    os.kill(server, signal.SIGKILL)
    assert answers("about")["server"] != server


def test_children_run_beside_each_other(answers):
    replies = []
    threads = [threading.Thread(target=lambda: replies.append(answers("about"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({reply["process"] for reply in replies}) == 3
