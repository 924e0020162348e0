"""What is told of a container that ended, and what never is."""

import pytest

from modelops.serving.lastwords import HIDDEN, MAX_TAIL, redacted, told
from modelops.serving.snapshot import Exit


@pytest.mark.parametrize(
    ("line", "secret"),
    [
        pytest.param("HF_TOKEN=hf_abcdefghijklmnopqrstu", "hf_abcdefghijklmnopqrstu", id="a hub token"),
        pytest.param("Authorization: Bearer abc.def-123", "abc.def-123", id="a bearer token"),
        pytest.param("GET https://alice:pa55@hub.example.com/x", "pa55", id="a password in an address"),
        pytest.param('{"api_key": "k-1234567"}', "k-1234567", id="a key in JSON"),
        pytest.param("AWS_SECRET_ACCESS_KEY: wJalrXUtnFEMI/K7", "wJalrXUtnFEMI/K7", id="a cloud key"),
        pytest.param("id AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLE", id="the name of a cloud key"),
        pytest.param("jwt eyJhbGciOiJIUzI1.eyJzdWIi.c2ln", "eyJzdWIi", id="a JSON web token"),
        pytest.param("?X-Amz-Signature=0123abcd&x=1", "0123abcd", id="a signed address"),
        pytest.param(
            "-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc\n-----END RSA PRIVATE KEY-----",
            "MIIE",
            id="a private key",
        ),
        pytest.param("-----BEGIN PRIVATE KEY-----\nMIIE", "MIIE", id="a private key that was cut"),
        pytest.param("db password = hunter2 now", "hunter2", id="a password in words"),
    ],
)
def test_no_secret_is_told(line, secret):
    found = redacted(f"before\n{line}\nafter it")
    assert secret not in found
    assert HIDDEN in found
    assert found.startswith("before")


@pytest.mark.parametrize(
    "line",
    [
        "prompt_tokens: 12, tokenizer loaded",
        "ValueError: To serve at least one request with the model's max seq len (131072), 16.0 GiB is needed",
        "error: invalid argument: --key-cache",
    ],
)
def test_what_is_no_secret_stays(line):
    assert redacted(line) == line


def test_the_end_of_a_log_is_told_by_whole_lines():
    found = redacted("\n".join(f"line {number}" for number in range(2000)))
    assert len(found) <= MAX_TAIL
    assert found.endswith("line 1999")
    assert found.startswith("line ")


def test_a_secret_over_the_cut_is_hidden_whole():
    found = redacted(f"password={'x' * 200}" + "y" * (MAX_TAIL - 100))
    assert "xxx" not in found


def test_control_characters_are_dropped():
    assert redacted("a\x1b[31mb\x00c\nd") == "a[31mbc\nd"


@pytest.mark.parametrize(
    ("exit", "engine", "words"),
    [
        pytest.param(Exit("OOMKilled", 137), "vLLM", "needs more memory", id="out of memory"),
        pytest.param(
            Exit("Error", 1, log_tail="x\nTo serve at least one request with the model's max seq len (9)\ny"),
            "vLLM",
            "lower engine.contextTokens (To serve at least one request with the model's max seq len (9))",
            id="a context that does not fit",
        ),
        pytest.param(
            Exit("Error", 1, log_tail="llama: failed to load model\nexiting due to model loading error"),
            "LlamaCpp",
            "cannot read its file",
            id="a damaged file",
        ),
        pytest.param(
            Exit("Completed", 0, log_tail="Some of the models failed to load during startup!"),
            "MLServer",
            "cannot load its model",
            id="MLServer, which calls that a success",
        ),
        pytest.param(Exit("Error", 3, log_tail="what?"), "vLLM", None, id="words that nobody knows"),
        pytest.param(Exit("Error", 3, log_tail="what?"), "", None, id="an engine that nobody knows"),
    ],
)
def test_the_failure_says_what_to_do(exit, engine, words):
    found = told(exit, engine)
    assert (found["reason"], found["exitCode"]) == (exit.reason, exit.code)
    assert found["oomKilled"] is (exit.reason == "OOMKilled")
    assert ("message" in found) is (words is not None)
    if words:
        assert words in found["message"]
