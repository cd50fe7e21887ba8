"""The experiment file that `init` writes is one."""

import pytest

from nasbench.experiment.loading import load_experiment


def test_the_file_is_an_experiment_that_a_dry_run_accepts(nasbench, tmp_path):
    code, out, err = nasbench("init", "mine.yaml")
    assert (code, err) == (0, "") and "--dry-run" in out
    text = (tmp_path / "mine.yaml").read_text()
    assert sum(line.startswith("#") for line in text.splitlines()) >= 8
    experiment = load_experiment(tmp_path / "mine.yaml")
    assert (experiment.space.name, experiment.data.name, experiment.search.candidates) == ("mobile", "digits", 12)
    code, out, err = nasbench("search", "mine.yaml", "--dry-run", "-o", "device.runtime=eager", "-o", "recipe=[]")
    assert code == 0, err


def test_space_and_data_are_filled_in_and_nothing_is_overwritten(nasbench, tmp_path):
    assert nasbench("init", "--space", "nasbench201", "--data", "fashion_mnist")[0] == 0
    experiment = load_experiment(tmp_path / "experiment.yaml")
    assert (experiment.space.name, experiment.data.name) == ("nasbench201", "fashion_mnist")
    code, _, err = nasbench("init")
    assert code == 2 and "is there already" in err


@pytest.mark.parametrize("help_flag", ["-h", "--help"])
def test_help(nasbench, help_flag):
    code, out, _ = nasbench("init", help_flag)
    assert code == 0 and "commented experiment file" in out
