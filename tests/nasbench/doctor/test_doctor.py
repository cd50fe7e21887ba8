"""Each defect that is set up is found, with what mends it."""

import json
import shutil
import sys
from collections import namedtuple

import pytest
from typer.testing import CliRunner

from nasbench.cli.app import app
from nasbench.doctor import interpreter, machine, packages, runtimes
from nasbench.doctor.examine import examine


def problems(findings, check):
    return [finding for finding in findings if finding.state == "problem" and finding.check == check]


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Put a distribution on the path, as pip would: its requirements, and the code of its module."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def put(name, version, requires=(), code=None):
        folder = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        lines = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
        lines += [f"Requires-Dist: {requirement}" for requirement in requires]
        extras = {requirement.split('extra == "')[1][:-1] for requirement in requires if "extra ==" in requirement}
        lines += [f"Provides-Extra: {extra}" for extra in sorted(extras)]
        (folder / "METADATA").write_text("\n".join(lines) + "\n")
        if code is not None:
            module = name.replace("-", "_")
            (folder / "top_level.txt").write_text(module + "\n")
            (tmp_path / f"{module}.py").write_text(code)

    return put


def test_another_python_is_a_problem(monkeypatch):
    (found,) = problems(interpreter.look((3, 10, 4)), "python")
    assert (
        "Python 3.10.4" in found.text and "3.11 to 3.14" in found.text and found.mend.startswith("make an environment")
    )
    assert not problems(interpreter.look((3, 12, 1)), "python")


def test_a_command_of_another_environment_is_a_problem(tmp_path, monkeypatch):
    other = tmp_path / "nasbench"
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    (found,) = problems(interpreter.look(), "command")
    assert str(other) in found.text and "activate" in found.mend
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert [finding.state for finding in interpreter.look() if finding.check == "command"] == ["note"]


@pytest.mark.parametrize("named", ["/nowhere/python", sys.executable])
def test_an_interpreter_that_converts_nothing_is_a_problem(named, monkeypatch):
    monkeypatch.setenv(interpreter.LITERT, named)
    (found,) = problems(interpreter.look(), "litert")
    assert named in found.text and "make litert" in found.mend


def test_old_missing_and_broken_packages_are_problems(install):
    install("old-package", "1.2", code="")
    install("broken-package", "3.0", code="raise ImportError('no symbol in libfoo')")
    install("project", "0.1", ["old-package>=2.0", "absent-package", "broken-package>=1"])
    found = [finding.text for finding in problems(packages.look("project"), "packages")]
    assert found[0] == "old-package is 1.2, and >=2.0 is needed."
    assert found[1] == "absent-package is not installed, and any version is needed."
    assert found[2] == "broken-package 3.0 is installed, and importing it fails: ImportError no symbol in libfoo"
    assert len(found) == 3
    assert len(problems(packages.look("project", imports=False), "packages")) == 2


def test_a_package_that_ends_the_process_is_a_problem(install):
    install("crashing-package", "1.0", code="import os; os._exit(11)")
    install("project", "0.1", ["crashing-package"])
    (found,) = problems(packages.look("project"), "packages")
    assert "crashing-package 1.0" in found.text and "ended with code 11" in found.text


def test_extras_are_notes_where_they_are_missing_and_problems_where_they_are_old(install):
    install("runtime-one", "1.0", code="")
    install("project", "0.1", ['runtime-one>=2; extra == "fast"', 'runtime-two; extra == "small"'])
    found = {finding.check: finding for finding in packages.look("project", imports=False)}
    assert (
        found["extra fast"].state == "problem" and "runtime-one is 1.0, and >=2 is needed" in found["extra fast"].text
    )
    assert found["extra small"].state == "note" and found["extra small"].mend == "pip install 'project[small]'"
    (missing,) = problems(packages.look("not-installed-at-all"), "packages")
    assert "not-installed-at-all itself is not installed" in missing.text


def test_a_missing_runtime_is_a_note_with_what_installs_it():
    found = {finding.check: finding for finding in runtimes.look()}
    assert found["backend eager"].state == "ok"
    assert found["backend tensorrt"].mend == "pip install 'nasbench-framework[tensorrt]'"
    assert found["backend tensorrt"].state == "note"
    assert {"gpu", "energy"} <= set(found)


def test_a_torch_that_cannot_be_imported_is_a_problem_and_the_other_checks_go_on(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    findings = list(examine(imports=False))
    (found,) = problems(findings, "torch")
    assert "no backend can run" in found.text and found.mend == "pip install --force-reinstall torch"
    assert {"disk", "memory", "data"} <= {finding.check for finding in findings}
    assert not any(finding.check.startswith("backend") for finding in findings)


def test_a_processor_without_instructions_for_int8_is_a_note(monkeypatch):
    monkeypatch.setattr(runtimes.platform, "machine", lambda: "x86_64")
    (found,) = runtimes.int8_findings({"avx2": True, "avx512_vnni": False})
    assert found.state == "note" and "no instructions for int8" in found.text and "nasbench explain" in found.mend
    for name in ("avx512_vnni", "avx_vnni"):
        assert [finding.state for finding in runtimes.int8_findings({name: True})] == ["ok"]
    monkeypatch.setattr(runtimes.platform, "machine", lambda: "aarch64")
    assert not list(runtimes.int8_findings({}))


def test_a_full_disk_is_a_problem(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 10, 2**20))
    found = problems(machine.look(), "disk")
    assert str(tmp_path) in found[0].text and "0.00 GiB left" in found[0].text and found[0].mend
    assert problems(machine.look(), "shared memory")


def test_a_wrong_number_of_threads_is_a_problem(monkeypatch):
    for wrong in ("many", "0", "100000"):
        monkeypatch.setenv("OMP_NUM_THREADS", wrong)
        (found,) = problems(machine.look(), "threads")
        assert repr(wrong) in found.text and "from 1 to" in found.mend
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert not problems(machine.look(), "threads")


def test_a_data_folder_that_is_not_there_is_a_problem(tmp_path, monkeypatch):
    monkeypatch.setenv("NASBENCH_DATA", str(tmp_path / "gone"))
    (found,) = problems(machine.look(), "data")
    assert str(tmp_path / "gone") in found.text and found.mend.startswith("mkdir -p")


def test_a_clock_that_changes_is_a_note(tmp_path):
    folder = tmp_path / "cpu0" / "cpufreq"
    folder.mkdir(parents=True)
    (folder / "scaling_governor").write_text("powersave\n")
    (folder / "scaling_max_freq").write_text("3400000\n")
    (found,) = [finding for finding in machine.look(tmp_path) if finding.check == "clock"]
    assert found.state == "note" and "powersave (up to 3400 MHz)" in found.text and "performance" in found.mend


def test_the_command_says_so_by_its_exit_code(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    done = CliRunner().invoke(app, ["doctor", "--no-imports", "--json"])
    told = json.loads(done.stdout)
    assert done.exit_code == 1 and told["problems"] >= 1
    assert {"check", "state", "text", "mend"} == set(told["findings"][0])
    shown = CliRunner().invoke(app, ["doctor", "--no-imports"])
    assert "PROBLEM" in shown.stdout and shown.exit_code == 1
