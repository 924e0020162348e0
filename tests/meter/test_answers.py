"""What the meter reads from an answer that passes, with time as an argument."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelops.meter.answers import LONGEST_LINE_BYTES, Answer, Code, Ending, Outcome, is_inference

CHAT = "/v1/chat/completions"
SSE = "text/event-stream; charset=utf-8"
DONE = b"data: [DONE]\n\n"


def event(**fields: object) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def chat(content: str | None = None, finish: str | None = None, **more: object) -> bytes:
    delta = {} if content is None else {"content": content}
    return event(choices=[{"index": 0, "delta": delta, "finish_reason": finish}], **more)


ROLE = event(choices=[{"index": 0, "delta": {"role": "assistant", "content": None}, "finish_reason": None}])
USAGE = event(choices=[], usage={"prompt_tokens": 24, "completion_tokens": 9, "total_tokens": 33})
STREAM = ROLE + chat("one") + chat(" two") + chat(" three") + chat(finish="length") + USAGE + DONE


def read(
    *chunks: tuple[bytes, float],
    path: str = CHAT,
    kind: str = SSE,
    status: int = 200,
    ending: Ending = Ending.COMPLETE,
    ends: float = 20.0,
) -> Outcome:
    answer = Answer(path, 10.0)
    answer.begin(status, content_type=kind)
    for chunk, now in chunks:
        answer.feed(chunk, now)
    return answer.end(ends, ending)


def test_the_times_of_a_stream_are_exact():
    outcome = read(
        (ROLE, 10.1),
        (chat("one"), 10.5),
        (chat(" two"), 10.75),
        (chat(" three"), 11.0),
        (chat(finish="length") + DONE, 11.5),
        ends=12.0,
    )
    assert outcome == Outcome(Code.OK, 0.5, 0.25, 2.0, prompt_tokens=0, generation_tokens=3)


def test_usage_counts_before_events_do():
    outcome = read((chat("one"), 11.0), (chat(" two"), 15.0), (USAGE + DONE, 15.0))
    assert (outcome.prompt_tokens, outcome.generation_tokens) == (24, 9)
    assert outcome.tpot_seconds == 0.5  # four seconds over nine tokens less the first


def test_llama_cpp_timings_count_when_there_is_no_usage():
    timings = {"cache_n": 20, "prompt_n": 4, "predicted_n": 5, "predicted_ms": 7.5}
    last = chat(finish="length", timings=timings) + DONE
    outcome = read((chat("a"), 11.0), (chat("b"), 13.0), (last, 13.0))
    assert (outcome.prompt_tokens, outcome.generation_tokens, outcome.tpot_seconds) == (24, 5, 0.5)


@pytest.mark.parametrize(
    ("path", "events", "tokens"),
    [
        pytest.param(CHAT, [chat("a"), chat("b"), DONE], 2, id="chat"),
        pytest.param(
            CHAT,
            [event(choices=[{"delta": {"reasoning_content": "hm"}}]), chat("b"), DONE],
            2,
            id="thinking is generated too",
        ),
        pytest.param(
            CHAT,
            [event(choices=[{"delta": {"tool_calls": [{"index": 0}]}}]), chat("b"), DONE],
            2,
            id="a tool call is generated too",
        ),
        pytest.param(
            "/v1/completions",
            [event(choices=[{"text": "a", "finish_reason": None}]), event(choices=[{"text": "b"}]), DONE],
            2,
            id="text completions",
        ),
        pytest.param(
            "/v1/responses",
            [
                event(type="response.output_text.delta", delta="a"),
                event(type="response.output_text.delta", delta="b"),
                event(type="response.output_text.done", text="ab"),
                event(
                    type="response.completed",
                    response={"error": None, "usage": {"input_tokens": 3, "output_tokens": 7}},
                ),
            ],
            7,
            id="responses",
        ),
        pytest.param(
            "/v1/messages",
            [
                event(type="message_start", message={"usage": {"input_tokens": 3, "output_tokens": 1}}),
                event(type="content_block_delta", delta={"type": "text_delta", "text": "a"}),
                event(type="content_block_delta", delta={"type": "text_delta", "text": "b"}),
                event(type="message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 8}),
                event(type="message_stop"),
            ],
            8,
            id="messages",
        ),
        pytest.param(
            "/completion",
            [
                event(content="a", stop=False, tokens_predicted=1, tokens_evaluated=7),
                event(content="b", stop=False, tokens_predicted=2, tokens_evaluated=7),
                event(content="", stop=True, tokens_predicted=2, tokens_evaluated=7),
            ],
            2,
            id="llama.cpp completions",
        ),
        pytest.param(
            "/generate",
            [
                event(text="a", meta_info={"completion_tokens": 1, "finish_reason": None}),
                event(text="ab", meta_info={"completion_tokens": 6, "finish_reason": {"type": "length"}}),
                DONE,
            ],
            6,
            id="SGLang generate",
        ),
    ],
)
def test_every_dialect_has_its_first_content_and_its_tokens(path, events, tokens):
    outcome = read(*((each, 11.0 + at) for at, each in enumerate(events)), path=path)
    assert outcome.code is Code.OK
    assert outcome.generation_tokens == tokens
    assert outcome.ttft_seconds is not None
    assert outcome.tpot_seconds is not None


@pytest.mark.parametrize(
    ("chunks", "status", "ending", "code"),
    [
        pytest.param([STREAM], 200, Ending.COMPLETE, Code.OK, id="a whole stream"),
        pytest.param([b"{}"], 404, Ending.COMPLETE, Code.CLIENT_ERROR, id="a wrong model"),
        pytest.param([b"{}"], 500, Ending.COMPLETE, Code.SERVER_ERROR, id="the engine failed at once"),
        pytest.param([ROLE + chat("a")], 200, Ending.ENGINE_CUT, Code.SERVER_ERROR, id="cut midway"),
        pytest.param([ROLE + chat("a")], 200, Ending.COMPLETE, Code.SERVER_ERROR, id="ended without a mark"),
        pytest.param([], 200, Ending.COMPLETE, Code.SERVER_ERROR, id="ended before it began"),
        pytest.param(
            [chat("a"), event(error={"message": "EngineCore", "code": 500}), DONE],
            200, Ending.COMPLETE, Code.SERVER_ERROR, id="an error inside a 200",
        ),
        pytest.param(
            [chat("a"), b'error: {"code":500}\n\n'],
            200, Ending.COMPLETE, Code.SERVER_ERROR, id="an error as the name of the field",
        ),
        pytest.param([chat("a")], 200, Ending.CLIENT_LEFT, Code.ABORTED, id="the client left"),
        pytest.param([chat("a"), DONE], 200, Ending.CLIENT_LEFT, Code.OK, id="left with the last event"),
        pytest.param(
            [chat("a"), event(error="x")],
            200, Ending.CLIENT_LEFT, Code.SERVER_ERROR, id="left because of the error",
        ),
    ],
)  # fmt: skip
def test_how_a_stream_is_counted(chunks, status, ending, code):
    outcome = read(*((chunk, 11.0) for chunk in chunks), status=status, ending=ending)
    assert outcome.code is code
    assert (outcome.e2e_seconds is None) is (code is not Code.OK)


def test_a_clean_end_is_believed_where_dialects_have_no_mark():
    outcome = read((event(text="a"), 11.0), path="/generate")
    assert outcome.code is Code.OK


def test_an_answer_that_never_began_is_the_engines_failure():
    assert Answer(CHAT, 10.0).end(11.0, Ending.ENGINE_CUT) == Outcome(Code.SERVER_ERROR)
    assert Answer(CHAT, 10.0).end(11.0, Ending.CLIENT_LEFT) == Outcome(Code.ABORTED)


def test_a_whole_answer_is_timed_to_its_first_byte_and_has_no_time_per_token():
    body = b'{"choices":[{"message":{"content":"\\"completion_tokens\\": 99,"}}],"usage":{"completion_tokens": 3,"prompt_tokens":24}}'  # noqa: E501
    outcome = read((body[:40], 11.0), (body[40:], 12.0), kind="application/json", ends=13.0)
    assert outcome == Outcome(Code.OK, 1.0, None, 3.0, prompt_tokens=24, generation_tokens=3)


def test_an_encoded_answer_is_timed_only():
    answer = Answer(CHAT, 10.0)
    answer.begin(200, content_type=SSE, is_encoded=True)
    answer.feed(b"\x1f\x8b\x08", 11.0)
    assert answer.end(12.0, Ending.COMPLETE) == Outcome(Code.OK, 1.0, None, 2.0)


def test_tokens_of_an_aborted_request_are_counted():
    outcome = read((chat("a") + chat("b"), 11.0), ending=Ending.CLIENT_LEFT)
    assert (outcome.code, outcome.generation_tokens) == (Code.ABORTED, 2)


def test_one_event_with_all_tokens_has_no_time_per_token():
    assert read((chat("all at once") + USAGE + DONE, 11.0)).tpot_seconds is None


def test_a_line_without_end_is_not_kept():
    answer = Answer("/generate", 10.0)
    answer.begin(200, content_type=SSE)
    for _ in range(3):
        answer.feed(b"data: " + b"x" * LONGEST_LINE_BYTES, 11.0)
    answer.feed(b"\n\n" + event(text="after"), 12.0)
    outcome = answer.end(13.0, Ending.COMPLETE)
    assert (outcome.ttft_seconds, outcome.generation_tokens) == (1.0, 2)


@given(st.lists(st.integers(0, len(STREAM)), max_size=30))
def test_where_a_stream_is_cut_into_chunks_makes_no_difference(cuts):
    edges = sorted({0, *cuts, len(STREAM)})
    chunks = [STREAM[start:end] for start, end in itertools.pairwise(edges)]
    whole = read((STREAM, 11.0))
    assert read(*((chunk, 11.0) for chunk in chunks)) == whole
    assert (whole.code, whole.prompt_tokens, whole.generation_tokens) == (Code.OK, 24, 9)


@given(st.lists(st.integers(0, 200), max_size=30))
def test_where_a_whole_answer_is_cut_makes_no_difference(cuts):
    body = b'{"object":"list","usage" : {"prompt_tokens" : 1234567 ,\n"completion_tokens":89}, "data":[]}'
    edges = sorted({0, *(cut for cut in cuts if cut < len(body)), len(body)})
    chunks = [(body[start:end], 11.0) for start, end in itertools.pairwise(edges)]
    outcome = read(*chunks, kind="application/json")
    assert (outcome.prompt_tokens, outcome.generation_tokens) == (1234567, 89)


_ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "delta", "usage", "error", "type", "message", "response", "timings", "meta_info",
                 "content", "completion_tokens", "prompt_n", "cache_n", "predicted_n", "finish_reason"]
            ),
            inner,
        )
    ),
    max_leaves=15,
)  # fmt: skip


@given(
    st.lists(st.binary() | _ANY_JSON.map(lambda value: b"data: " + json.dumps(value).encode() + b"\n\n")),
    st.sampled_from([SSE, "application/json", "", "\x00"]),
    st.integers(100, 599),
    st.sampled_from(list(Ending)),
)
def test_any_bytes_are_read_without_an_error(chunks, kind, status, ending):
    outcome = read(*((chunk, 11.0) for chunk in chunks), kind=kind, status=status, ending=ending)
    assert outcome.code in Code
    assert 0 <= outcome.prompt_tokens <= 10**13
    assert 0 <= outcome.generation_tokens <= 10**13


def test_a_deep_nest_of_brackets_is_survived():
    assert read((b"data: " + b"[" * 200_000 + b"\n\n" + DONE, 11.0)).code is Code.OK


@pytest.mark.parametrize(
    ("method", "path", "is_judged"),
    [
        ("POST", "/v1/chat/completions", True),
        ("POST", "/completion", True),
        ("POST", "/v2/models/fraud/infer", True),
        ("POST", "/v2/models/fraud/versions/3/infer", True),
        ("GET", "/v1/chat/completions", False),
        ("GET", "/health", False),
        ("POST", "/v2/models/a/b/infer", False),
        ("POST", "/v1/chat/completions/", False),
        ("POST", "/stand-in/knobs", False),
    ],
)
def test_which_requests_are_judged(method, path, is_judged):
    assert is_inference(method, path) is is_judged
