"""Names whose things are imported when they are asked for are the things that stand there."""

import importlib
import inspect
from pathlib import Path

import pytest

from nasbench_registry.lazy import Entries, attach_stub, load

ROOT = Path(__file__).parents[2]
STUBS = sorted(
    path.relative_to(root).parent
    for root in (ROOT, ROOT / "compression")
    for package in root.glob("*/__init__.py")
    for path in package.parent.rglob("__init__.pyi")
)
PACKAGES = [".".join(path.parts) for path in STUBS]


@pytest.mark.parametrize("name", PACKAGES)
def test_every_public_name_of_a_stub_is_there(name):
    package = importlib.import_module(name)
    assert package.__all__ and package.__all__ == dir(package)
    for public in package.__all__:
        assert getattr(package, public) is not None
    names = {path.stem for path in Path(package.__file__).parent.iterdir()}
    assert names & set(package.__all__) == set(), "a module of that name would stand in its place"
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = package.nothing


def test_there_are_stubs():
    assert {"search_spaces", "controllers", "nasbench_compression", "nasbench.report"} <= set(PACKAGES)


def test_a_name_is_looked_for_where_its_stub_says(tmp_path, monkeypatch):
    package = tmp_path / "lazy_package"
    package.mkdir()
    (package / "__init__.pyi").write_text("from lazy_package.late import Late as Late, other\n")
    (package / "__init__.py").write_text(
        "from nasbench_registry.lazy import attach_stub\n"
        "__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)\n"
    )
    (package / "late.py").write_text("class Late:\n    pass\n\n\nother = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    import lazy_package

    assert "lazy_package.late" not in importlib.sys.modules
    assert lazy_package.__all__ == ["Late"] == dir(lazy_package)
    assert lazy_package.Late.__module__ == "lazy_package.late"
    assert not hasattr(lazy_package, "other")
    assert attach_stub("lazy_package", lazy_package.__file__)[2] == ["Late"]


def registries():
    from controllers import CONTROLLERS
    from nasbench.devices.registry import DEVICES
    from nasbench.evaluators.registry import EVALUATORS
    from nasbench.latency.predictors import PREDICTORS
    from nasbench_compression import BACKENDS, STEPS
    from search_spaces import SPACES

    return [SPACES, CONTROLLERS, STEPS, BACKENDS, EVALUATORS, PREDICTORS, DEVICES]


@pytest.mark.parametrize("entries", registries(), ids=lambda entries: next(iter(entries.places.values())))
def test_what_classes_say_of_themselves_is_what_their_source_says(entries):
    for name in entries:
        cls = entries[name]
        assert inspect.isclass(cls) and cls is load(entries.places[name])
        attributes = tuple(attribute for attribute in ("summary", "source") if getattr(cls, attribute, None))
        assert "summary" in attributes
        assert entries.literals(name, attributes) == {attribute: getattr(cls, attribute) for attribute in attributes}


def test_what_backends_and_devices_need_is_what_their_source_says():
    from nasbench.data import DATASETS
    from nasbench.devices.registry import DEVICES
    from nasbench_compression import backends
    from nasbench_compression.registry import why_no_backend

    assert {name: why_no_backend(name) for name in backends} == {
        name: backends.find(name).why_unavailable() for name in backends
    }
    for name, device in DEVICES.items():
        assert DEVICES.literals(name, ("missing",)) == {"missing": device.missing}
    for name, read in DATASETS.items():
        assert DATASETS.docstring(name) == inspect.getdoc(inspect.getmodule(read))


def test_the_methods_of_a_step_are_in_its_source():
    from nasbench_compression.decomposition.decompose import METHODS, Decompose

    assert Decompose.source == "; ".join(f"{method.name}: {method.source}" for method in METHODS.values())


def test_a_text_that_is_no_literal_is_read_from_the_class(tmp_path, monkeypatch):
    (tmp_path / "computed_texts.py").write_text(
        "class Base:\n    source = 'inherited'\n\n\n"
        "class Computed(Base):\n    summary: str = ' and '.join(('one', 'two'))\n\n\n"
        "class Written(Base):\n    summary = 'written'\n    source = 'here'\n\n\n"
        "written = 1 / (__name__ != 'computed_texts')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    entries = Entries({"computed": "computed_texts:Computed", "written": "computed_texts:Written"})
    assert entries.literals("written", ("summary", "source")) == {"summary": "written", "source": "here"}
    with pytest.raises(ZeroDivisionError):
        entries.literals("computed", ("summary", "source"))
    (tmp_path / "computed_texts.py").write_text((tmp_path / "computed_texts.py").read_text().rpartition("written =")[0])
    importlib.invalidate_caches()
    assert entries.literals("computed", ("summary", "source")) == {"summary": "one and two", "source": "inherited"}
    assert len(entries) == 2 and "written" in entries and "other" not in entries
