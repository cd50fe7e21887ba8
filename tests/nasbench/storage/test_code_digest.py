"""Digests of a user's own code: what decides what a network computes changes them, and nothing else does."""

import subprocess
import sys
import textwrap

import pytest

from nasbench.storage.code_digest import changes, code_digests, versions
from search_spaces import get_space

FILES = {
    "digested_space.py": """
        import json
        import digested_tools
        from digested_blocks import Block

        class Space:
            '''A docstring.'''
            def build(self):
                import digested_late  # only when it is called
                return Block()
    """,
    "digested_tools.py": "import importlib\n\ndef more():\n    return importlib.import_module('digested_named')\n",
    "digested_late.py": "WIDTH = 8\n",
    "digested_named.py": "DEPTH = 2\n",
    "digested_alone.py": "NOBODY = 'imports this'\n",
    "digested_blocks/__init__.py": "from .conv import Block\n",
    "digested_blocks/conv.py": """
        from . import shared

        class Block:
            activation = "ReLU"
    """,
    "digested_blocks/shared.py": "SHARED = 1\n",
    "digested_blocks/unused.py": "UNUSED = 1\n",
}
REACHED = {
    *("digested_space", "digested_tools", "digested_late", "digested_named"),
    *("digested_blocks", "digested_blocks.conv", "digested_blocks.shared"),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("digested_")]:
        del sys.modules[name]


def space():
    import digested_space

    return digested_space.Space()


def test_every_module_that_is_reached_by_import_counts(folder):
    assert set(code_digests(space())) == REACHED
    assert "digested_late" not in sys.modules  # nothing is imported for it


@pytest.mark.parametrize("name", sorted(REACHED))
def test_an_edit_of_the_same_size_is_noticed_at_once(name, folder):
    before = code_digests(space())
    file = folder / (name.replace(".", "/") + ("/__init__.py" if name == "digested_blocks" else ".py"))
    file.write_text(file.read_text() + "X = 1\n")
    first = code_digests(space())
    file.write_text(file.read_text().replace("X = 1", "X = 2"))
    second = code_digests(space())
    for earlier, later in ((before, first), (first, second)):
        (message,) = changes(earlier, later)
        assert message == f"{name} ({file}) was edited"


def test_comments_layout_and_docstrings_do_not_count(folder):
    before = code_digests(space())
    file = folder / "digested_space.py"
    file.write_text("# a comment\n" + file.read_text().replace("A docstring.", "Another one.").replace("()", "(  )"))
    (folder / "digested_alone.py").write_text("EDITED = 1\n")
    assert changes(before, code_digests(space())) == []


def test_modules_that_come_and_go_are_told(folder):
    before = code_digests(space())
    (folder / "digested_tools.py").write_text("import digested_alone\n")
    messages = changes(before, code_digests(space()))
    assert [text.split(" ")[0] for text in messages] == ["digested_alone", "digested_named", "digested_tools"]
    assert [text.rsplit(" ", 1)[1] for text in messages] == ["new", "more", "edited"]


def test_code_that_cannot_be_parsed_is_digested_by_its_bytes(folder):
    file = folder / "digested_named.py"
    file.write_text("no Python :\n")
    before = code_digests(space())
    file.write_text("no Python ;\n")
    assert len(changes(before, code_digests(space()))) == 1


def test_another_process_finds_the_same(folder):
    code = "import digested_space as d; from nasbench.storage.code_digest import code_digests as c; print(c(d.Space()))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder)
    assert answer.stdout.strip() == repr(code_digests(space()))


def test_ours_and_what_is_installed_do_not_count(tmp_path, monkeypatch):
    place = tmp_path / "site-packages"
    place.mkdir()
    (place / "digested_plugin.py").write_text("import json, torch\n\nclass Space:\n    pass\n")
    monkeypatch.syspath_prepend(place)
    import digested_plugin

    assert code_digests(get_space("mobile"), digested_plugin.Space(), subprocess.Popen, textwrap.dedent) == {}
    del sys.modules["digested_plugin"]


def test_a_block_of_a_users_own_counts_for_a_space_of_ours(folder):
    (folder / "digested_mine.py").write_text(
        textwrap.dedent("""
        from torch import nn

        def block(inputs, outputs, kernel=3, stride=1):
            return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)
        """)
    )
    mobile = get_space("mobile", blocks=["convolution", "digested_mine:block"], widths=[8, 16], layers=1)
    assert list(code_digests(mobile)) == ["digested_mine"]
    assert list(code_digests([{"digested_mine:block": {}}])) == ["digested_mine"]


NOTEBOOK = """
import abc, copy, functools, inspect, pickle, typing
from nasbench.storage.code_digest import code_digests

WIDTH, calls, log = 8, 0, []

def helper(x):
    return x * WIDTH

class Base(abc.ABC):
    size_hint: "int" = 3
    def build(self):
        return helper(2)

class Space(Base):
    decisions = ("a", {"b": 1})
    @property
    def size(self):
        return len({"x", "y", "z"} & {"x"})

def evaluate(candidate):
    global calls
    calls += 1
    log.append(candidate)
    return {"f1": helper(calls)}

for _ in range(REPEATS):
    evaluate(1)
    copy.deepcopy(Space()), pickle.dumps(Space()), isinstance(1, Base), typing.get_type_hints(Space)
    inspect.signature(Space), hash(Space), Space.__doc__, Space().size
print(code_digests(Space(), functools.partial(evaluate)))
"""


def digests_of(source, seed="0"):
    answer = subprocess.run(
        [sys.executable, "-c", source],
        capture_output=True,
        text=True,
        check=True,
        env={**__import__("os").environ, "PYTHONHASHSEED": seed},
    )
    return answer.stdout


def test_what_a_notebook_defines_is_known_by_value():
    plain = digests_of(NOTEBOOK.replace("REPEATS", "0"))
    assert "__main__:Space" in plain
    assert "__main__:evaluate" in plain
    # What a function writes its results into is not what it depends on, nor is what Python keeps in a class it copied.
    assert digests_of(NOTEBOOK.replace("REPEATS", "3"), seed="7") == plain
    edits = {"WIDTH, calls, log = 8": "WIDTH, calls, log = 9", "x * WIDTH": "x + WIDTH", '{"b": 1}': '{"b": 2}'}
    for before, after in edits.items():
        assert digests_of(NOTEBOOK.replace("REPEATS", "0").replace(before, after)) != plain


def test_versions_know_torch_and_our_files():
    assert set(versions("search_spaces")) == {"torch", "nasbench"}
    assert versions("search_spaces") != versions("nasbench_compression")
