"""The engine of the CPU tier: onnxruntime over a graph that `convert/` made. No torch in this process.

The same contract as engine.py: rows [0, n) of a preallocated cache are the batch, each row has its own length. The
graph's attention writes to the rows in place, so a step binds memory and copies nothing.

Memory: the weights twice while loading (as filed and as the kernels want them), then rows × longest sequence × bytes a
token in float32 (SmolLM2-135M 45 KB, Phi-3-mini 768 KiB); only pages that were written count.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from prefixes import Prefix, PrefixStore

# Since 1.29 it reports to Microsoft from Linux too, unless this is set before it comes in.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime

MODEL, FACTS, PROBE = "model.onnx", "converted.json", "probe.onnx"
FIRST_CAPACITY = 512  # columns; doubles when a longer sequence comes
PREFILL_TOKENS = 2048  # padded prompt tokens in one pass: bounds memory, and nothing is gained beyond it
Array = Any  # of numpy


class Rows:
    """Keys and values of every layer: (layers × 2, rows, heads, columns, size)."""

    def __init__(self, layers: int, rows: int, heads: int, size: int) -> None:
        # Not touched until written: the system gives memory page by page.
        self.cache: Array = np.zeros((2 * layers, rows, heads, FIRST_CAPACITY, size), np.float32)

    @property
    def columns(self) -> int:
        return int(self.cache.shape[3])

    def grow(self, columns: int) -> bool:
        have = self.columns
        if columns <= have:
            return False
        layers, rows, heads, _, size = self.cache.shape
        new: Array = np.zeros((layers, rows, heads, max(columns, 2 * have), size), np.float32)
        new[:, :, :, :have] = self.cache
        self.cache = new
        return True

    def move(self, source: int, target: int, length: int) -> None:
        self.cache[:, target, :, :length] = self.cache[:, source, :, :length]

    def save(self, row: int, tokens: Sequence[int]) -> Prefix:
        return Prefix(list(tokens), [self.cache[:, row, :, : len(tokens)].copy()], [])

    def load(self, row: int, prefix: Prefix, length: int) -> None:
        self.cache[:, row, :, :length] = prefix.keys[0][:, :, :length]


def open_session(folder: Path) -> tuple[Any, dict[str, Any]]:
    """The loaded graph, and what convert/ wrote down about it. Raises what onnxruntime raises for a broken one, and
    RuntimeError on a processor that would compute it wrongly."""
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    if (folder / PROBE).is_file():
        (found,) = _session(folder / PROBE).run(None, {"bytes": np.full((1, 64), 255, np.uint8)})
        if found.item() != 64 * 255 * 127:
            raise RuntimeError(
                "this processor adds up products of bytes in 16 bits (it lacks VNNI), so this model's answers would be "
                "wrong: take a newer instance type, or convert the model with a recipe that has blocks"
            )
    return _session(folder / MODEL), facts


def _session(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    threads = os.environ.get("OMP_NUM_THREADS", "")  # what bounds the other tier bounds this one
    options.intra_op_num_threads = int(threads) if threads.isdecimal() else 0  # 0: one a core
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


class OrtEngine:
    """Scores for prompts and for next tokens. Not thread-safe: one thread owns it."""

    def __init__(self, session: Any, facts: dict[str, Any], rows: int, prefix_tokens: int) -> None:
        self.session = session
        self.stop_ids, self.context = frozenset(facts["stop_ids"]), int(facts["context"])
        self.vocabulary = int(facts["vocabulary"])
        self.rows = Rows(facts["layers"], rows, facts["heads"], facts["size"])
        self.prefixes = PrefixStore(prefix_tokens)
        self._bound: dict[tuple[int, int, int], tuple[Any, dict[str, Array]]] = {}

    def prefill(self, first: int, prompts: Sequence[Sequence[int]]) -> tuple[Array, int]:
        """Fill rows first, first+1, … and return the scores after each prompt (n, vocabulary) and how many prompt
        tokens came from kept prefixes. Prompts of like length should be neighbours: they are padded together."""
        self._grow(max(map(len, prompts)))
        starts = [self._reuse(row, prompt, prompts) for row, prompt in enumerate(prompts, first)]
        rests = [list(p[s:]) for p, s in zip(prompts, starts, strict=True)]
        out, at = [], 0
        while at < len(rests):
            upto, widest = at + 1, len(rests[at])
            while upto < len(rests) and (upto + 1 - at) * max(widest, len(rests[upto])) <= PREFILL_TOKENS:
                widest, upto = max(widest, len(rests[upto])), upto + 1
            out.append(self._forward(first + at, rests[at:upto], starts[at:upto]))
            at = upto
        return np.concatenate(out), sum(starts)

    def decode(self, tokens: Sequence[int], lengths: Sequence[int]) -> Array:
        """Append one token to each of the rows [0, n), whose lengths are given; the scores after it, valid until the
        next call."""
        return self._forward(0, [[t] for t in tokens], lengths)

    def _reuse(self, row: int, prompt: Sequence[int], others: Sequence[Sequence[int]]) -> int:
        prefix, length, worth_keeping = self.prefixes.plan(prompt, others)
        if prefix:
            self.rows.load(row, prefix, length)
        if worth_keeping > length:  # compute it once, alone; every later prompt copies it
            self._forward(row, [list(prompt[length:worth_keeping])], [length])
            self.prefixes.keep(self.rows.save(row, prompt[:worth_keeping]))
        return max(length, worth_keeping)

    def _grow(self, columns: int) -> None:
        if self.rows.grow(columns):
            self._bound.clear()  # they point into the old memory

    def _forward(self, first: int, tokens: Sequence[Sequence[int]], starts: Sequence[int]) -> Array:
        counts = [len(t) for t in tokens]
        width = max(counts)
        lengths = [s + c for s, c in zip(starts, counts, strict=True)]
        self._grow(max(lengths))
        binding, memory = self._binding(first, len(tokens), width)
        memory["ids"][:] = [[*t, *([0] * (width - len(t)))] for t in tokens]
        memory["new"][:] = counts
        memory["last"][:] = [n - 1 for n in lengths]
        memory["longest"][...] = max(lengths)
        memory["wanted"][:] = [row * width + count - 1 for row, count in enumerate(counts)]
        self.session.run_with_iobinding(binding)
        scores = memory["scores"]
        return scores if width == 1 else scores.copy()

    def _binding(self, first: int, count: int, width: int) -> tuple[Any, dict[str, Array]]:
        """Where the graph reads and writes; kept for single tokens, whose shape comes again and again."""
        key = (first, count, width)
        if key in self._bound:
            return self._bound[key]
        memory: dict[str, Array] = {
            "ids": np.zeros((count, width), np.int64), "new": np.zeros(count, np.int32),
            "last": np.zeros(count, np.int32), "longest": np.zeros((), np.int32),
            "wanted": np.zeros(count, np.int64), "scores": np.zeros((count, self.vocabulary), np.float32),
        }  # fmt: skip
        binding = self.session.io_binding()
        for name, array in memory.items():
            bind = binding.bind_output if name == "scores" else binding.bind_input
            bind(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        for at, stored in enumerate(self.rows.cache):
            part, name = stored[first : first + count], f"{at // 2}_{('key', 'value')[at % 2]}"
            where = ("cpu", 0, np.float32, part.shape, part.ctypes.data)
            binding.bind_input(f"past_{name}", *where)
            binding.bind_output(f"present_{name}", *where)
        if width == 1:
            self._bound[key] = binding, memory
        return binding, memory
