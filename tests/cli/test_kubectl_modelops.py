"""The program as a whole: what it prints without a cluster, what it loads, how it says no."""

import os
import subprocess
import sys

import pytest

from modelops.cli.main import COMMANDS, PIPE_CLOSED, main

HEAVY = ("kubernetes", "aiohttp", "pydantic", "yaml", "asyncio", "prometheus_client")
PRINT_LOADED = (
    "import sys; from modelops.cli.main import main\n"
    "try: main({words!r})\n"
    "except SystemExit: pass\n"
    "print('loaded', *sorted({heavy!r} & sys.modules.keys()))"
)


@pytest.mark.parametrize(
    "words",
    [
        pytest.param([], id="alone"),
        pytest.param(["--help"], id="help"),
        *(
            pytest.param([name, "--help"], id=f"help of {name}")
            for name in COMMANDS
            if name not in ("fit", "judge")
        ),
        pytest.param(["digest", "."], id="digest"),
    ],
)
def test_what_needs_no_cluster_loads_no_client(words, tmp_path):
    (tmp_path / "file").write_text("x")
    program = PRINT_LOADED.format(words=words, heavy=set(HEAVY))
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.splitlines()[-1] == "loaded", done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    out = capsys.readouterr().out
    assert ended.value.code == 0
    assert f"kubectl modelops {name}" in out.partition("example:")[2]


def test_alone_it_lists_every_command(capsys):
    assert main([]) == 0
    out = capsys.readouterr().out
    assert all(f"    {name} " in out for name in COMMANDS)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        pytest.param(
            ["status", "chat", "-A"],
            "chat: needs one namespace, found --all-namespaces; leave out the name or the flag",
            id="one service of all namespaces",
        ),
        pytest.param(
            ["rollout", "stop", "chat"],
            "rollout: needs NAME, or one of promote, abort, retry, pause, resume and NAME, found stop chat; "
            "correct it",
            id="an unknown action",
        ),
        pytest.param(
            ["rollout", "abort", "chat", "--watch"],
            "chat: an action is answered in one sentence; leave --watch and --output out",
            id="an action that is watched",
        ),
        pytest.param(
            ["approve", "chat-1", "--reason", "x", "--expires-in", "soon"],
            "chat-1: --expires-in: wanted a duration such as 30s, 2m, 1h30m or 90d, found 'soon'; correct it",
            id="no duration",
        ),
        pytest.param(
            ["approve", "chat-1", "--reason", "x", "--expires-in", "99999d"],
            "chat-1: needs an end within 100 years, found 99999d; give a shorter --expires-in",
            id="an end after all of us",
        ),
        pytest.param(
            ["approve", "chat-1", "--reason", "x", "--expires-in", "0s"],
            "chat-1: needs an end in the future, found 0s; give a longer --expires-in",
            id="an end that is now",
        ),
        pytest.param(
            ["approve", "chat-1", "--reason", "x", "--revoke", "--expires-in", "1h"],
            "chat-1: only an approval ends by itself; leave --expires-in out",
            id="a revocation that ends",
        ),
        pytest.param(
            ["--kubeconfig", "/nonexistent", "status"],
            "kubeconfig /nonexistent: needs a file, found none; correct --kubeconfig or KUBECONFIG",
            id="no kubeconfig",
        ),
    ],
)
def test_a_refusal_is_one_sentence_on_stderr(words, sentence, capsys):
    assert main(words) == 1
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"{sentence}\n")


def test_a_server_that_does_not_answer_is_told_with_what_to_check(tmp_path, capsys):
    config = tmp_path / "config"
    config.write_text(
        "{current-context: c, contexts: [{name: c, context: {cluster: c, user: u}}], "
        "clusters: [{name: c, cluster: {server: 'http://127.0.0.1:9'}}], users: [{name: u, user: {}}]}"
    )
    assert main(["--kubeconfig", str(config), "status"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("cluster: needs an API server that answers, found list InferenceService default: ")
    assert err.endswith("; check --context and the network\n")


def test_a_reader_that_has_enough_is_no_error(tmp_path):
    (tmp_path / "file").touch()
    reader, writer = os.pipe()
    os.close(reader)
    program = [sys.executable, "-m", "modelops.cli.main", "digest", str(tmp_path)]
    done = subprocess.run(program, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (PIPE_CLOSED, b"")
