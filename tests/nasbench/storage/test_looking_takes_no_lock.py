"""Looking whether somebody works in a run folder, as `nasbench status` does, never keeps anybody from working there."""

import multiprocessing

import pytest
from filelock import FileLock, Timeout

from nasbench.storage.run_folder import RunFolder
from nasbench_registry import UserError

ATTEMPTS = 200


def look(folder, begun, enough):
    begun.wait(60)
    while not enough.is_set():
        folder.is_locked()


def take(folder, begun, enough):
    """How it was done before: the lock taken and let go, as whoever works there does it."""
    begun.wait(60)
    while not enough.is_set():
        refused(FileLock(folder.path / ".lock", timeout=0).acquire, Timeout, 1)


def refused(work, error, attempts=ATTEMPTS):
    """How many attempts to work in the folder are."""
    count = 0
    for _ in range(attempts):
        try:
            with work():
                pass
        except error:
            count += 1
    return count


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path)


@pytest.fixture
def beside(folder):
    """Have two processes do something with the folder all the time."""
    forked = multiprocessing.get_context("fork")
    begun, enough = forked.Barrier(3), forked.Event()
    processes = []

    def start(action):
        processes.extend(forked.Process(target=action, args=(folder, begun, enough), daemon=True) for _ in range(2))
        for process in processes:
            process.start()
        begun.wait(60)

    yield start
    enough.set()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0


def test_nobody_is_refused_while_others_look(folder, beside):
    beside(look)
    assert refused(folder.locked, UserError) == 0


def test_the_control_others_that_take_the_lock_to_look_have_somebody_refused(folder, beside):
    beside(take)
    assert any(refused(FileLock(folder.path / ".lock", timeout=0).acquire, Timeout) for _ in range(100))


def test_the_truth_is_seen_and_a_second_worker_is_refused(folder, beside):
    beside(look)
    assert not folder.is_locked()
    for _ in range(20):
        with folder.locked():
            assert folder.is_locked()
            with pytest.raises(UserError, match="another process works in"), RunFolder(folder.path).locked():
                pass
        assert not folder.is_locked()


def test_looking_makes_no_file(folder):
    assert not folder.is_locked() and list(folder.path.iterdir()) == []
