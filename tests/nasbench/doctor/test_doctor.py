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
    (problem,) = problems(interpreter.look((3, 10, 4)), "python")
    assert (
        "Python 3.10.4" in problem.text
        and "3.11 to 3.14" in problem.text
        and problem.mend.startswith("make an environment")
    )
    assert not problems(interpreter.look((3, 12, 1)), "python")


def test_a_command_of_another_environment_is_a_problem(tmp_path, monkeypatch):
    command = tmp_path / "nasbench"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    (problem,) = problems(interpreter.look(), "command")
    assert str(command) in problem.text and "activate" in problem.mend
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert [finding.state for finding in interpreter.look() if finding.check == "command"] == ["note"]


@pytest.mark.parametrize("named", ["/nowhere/python", sys.executable])
def test_an_interpreter_that_converts_nothing_is_a_problem(named, monkeypatch):
    monkeypatch.setenv(interpreter.LITERT, named)
    (problem,) = problems(interpreter.look(), "litert")
    assert named in problem.text and "make litert" in problem.mend


def test_old_missing_and_broken_packages_are_problems(install):
    install("old-package", "1.2", code="")
    install("broken-package", "3.0", code="raise ImportError('no symbol in libfoo')")
    install("project", "0.1", ["old-package>=2.0", "absent-package", "broken-package>=1"])
    texts = [finding.text for finding in problems(packages.look("project"), "packages")]
    assert texts[0] == "old-package is 1.2, and >=2.0 is needed."
    assert texts[1] == "absent-package is not installed, and any version is needed."
    assert texts[2] == "broken-package 3.0 is installed, and importing it fails: ImportError no symbol in libfoo"
    assert len(texts) == 3
    assert len(problems(packages.look("project", imports=False), "packages")) == 2


def test_a_package_that_ends_the_process_is_a_problem(install):
    install("crashing-package", "1.0", code="import os; os._exit(11)")
    install("project", "0.1", ["crashing-package"])
    (problem,) = problems(packages.look("project"), "packages")
    assert "crashing-package 1.0" in problem.text and "ended with code 11" in problem.text


def test_extras_are_notes_where_they_are_missing_and_problems_where_they_are_old(install):
    install("runtime-one", "1.0", code="")
    install("project", "0.1", ['runtime-one>=2; extra == "fast"', 'runtime-two; extra == "small"'])
    findings = {finding.check: finding for finding in packages.look("project", imports=False)}
    assert (
        findings["extra fast"].state == "problem"
        and "runtime-one is 1.0, and >=2 is needed" in findings["extra fast"].text
    )
    assert findings["extra small"].state == "note" and findings["extra small"].mend == "pip install 'project[small]'"
    (missing,) = problems(packages.look("not-installed-at-all"), "packages")
    assert "not-installed-at-all itself is not installed" in missing.text


def test_a_missing_runtime_is_a_note_with_what_installs_it():
    findings = {finding.check: finding for finding in runtimes.look()}
    assert findings["backend eager"].state == "ok"
    assert findings["backend tensorrt"].mend == "pip install 'nasbench-framework[tensorrt]'"
    assert findings["backend tensorrt"].state == "note"
    assert {"gpu", "energy"} <= set(findings)


def test_a_torch_that_cannot_be_imported_is_a_problem_and_the_other_checks_go_on(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    findings = list(examine(imports=False))
    (problem,) = problems(findings, "torch")
    assert "no backend can run" in problem.text and problem.mend == "pip install --force-reinstall torch"
    assert {"disk", "memory", "data"} <= {finding.check for finding in findings}
    assert not any(finding.check.startswith("backend") for finding in findings)


def test_a_processor_without_instructions_for_int8_is_a_note(monkeypatch):
    monkeypatch.setattr(runtimes.platform, "machine", lambda: "x86_64")
    (note,) = runtimes.int8_findings({"avx2": True, "avx512_vnni": False})
    assert note.state == "note" and "no instructions for int8" in note.text and "nasbench explain" in note.mend
    for name in ("avx512_vnni", "avx_vnni"):
        assert [finding.state for finding in runtimes.int8_findings({name: True})] == ["ok"]
    monkeypatch.setattr(runtimes.platform, "machine", lambda: "aarch64")
    assert not list(runtimes.int8_findings({}))


def test_a_full_disk_is_a_problem(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 10, 2**20))
    disk_problems = problems(machine.look(), "disk")
    assert str(tmp_path) in disk_problems[0].text and "0.00 GiB left" in disk_problems[0].text and disk_problems[0].mend
    assert problems(machine.look(), "shared memory")


def test_a_wrong_number_of_threads_is_a_problem(monkeypatch):
    for wrong in ("many", "0", "100000"):
        monkeypatch.setenv("OMP_NUM_THREADS", wrong)
        (problem,) = problems(machine.look(), "threads")
        assert repr(wrong) in problem.text and "from 1 to" in problem.mend
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert not problems(machine.look(), "threads")


def test_a_data_folder_that_is_not_there_is_a_problem(tmp_path, monkeypatch):
    monkeypatch.setenv("NASBENCH_DATA", str(tmp_path / "gone"))
    (problem,) = problems(machine.look(), "data")
    assert str(tmp_path / "gone") in problem.text and problem.mend.startswith("mkdir -p")


def test_a_clock_that_changes_is_a_note(tmp_path):
    folder = tmp_path / "cpu0" / "cpufreq"
    folder.mkdir(parents=True)
    (folder / "scaling_governor").write_text("powersave\n")
    (folder / "scaling_max_freq").write_text("3400000\n")
    (note,) = [finding for finding in machine.look(tmp_path) if finding.check == "clock"]
    assert note.state == "note" and "powersave (up to 3400 MHz)" in note.text and "performance" in note.mend


def test_the_command_says_so_by_its_exit_code(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    done = CliRunner().invoke(app, ["doctor", "--no-imports", "--json"])
    report = json.loads(done.stdout)
    assert done.exit_code == 1 and report["problems"] >= 1
    assert {"check", "state", "text", "mend"} == set(report["findings"][0])
    shown = CliRunner().invoke(app, ["doctor", "--no-imports"])
    assert "PROBLEM" in shown.stdout and shown.exit_code == 1
