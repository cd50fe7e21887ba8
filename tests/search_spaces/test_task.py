"""What a network takes and gives: the simple case of one image and k classes, and everything else."""

import json
import pickle

import pytest
import torch

from nasbench_registry import UserError
from search_spaces import Task, TensorSpec

IMAGE = Task((3, 8, 9), 5)
TOKENS_AND_ROW = Task(
    inputs=(TensorSpec((12,), "int64", values=7), TensorSpec((4,))), outputs=(TensorSpec((2,)), TensorSpec((6, 3)))
)


def test_one_image_and_k_classes_are_a_case_of_the_general_one():
    assert Task(inputs=TensorSpec((3, 8, 9)), outputs=TensorSpec((5,))) == IMAGE
    assert IMAGE.input_shape == (3, 8, 9) and IMAGE.classes == 5 and IMAGE.is_image_to_vector
    assert not Task(inputs=TensorSpec((4,)), outputs=TensorSpec((1,))).is_image_to_vector
    assert not Task(inputs=TensorSpec((3, 8, 9)), outputs=TensorSpec((5, 8, 9))).is_image_to_vector


@pytest.mark.parametrize(
    "task", [IMAGE, TOKENS_AND_ROW, Task(inputs=TensorSpec((3, 8, 9)), outputs=TensorSpec((1,)))], ids=str
)
def test_tasks_survive_json_and_pickle(task):
    assert Task.from_json(json.loads(json.dumps(task.to_json()))) == task
    assert pickle.loads(pickle.dumps(task)) == task and hash(task) == hash(Task.from_json(task.to_json()))


def test_programs_read_input_shape_and_classes_of_an_image_task_as_before():
    assert IMAGE.to_json() == {"input_shape": [3, 8, 9], "classes": 5}


def test_examples_fit_the_inputs():
    tokens, row = TOKENS_AND_ROW.example(50, seed=0)
    assert tokens.shape == (50, 12) and tokens.dtype == torch.int64
    assert set(tokens.flatten().tolist()) == set(range(7))
    assert row.shape == (50, 4) and row.dtype == torch.float32 and 0.8 < float(row.std()) < 1.2
    assert torch.equal(row, TOKENS_AND_ROW.example(50, seed=0)[1])
    assert not any(tensor.any() for tensor in TOKENS_AND_ROW.example(2))


def test_what_takes_one_input_says_so_of_several():
    with pytest.raises(UserError, match="takes 2 inputs"):
        TOKENS_AND_ROW.one_input()


def test_several_inputs_are_packed_into_one():
    two = Task(inputs=(TensorSpec((12,), "int64", values=7), TensorSpec((3, 4), "bool")), outputs=TensorSpec((2,)))
    assert two.packed() == Task(inputs=TensorSpec((24,), "int64", values=7), outputs=TensorSpec((2,)))
    assert IMAGE.packed() is IMAGE and two.packed().one_input(2, seed=0).shape == (2, 24)
    with pytest.raises(UserError, match="takes int64, float32, and inputs of whole numbers and of others"):
        TOKENS_AND_ROW.packed()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"input_shape": (3, 8), "classes": 5}, r"is not \(channels, height, width\)"),
        ({"input_shape": (3, 8, 8), "classes": 1}, "at least 2"),
        ({"inputs": TensorSpec((3,))}, "inputs and outputs"),
        ({"inputs": (), "outputs": TensorSpec((3,))}, "one input and one output at least"),
    ],
)
def test_wrong_tasks_are_refused(arguments, words):
    with pytest.raises(UserError, match=words):
        Task(**arguments)


def test_a_tensor_has_sizes_and_values_above_zero():
    with pytest.raises(UserError, match="sizes below 1"):
        TensorSpec((3, 0))
    with pytest.raises(UserError, match="must be 1 or more"):
        TensorSpec((3,), "int64", values=0)
