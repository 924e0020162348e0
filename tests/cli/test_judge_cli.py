"""``kubectl modelops judge`` as a person calls it."""

import argparse
import json
from pathlib import Path

import pytest

from modelops.cli import judge

EXAMPLES = Path(__file__).parent.parent / "analysis" / "data" / "judge-examples.json"


def _run(*words):
    parser = argparse.ArgumentParser()
    judge.add(parser.add_subparsers(required=True))
    args = parser.parse_args(["judge", *words])
    return args.run(args)


@pytest.fixture
def recording(tmp_path):
    cases = {case["name"]: case["input"] for case in json.loads(EXAMPLES.read_text())["cases"]}
    file = tmp_path / "samples.json"
    file.write_text(json.dumps(cases["example-harm-errors"]))
    return str(file)


def test_json_stands_alone_on_stdout(recording, capsys):
    assert _run("--samples", recording, "-o", "json") == 0
    out, err = capsys.readouterr()
    assert (json.loads(out)["verdict"], err) == ("Rollback", "")


def test_a_table_is_printed_for_people(recording, capsys):
    assert _run("--samples", recording) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [
        "WINDOW",
        "VERDICT",
        "REASON",
        "USED",
        "EVIDENCE",
        "ROBUST",
        "CERTIFICATE",
    ]
    assert lines[-1] == (
        "Rollback after 480s (RegressionEvidence): "
        "errors 5.2% vs 0.38% (n=250, 1576), evidence 169:1, bar 100:1"
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        pytest.param("{", "needs JSON", id="no JSON"),
        pytest.param("[" * 100000, "needs JSON", id="JSON too deep"),
        pytest.param("[]", "input: needs an object, found list", id="no object"),
        pytest.param(
            '{"intervalSeconds": 15, "samples": [{}]}',
            "samples[0].t: needs a multiple",
            id="bad sample",
        ),
        pytest.param(None, "needs a file that can be read", id="no file"),
    ],
)
def test_bad_input_ends_with_two_and_one_sentence(text, sentence, tmp_path, capsys):
    file = tmp_path / "broken.json"
    if text is not None:
        file.write_text(text)
    assert _run("--samples", str(file), "-o", "json") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"{file}: {sentence}")
    assert err.count("\n") == 1
