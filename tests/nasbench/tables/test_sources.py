"""Fetching, with a folder in place of the network; nothing is written unless every file is right."""

import dataclasses
import gzip
import json
import pickle
import shutil
import urllib.error
import urllib.request

import numpy as np
import pytest

from nasbench.tables.nasbench201 import load_nasbench201, load_numbers
from nasbench.tables.sources import SOURCES, FetchError, fetch, get_source, verify
from nasbench_registry import UserError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty data folder, and no cache beside it."""
    monkeypatch.setenv("NASBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "data"


@pytest.fixture
def raw(data_file):
    """The published files, in two folders of one."""
    return data_file("nasbench201/raw_exact").parent


@pytest.fixture
def flat(raw, tmp_path):
    """The published files in one folder, which may be changed."""
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    for file in (*raw.glob("raw/*"), *raw.glob("raw_exact/*")):
        shutil.copy(file, mirror)
        (mirror / file.name).chmod(0o644)
    return mirror


def test_the_converted_table_equals_the_given_one(raw, data_file, folder):
    expected = gzip.decompress(data_file("nasbench201/nasbench201.csv.gz").read_bytes())
    arrived = []
    written, exact = fetch(get_source("nasbench201"), mirror=raw, on_bytes=lambda name, count: arrived.append(name))
    assert written == folder / "nasbench201/nasbench201.csv.gz"
    assert gzip.decompress(written.read_bytes()) == expected
    expected_exact = data_file("nasbench201/test_acc_200ep_exact.csv.gz").read_bytes()
    assert gzip.decompress(exact.read_bytes()) == gzip.decompress(expected_exact)
    assert sorted(arrived) == sorted(file.name for file in get_source("nasbench201").files)
    assert verify(get_source("nasbench201")) == {written: "", exact: ""}
    assert len(load_nasbench201()) == 15_625
    assert sorted(written.parent.iterdir()) == [written, exact], "nothing else is left behind"


def test_a_corrupted_file_is_refused_and_nothing_is_written(flat, folder):
    mirror = flat
    file = mirror / "cifar100_perfmetrics.txt"
    file.write_bytes(file.read_bytes().replace(b"5", b"6", 1))
    with pytest.raises(FetchError, match=r"cifar100_perfmetrics.txt has the SHA-256 \w{16}\.\.\. in place of e1a024b"):
        fetch(get_source("nasbench201"), mirror=mirror)
    assert not folder.exists()


def test_a_pickle_is_not_opened_before_its_hash_is_right(folder, tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / "mini-bench-arch-cell-accs.pd").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(FetchError, match="SHA-256"):
        fetch(get_source("nasbench201"), mirror=mirror)
    assert not (tmp_path / "sprung").exists()


def test_only_numbers_are_read_from_a_pickle(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    for content in (pickle.dumps([Trap()]), pickle.dumps([np.array([1.0])]), pickle.dumps(["text"])):
        with pytest.raises(UserError, match=r"numbers"):
            load_numbers(content)
    assert not (tmp_path / "sprung").exists()


def test_a_mirror_may_be_compressed(raw, folder, tmp_path):
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    for file in (*raw.glob("raw/*"), *raw.glob("raw_exact/*")):
        (mirror / f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes(), 1))
    assert len(fetch(get_source("nasbench201"), mirror=mirror)) == 2
    (mirror / "cifar100_perfmetrics.txt.gz").write_bytes(b"no gzip")
    with pytest.raises(UserError, match="is no gzip file"):
        fetch(get_source("nasbench201"), mirror=mirror)


def test_a_mirror_without_a_file_names_it(raw, folder, tmp_path):
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    shutil.copy(raw / "raw" / "mini-bench-arch-cell-accs.pd", mirror)
    with pytest.raises(UserError, match=r"no readable .*cifar10_perfmetrics.txt \(No such file"):
        fetch(get_source("nasbench201"), mirror=mirror)


def test_the_download_itself(flat, folder):
    """From file:// addresses, which go the same way as https://."""
    source = get_source("nasbench201")
    local = tuple(dataclasses.replace(file, url=(flat / file.name).as_uri()) for file in source.files)
    counted = dict.fromkeys((file.name for file in local), 0)

    def on_bytes(name, count):
        counted[name] += count

    fetch(dataclasses.replace(source, files=local), on_bytes=on_bytes)
    assert counted == {name: (flat / name).stat().st_size for name in counted}
    assert load_nasbench201().params.min() > 0


