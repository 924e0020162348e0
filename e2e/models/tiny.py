"""Make a tiny chat model as GGUF, byte for byte the same on every run.

It writes words without sense and never ends an answer by itself, so that the length of a stream is
what the request asks for.  How: component 0 of the hidden state is the same positive number for
every token (embeddings put it there, no layer writes it), and the output rows of all tokens that
must not be written, the end of sequence among them, are a large negative number on it.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

TEMPLATE = (
    "{% for message in messages %}"
    "{{ message['role'] + ': ' + message['content'] + '\n ' }}"
    "{% endfor %}assistant:"
)
"""The space after a line makes the next role a word of the vocabulary."""

WORDS = (
    "user", "assistant", "system", "hello", "hi", "the", "a", "model", "cluster", "node", "pod",
    "service", "canary", "stable", "weight", "traffic", "token", "stream", "answer", "question", "yes",
    "no", "and", "or", "not", "is", "are", "was", "will", "can", "may", "must", "should", "runs",
    "waits", "starts", "ends", "moves", "shifts", "grows", "falls", "rises", "holds", "keeps", "reads",
    "writes", "sends", "gets", "sees", "tells", "asks", "knows", "learns", "helps", "quickly", "slowly",
    "calmly", "safely", "often", "never", "always", "again", "soon", "later", "now", "here", "there",
    "today", "with", "without", "from", "into", "over", "under", "between", "after", "before", "while",
    "because", "so", "then", "one", "two", "three", "four", "five", "many", "few", "all", "some",
    "more", "less", "good", "better", "best", "small", "large", "quiet", "busy", "warm", "cold", "new",
    "old", "first", "last", "next",
)  # fmt: skip
"""All that the model can write, and role names so that a chat prompt is a few tokens."""

PROMPT_WORDS = ("user", "assistant", "system", "hello", "hi")
"""Words that are one token in a prompt: the tokenizer reaches a word only through all its beginnings."""

SPACE = "\u2581"
FORBIDDEN_LOGIT = -10.0
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6


@dataclass(frozen=True, slots=True)
class Geometry:
    """The sizes that decide bytes and time per token."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    ffn: int
    context_tokens: int


GEOMETRY = Geometry(layers=4, width=128, heads=4, kv_heads=2, ffn=256, context_tokens=4096)
"""1.4 MB and half a millisecond of one core per token, however many streams share it (README.md)."""

Matrix = NDArray[np.float16] | NDArray[np.float32]


def write_repository(folder: Path, revisions: Sequence[str], geometry: Geometry) -> list[Path]:
    """Write one folder per revision with a model and a README; return the files.

    The name of a revision is its seed, so a revision is the same wherever it is made.
    """
    written = []
    for revision in revisions:
        target = folder / revision
        target.mkdir(parents=True, exist_ok=True)
        model, readme = target / f"{folder.name}.gguf", target / "README.md"
        write_model(model, seed=seed_of(revision), geometry=geometry)
        readme.write_text(
            f"---\nlicense: apache-2.0\npipeline_tag: text-generation\n---\n# {folder.name} {revision}\n"
        )
        written += [model, readme]
    return written


def seed_of(revision: str) -> int:
    """Return the seed that belongs to the name of a revision."""
    return int.from_bytes(hashlib.sha256(revision.encode()).digest()[:8], "big")


def write_model(path: Path, *, seed: int, geometry: Geometry) -> None:
    """Write a llama model with random weights.

    Source: research/engines.md 6.2.
    """
    tokens, scores, types = vocabulary()
    writer = gguf.GGUFWriter(path, "llama")
    _metadata(writer, geometry, len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(True)
    writer.add_chat_template(TEMPLATE)
    for name, tensor in _tensors(np.random.PCG64(seed), geometry, tokens):
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def vocabulary() -> tuple[list[str], list[float], list[int]]:
    """Return tokens, scores and types: control, bytes, characters, words, their beginnings, padding to 32."""
    characters = [chr(code) for code in range(0x21, 0x7F)] + [SPACE]
    rows = [("<unk>", 0.0, UNKNOWN), ("<s>", 0.0, CONTROL), ("</s>", 0.0, CONTROL)]
    rows += [(f"<0x{byte:02X}>", 0.0, BYTE) for byte in range(256)]
    rows += [(character, -100.0, NORMAL) for character in characters]
    rows += [(SPACE + word, -float(rank), NORMAL) for rank, word in enumerate(WORDS, 1)]
    begun = {SPACE + word[:length] for word in PROMPT_WORDS for length in range(1, len(word))}
    rows += [(part, -500.0, NORMAL) for part in sorted(begun - {row[0] for row in rows})]
    rows += [(f"<pad{number}>", -1000.0, CONTROL) for number in range(-len(rows) % 32)]
    return [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows]


def _metadata(writer: gguf.GGUFWriter, geometry: Geometry, vocabulary_size: int) -> None:
    writer.add_name("tiny-chat")
    writer.add_license("apache-2.0")
    writer.add_context_length(geometry.context_tokens)
    writer.add_embedding_length(geometry.width)
    writer.add_block_count(geometry.layers)
    writer.add_feed_forward_length(geometry.ffn)
    writer.add_head_count(geometry.heads)
    writer.add_head_count_kv(geometry.kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(geometry.width // geometry.heads)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(vocabulary_size)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)


def _tensors(chance: np.random.PCG64, geometry: Geometry, tokens: Sequence[str]) -> list[tuple[str, Matrix]]:
    width, ffn = geometry.width, geometry.ffn
    kv_width = width // geometry.heads * geometry.kv_heads
    ones = np.ones(width, dtype=np.float32)

    def noise(rows: int, columns: int, size: float = 0.05) -> NDArray[np.float32]:
        # Raw bits are the only stream that numpy keeps the same over its versions.
        bits = (chance.random_raw(rows * columns) >> np.uint64(40)).astype(np.float32)
        uniform = bits / np.float32(2**23) - np.float32(1)
        return (uniform * np.float32(size * 3**0.5)).reshape(rows, columns)

    def quiet(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
        matrix[0, :] = 0  # no layer writes component 0
        return matrix

    embedding = noise(len(tokens), width)
    embedding[:, 0] = 1
    output = noise(len(tokens), width, 0.1)
    output[:, 0] = 0
    spoken = {SPACE + word for word in WORDS}
    for row, token in enumerate(tokens):
        if token not in spoken:
            output[row] = 0
            output[row, 0] = FORBIDDEN_LOGIT

    tensors: list[tuple[str, Matrix]] = [
        ("token_embd.weight", embedding.astype(np.float16)),
        ("output_norm.weight", ones),
        ("output.weight", output.astype(np.float16)),
    ]
    for layer in range(geometry.layers):
        block: list[tuple[str, Matrix]] = [
            ("attn_norm", ones),
            ("attn_q", noise(width, width).astype(np.float16)),
            ("attn_k", noise(kv_width, width).astype(np.float16)),
            ("attn_v", noise(kv_width, width).astype(np.float16)),
            ("attn_output", quiet(noise(width, width)).astype(np.float16)),
            ("ffn_norm", ones),
            ("ffn_gate", noise(ffn, width).astype(np.float16)),
            ("ffn_up", noise(ffn, width).astype(np.float16)),
            ("ffn_down", quiet(noise(width, ffn)).astype(np.float16)),
        ]
        tensors += [(f"blk.{layer}.{name}.weight", tensor) for name, tensor in block]
    return tensors
