"""What a search tells the callbacks of its experiment, and what becomes of it if one of them fails."""

import itertools
import json
from pathlib import Path

import pytest
import yaml
from lunch_support import lunch_of, write_lunch

from nasbench.search.callbacks import Callback, Callbacks


@pytest.fixture
def search(nasbench, user_folder):
    write_lunch(user_folder)

    def call(*words, **changes):
        (user_folder / "lunch.yaml").write_text(yaml.safe_dump(lunch_of(**changes), sort_keys=False))
        return nasbench("search", user_folder / "lunch.yaml", "--run", "run", "--json", *words)

    return call


def lines(file):
    return [json.loads(line) for line in Path(file).read_text().splitlines()]


def test_a_callback_hears_of_every_candidate_of_each_new_front_and_of_the_end(search):
    diary = {"name": "lunch:Diary", "file": "diary.txt"}
    code, out, err = search(
        evaluator="lunch:every_other", search={"candidates": 8, "max_failures": 6}, callbacks=[diary]
    )
    assert code == 0, err
    report, heard = json.loads(out), lines("diary.txt")
    assert heard[0] == ["begin", 0, "lunch"] and heard[-1] == ["end", "complete"]
    candidates = [line[1:] for line in heard if line[0] == "candidate"]
    assert candidates == [
        [candidate["id"], candidate["status"], candidate["metrics"]] for candidate in report["candidates"]
    ]
    fronts = [line[1:] for line in heard if line[0] == "front"]
    assert fronts[-1] == report["front"]
    assert all(earlier != later for earlier, later in itertools.pairwise(fronts))
    # Each new front comes right after the candidate that changed it.
    for place, line in enumerate(heard):
        if line[0] == "front":
            assert heard[place - 1][0] == "candidate" and heard[place - 1][1] in line[1:]


def test_several_callbacks_hear_the_same(search):
    diaries = [{"name": "lunch:Diary", "file": name} for name in ("one.txt", "two.txt")]
    code, _, err = search(callbacks=diaries)
    assert code == 0, err
    assert lines("one.txt") == lines("two.txt")


def test_what_a_callback_raises_ends_the_search_and_nothing_that_finished_is_lost(search, nasbench):
    """The resumed run leaves the callback out, and evaluates no candidate a second time."""
    diaries = [{"name": "lunch:Diary", "file": "one.txt"}, {"name": "lunch:Diary", "file": "two.txt", "fails_at": 3}]
    with pytest.raises(RuntimeError, match="the diary is full"):
        search(callbacks=diaries)
    code, out, err = nasbench("resume", "run", "-o", "callbacks=[{name: lunch:Diary, file: three.txt}]", "--json")
    assert code == 0, err
    report = json.loads(out)
    assert report["status"] == "complete"
    before = [line[1] for line in lines("one.txt") if line[0] == "candidate"]
    after = [line[1] for line in lines("three.txt") if line[0] == "candidate"]
    assert before == [0, 1, 2, 3] and after == list(range(4, len(report["candidates"])))
    assert lines("three.txt")[0] == ["begin", 4, "lunch"]


def test_a_retry_is_told_apart_from_a_candidate_that_ended(search):
    code, out, err = search(
        evaluator="lunch:every_other",
        search={"candidates": 6, "max_failures": 6},
        outcomes={"failed": {"retries": 2}},
        callbacks=[{"name": "lunch:Diary", "file": "diary.txt"}],
    )
    assert code == 0, err
    failed = [candidate for candidate in json.loads(out)["candidates"] if candidate["status"] == "failed"]
    retries = [line[1:] for line in lines("diary.txt") if line[0] == "retry"]
    assert retries == [[candidate["id"], "failed"] for candidate in failed for _ in range(2)] and failed


@pytest.mark.parametrize(
    ("callbacks", "words"),
    [
        (["lunch:Dairy"], ["Dairy", "Diary"]),
        ([{"name": "lunch:Diary", "file": "a", "fails_at": 1, "loud": True}], ["loud"]),
        (["lunch:NoCallback"], ["is not a subclass of nasbench.search.callbacks.Callback"]),
        ([{"name": "lunch:Diary"}], ["lunch:Diary", "file"]),
        ([{"name": "lunch:Diary", "file": "diary.txt", "fials_at": 2}], ["fials_at", "fails_at"]),
        ([{"file": "diary.txt"}], ["callbacks.0.name", "missing"]),
        (["diary"], ["diary", "module:Class"]),
    ],
)
def test_a_mistake_is_refused_before_the_search(search, callbacks, words):
    code, out, err = search(callbacks=callbacks)
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert all(word in line for word in words), line


def test_a_group_hands_on_everything_that_there_is_to_hear():
    """Whatever `Callback` has, `Callbacks` hands on, in the order of its members: also what will be added."""
    heard = []

    def note(name, member):
        return lambda self, *about, **more: heard.append((name, member, about, more))

    names = [name for name in vars(Callback) if not name.startswith("_")]
    members = [type("Member", (Callback,), {name: note(name, index) for name in names})() for index in range(2)]
    group = Callbacks(members)
    for name in names:
        about = tuple(range(getattr(Callback, name).__code__.co_argcount - 1))
        getattr(group, name)(*about)
        assert [call[:2] for call in heard] == [(name, 0), (name, 1)]
        assert all(call[2] == about and not call[3] for call in heard), name
        heard.clear()
