"""The programs of the one command, as a person meets them."""

import subprocess
import sys

import pytest

from modelops.__main__ import main


def test_help_names_every_program_in_a_line(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    told = capsys.readouterr().out
    assert "    operator  " in told
    assert "run the controllers" in told
    assert "print the version" in told


def test_the_version_is_printed(capsys):
    assert main(["version"]) == 0
    assert capsys.readouterr().out.startswith("modelops ")


def test_an_unknown_program_is_refused_with_the_list(capsys):
    with pytest.raises(SystemExit) as end:
        main(["operate"])
    assert end.value.code == 2
    assert "invalid choice: 'operate'" in capsys.readouterr().err


def test_the_operator_refuses_a_wrong_file_before_anything_else(capsys, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("prometheus: {}\n")
    assert main(["operator", "--config", str(path)]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"modelops operator: {path}: ")
    assert told.count("\n") == 1


def test_the_operator_says_that_there_is_no_cluster_to_connect_to(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("{prometheus: {url: http://x}, images: {operator: x}, metricsPort: 0, probesPort: 0}")
    done = subprocess.run(
        [sys.executable, "-m", "modelops", "operator", "--config", path, "--kubeconfig", tmp_path / "absent"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "connecting needs a service account or a kubeconfig" in done.stderr
    assert "Traceback" not in done.stderr
