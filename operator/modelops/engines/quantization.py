"""How many bytes quantised weights take, by what config.json or a GGUF file says of its scheme.

A scheme that is not known gives no number, so that nobody plans with one.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Self

WEIGHT_BYTES = {"float32": 4.0, "float": 4.0, "float64": 8.0}
"""Bytes per parameter of a type that is not quantised; every other one has 2."""
SCALE_BYTES = 2
MXFP4_BYTES = 17 / 32
"""4 bits, and one exponent byte per 32."""
NVFP4_BYTES = 9 / 16
"""4 bits, and one FP8 scale per 16."""
ROW_SCALE_BYTES = 0.01
"""Room for scales per row or per block of 128 x 128, beside 1 byte per weight."""
NEVER_QUANTISED = {
    # Meta's own recipe quantises the feed-forward alone, and lists of exceptions are often cut short.
    "fbgemm_fp8": ("*.self_attn.*",),
    # What is not an expert stays as it was.
    "mxfp4": ("*.self_attn.*", "lm_head", "*.mlp.gate_proj", "*.mlp.up_proj", "*.mlp.down_proj"),
}
ALWAYS_WHOLE = ("lm_head",)
"""Modules that keep their type unless a scheme says otherwise."""

GGUF_BITS = {
    "F32": 32.0, "F16": 16.0, "BF16": 16.0, "Q8_0": 8.5, "Q6_K": 6.6, "Q5_K_M": 5.8, "Q5_K_S": 5.6,
    "Q5_1": 6.1, "Q5_0": 5.7, "Q4_K_M": 5.0, "Q4_K_S": 4.8, "Q4_1": 5.2, "Q4_0": 4.8, "IQ4_NL": 4.8,
    "IQ4_XS": 4.6, "Q3_K_L": 4.5, "Q3_K_M": 4.1, "Q3_K_S": 3.8, "IQ3_M": 3.9, "IQ3_S": 3.8, "IQ3_XS": 3.6,
    "IQ3_XXS": 3.4, "Q2_K": 3.4, "Q2_K_S": 3.1, "IQ2_M": 3.1, "IQ2_S": 2.9, "IQ2_XXS": 2.5,
    "MXFP4": 4.6, "NVFP4": 4.8,
}  # fmt: skip
"""Bits per parameter of a whole file by ``general.file_type``, rounded up: a fallback for when no header
told the bytes.  Source: table of llama.cpp's quantize tool for an 8B model, whose large vocabulary keeps
more bits than most."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """Bytes per weight of quantised modules, and which modules are left as they were."""

    method: str
    """Empty: not quantised."""
    weight_bytes: float
    whole_bytes: float
    """Per parameter of what is not quantised."""
    whole: tuple[str, ...] = ()
    """Names, parts of names, patterns with ``*``, or regular expressions after ``re:``."""

    @classmethod
    def read(cls, text: Mapping[str, Any]) -> Self | None:
        """Return the scheme of a configuration's language part; None when it is not known here."""
        plain = WEIGHT_BYTES.get(str(text.get("torch_dtype") or text.get("dtype")), 2.0)
        found = text.get("quantization_config")
        if not isinstance(found, Mapping):
            return cls("", plain, plain)
        method = str(found.get("quant_method") or found.get("quant_algo") or "").lower()
        weight_bytes = _weight_bytes(method, found)
        if weight_bytes is None:
            return None
        left = (*_names(found), *NEVER_QUANTISED.get(method, ()), *ALWAYS_WHOLE)
        return cls(method, weight_bytes, plain, left)

    def bytes_of(self, module: str, *, is_linear: bool) -> float:
        """Return bytes per parameter of *module*; embeddings, norms, biases and routers stay as they were."""
        if not self.method or not is_linear or any(_names_it(entry, module) for entry in self.whole):
            return self.whole_bytes
        return self.weight_bytes


def bytes_per_parameter(quantization: str | None) -> float | None:
    """Return bytes per parameter of a whole model by the one word that is known of it; None: not known.

    The word is a type such as bfloat16, or a GGUF file type such as Q4_K_M.
    """
    word = quantization or "bfloat16"
    if word.upper() in GGUF_BITS:
        return GGUF_BITS[word.upper()] / 8
    return {**WEIGHT_BYTES, "bfloat16": 2.0, "float16": 2.0}.get(word.lower())


def _weight_bytes(method: str, found: Mapping[str, Any]) -> float | None:
    match method:
        case "awq" | "gptq" | "auto-round":
            return _grouped(found.get("bits") or found.get("w_bit"), found)
        case "fp8" | "fbgemm_fp8":
            return 1 + ROW_SCALE_BYTES
        case "mxfp4":
            return MXFP4_BYTES
        case "nvfp4":
            return NVFP4_BYTES
        case "modelopt" | "modelopt_fp4":
            return _weight_bytes(str(found.get("quant_algo")).lower(), {})
        case "compressed-tensors":
            return _compressed(found)
        case _:
            return None


def _grouped(bits: Any, found: Mapping[str, Any]) -> float | None:
    """Return the bytes of packed integers, with a scale and a zero point per group; -1: per column."""
    if bits not in (2, 3, 4, 8):
        return None
    group = found.get("group_size") or found.get("q_group_size") or 128
    if not isinstance(group, int) or group <= 0:
        return float(bits) / 8 + ROW_SCALE_BYTES
    return float(bits) / 8 + (SCALE_BYTES + float(bits) / 8) / group


def _compressed(found: Mapping[str, Any]) -> float | None:
    """Return the bytes of the widest group of weights; several groups are planned like it."""
    groups = found.get("config_groups")
    if not isinstance(groups, Mapping) or not groups:
        return None
    sizes = []
    for group in groups.values():
        weights = group.get("weights") if isinstance(group, Mapping) else None
        if not isinstance(weights, Mapping):
            return None
        bits, kind = weights.get("num_bits"), weights.get("type")
        if bits not in (2, 3, 4, 8) or kind not in ("int", "float"):
            return None
        if kind == "float" and bits == 8:
            sizes.append(1 + ROW_SCALE_BYTES)
        elif kind == "float":
            sizes.append(MXFP4_BYTES if weights.get("group_size") == 32 else NVFP4_BYTES)
        else:
            sizes.append(_grouped(bits, {"group_size": weights.get("group_size") or -1}) or 0.0)
    return max(sizes)


def _names(found: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the modules that a configuration leaves out of quantisation."""
    listed: list[Any] = []
    for key in ("modules_to_not_convert", "ignore", "ignored_layers", "exclude_modules"):
        value = found.get(key)
        listed += value if isinstance(value, list) else []
    return tuple(name for name in listed if isinstance(name, str) and name)


def _names_it(entry: str, module: str) -> bool:
    """Tell whether *entry* names *module*, a part of it, or what holds it."""
    if entry.startswith("re:"):
        try:
            return any(re.match(entry[3:], name) for name in (module, f"{module}.weight"))
        except re.error:
            return True  # what cannot be read is taken to leave the module as it was, which is no less
    if "*" in entry:
        return fnmatchcase(module, entry) or fnmatchcase(module, f"{entry}.*")
    return entry == module or entry in module or module.startswith(f"{entry}.")