@pytest.mark.parametrize("error", [urllib.error.URLError("no route to host"), TimeoutError("timed out")])
def test_without_a_network_the_address_and_the_way_out_are_named(folder, monkeypatch, error):
    def offline(url, timeout):
        raise error

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    with pytest.raises(FetchError, match=r"https://raw\.githubusercontent\.com/.*--mirror"):
        fetch(get_source("nasbench201"))
    assert not folder.exists()


def test_the_addresses_are_pinned_to_commits():
    for source in SOURCES.values():
        assert len({file.name for file in source.files}) == len(source.files)
        for file in source.files:
            host, *path = file.url.removeprefix("https://").split("/")
            assert path[-1] == file.name and len(file.sha256) == 64
            if host == "raw.githubusercontent.com":
                assert len(path[2]) == 40
            else:  # where the authors of a data set, or those who keep it, publish it as it is
                assert host in ("www.cs.toronto.edu", "storage.googleapis.com")


def test_the_latency_tables_are_verified(data_file, folder, monkeypatch):
    raw_folder = data_file("latency_nasbench201/raw")
    source = get_source("latency_nasbench201")
    monkeypatch.setenv("NASBENCH_DATA", str(raw_folder.parents[1]))
    assert set(verify(source).values()) == {""} and len(verify(source)) == 20
    monkeypatch.setenv("NASBENCH_DATA", str(folder))
    assert len(fetch(source, mirror=raw_folder)) == 20
    changed = folder / "latency_nasbench201/raw/fpga.pt"
    changed.write_bytes(b"changed")
    wrong = {path: problem for path, problem in verify(source).items() if problem}
    assert list(wrong) == [changed] and "in place of 6a0333c1476a3ab0..." in wrong[changed]


def test_the_commands(nasbench, raw, folder, tmp_path):
    code, out, _ = nasbench("data", "list", "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert code == 0 and set(rows) == set(SOURCES) and rows["nasbench201"]["at_hand"] is None
    code, _, err = nasbench("data", "verify", "nasbench201")
    assert code == 2 and "run: nasbench data fetch nasbench201" in err
    code, out, _ = nasbench("data", "fetch", "nasbench201", "--mirror", raw, "--json")
    assert code == 0 and json.loads(out)["files"][0] == str(folder / "nasbench201/nasbench201.csv.gz")
    code, out, _ = nasbench("data", "verify", "nasbench201", "--json")
    report = json.loads(out)
    assert code == 0 and report["sound"] and report["seconds"] > 0 and report["peak_memory_mib"] > 0
    code, out, _ = nasbench("data", "list", "--json")
    (at_hand,) = (row["at_hand"] for row in json.loads(out) if row["name"] == "nasbench201")
    assert code == 0 and at_hand == str(folder / "nasbench201/nasbench201.csv.gz")
    code, out, _ = nasbench("data", "list")  # long paths are folded
    assert code == 0 and "nasbench201" in out

    (folder / "nasbench201/nasbench201.csv.gz").write_bytes(b"")
    code, out, _ = nasbench("data", "verify", "nasbench201")
    assert code == 1 and "fetch nasbench201" in " ".join(out.split())
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    code, _, err = nasbench("data", "fetch", "nasbench201", "--mirror", mirror)
    assert code == 2 and "Traceback" not in err
    (mirror / "mini-bench-arch-cell-accs.pd").write_bytes(b"other")
    code, _, err = nasbench("data", "fetch", "nasbench201", "--mirror", mirror)
    assert code == 1 and "in place of bda800741eea1512..." in err and len(err.strip().splitlines()) == 1
    code, _, err = nasbench("data", "fetch", "nasbench20")
    assert code == 2 and "Did you mean 'nasbench201'" in err
