"""Runs the model over rows of a preallocated key/value cache, so that requests can join and leave a running batch.

Why not `generate`: it copies the whole cache at every token, keeps finished sequences in the batch, and lets nobody
in. Here each row starts at column 0 and has its own length, a mask hides what lies behind it, and rows [0, n) are the
batch. The model's own forward does the work (any decoder whose attention takes a 4-D mask: Llama, Phi-3, Phi-4-mini).

Memory: rows × longest sequence × key/value bytes a token (SmolLM2-135M 23 KB, Phi-3-mini 384 KiB); on a CPU only
pages that were written count.
"""

from collections.abc import Sequence
from typing import Any

import torch
from prefixes import Prefix, PrefixStore
from torch import Tensor

# Attention sees whole blocks of columns: the CPU kernel then sums in the same order whatever the neighbours' lengths,
# and a bf16 answer is the same to the bit alone, in a batch, and behind a kept prefix (measured with torch 2.13 on
# AVX-512 and AMX; needs MKL_CBWR, see score.py, and packing.py).
BLOCK = 128
QUERIES, NARROW = 32, 16  # the kernel takes QUERIES at a time, and rounds in another order where it has under NARROW
FIRST_CAPACITY = 4 * BLOCK  # columns; doubles when a longer sequence comes
PREFILL_TOKENS = (
    2048  # padded prompt tokens in one forward pass: bounds memory, and nothing is gained beyond it on a CPU
)


class Rows:
    """The cache the model writes to: per layer a (rows, heads, columns, size) tensor of keys and one of values."""

    def __init__(self, layers: int, rows: int, heads: int, size: int, like: Tensor) -> None:
        self.count = rows
        shape = (rows, heads, FIRST_CAPACITY, size)
        # Zeros, not empty: a hidden column still takes part as 0 × value, and 0 × NaN is NaN.
        self.keys, self.values = (
            [torch.zeros(shape, dtype=like.dtype, device=like.device) for _ in range(layers)] for _ in range(2)
        )

    def grow(self, columns: int) -> None:
        have = self.keys[0].shape[2]
        if columns <= have:
            return
        for tensors in (self.keys, self.values):
            for i, old in enumerate(tensors):
                new = old.new_zeros(*old.shape[:2], max(columns, 2 * have), old.shape[3])
                new[:, :, :have] = old
                tensors[i] = new

    def aim(self, first: int, count: int, positions: Tensor, end: int) -> None:
        """Next pass: rows [first, first+count) get tokens at `positions` (count, tokens) and see columns [0, end).
        With more positions than rows, the one row is sent several times."""
        rows = torch.arange(first, first + count, device=positions.device)
        self.write = (rows.expand(len(positions))[:, None], positions)
        self.read, self.end = slice(first, first + count), end

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Called by each attention layer (the part of transformers' Cache that a forward pass needs)."""
        rows, columns = self.write
        for store, new in ((self.keys[layer], keys), (self.values[layer], values)):
            store[rows, :, columns] = new.transpose(1, 2)
        seen = (self.keys[layer][self.read, :, : self.end], self.values[layer][self.read, :, : self.end])
        return seen[0].expand(len(keys), -1, -1, -1), seen[1].expand(len(keys), -1, -1, -1)

    @torch.inference_mode()
    def move(self, source: int, target: int, length: int) -> None:
        for store in (*self.keys, *self.values):
            store[target, :, :length] = store[source, :, :length]

    def save(self, row: int, tokens: Sequence[int]) -> Prefix:
        kept = [[store[row, :, : len(tokens)].clone() for store in stores] for stores in (self.keys, self.values)]
        return Prefix(list(tokens), *kept)

    def load(self, row: int, prefix: Prefix, length: int) -> None:
        for stores, kept in ((self.keys, prefix.keys), (self.values, prefix.values)):
            for store, part in zip(stores, kept, strict=True):
                store[row, :, :length] = part[:, :length]


def padded(tokens: int) -> int:
    """So many tokens, or a few more, that attention never has a last handful of queries to itself."""
    rest = tokens % QUERIES
    return tokens + NARROW - rest if 0 < rest < NARROW else tokens


def stop_ids(eos: int | list[int] | None) -> frozenset[int]:
    """Every id that ends an answer (Phi-3 has three in its generation_config)."""
    return frozenset(eos if isinstance(eos, list) else [] if eos is None else [eos])


def context(config: Any) -> int:
    """Tokens a prompt and its answer may have. A LongRoPE model (Phi-3.5, Phi-4-mini) changes the frequencies of a
    whole batch when one row passes its original length, which would change its neighbours' answers: stop there."""
    rope, longest = getattr(config, "rope_parameters", None) or {}, config.max_position_embeddings
    original = rope.get("original_max_position_embeddings") if rope.get("rope_type") == "longrope" else None
    return min(longest, original or longest)


class Engine:
    """Logits for prompts and for next tokens. Not thread-safe: one thread owns it."""

    def __init__(self, model: Any, rows: int, prefix_tokens: int) -> None:
        config = model.config
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.body, self.head = model.base_model, model.get_output_embeddings()
        self.stop_ids, self.context = stop_ids(model.generation_config.eos_token_id), context(config)
        like = model.get_input_embeddings().weight
        self.device, self.dtype, self.window = like.device, like.dtype, getattr(config, "sliding_window", None)
        self.rows = Rows(config.num_hidden_layers, rows, heads, size, like)
        self.prefixes = PrefixStore(prefix_tokens)

    @torch.inference_mode()
    def prefill(self, first: int, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, int]:
        """Fill rows first, first+1, … and return the logits after each prompt (n, vocabulary) and how many prompt
        tokens came from kept prefixes. Prompts of like length should be neighbours: they are padded together."""
        self.rows.grow(max(map(len, prompts)))
        starts = [self._reuse(row, prompt, prompts) for row, prompt in enumerate(prompts, first)]
        rests = [list(p[s:]) for p, s in zip(prompts, starts, strict=True)]
        out, at = [], 0
        while at < len(rests):
            upto, widest = at + 1, len(rests[at])
            while upto < len(rests) and (upto + 1 - at) * max(widest, len(rests[upto])) <= PREFILL_TOKENS:
                widest, upto = max(widest, len(rests[upto])), upto + 1
            out.append(self._forward(first + at, rests[at:upto], starts[at:upto]))
            at = upto
        return torch.cat(out), sum(starts)

    @torch.inference_mode()
    def decode(self, tokens: Sequence[int], lengths: Sequence[int]) -> Tensor:
        """Append one token to each of the rows [0, n), whose lengths are given; the logits after it."""
        return self._forward(0, [[t] for t in tokens], lengths, decoding=True)

    def _reuse(self, row: int, prompt: Sequence[int], others: Sequence[Sequence[int]]) -> int:
        prefix, length, worth_keeping = self.prefixes.plan(prompt, others)
        if prefix:
            self.rows.load(row, prefix, length)
        if worth_keeping > length:  # compute it once, alone; every later prompt copies it
            self._forward(row, [list(prompt[length:worth_keeping])], [length])
            self.prefixes.keep(self.rows.save(row, prompt[:worth_keeping]))
        return max(length, worth_keeping)

    def _forward(
        self, first: int, tokens: Sequence[Sequence[int]], starts: Sequence[int], *, decoding: bool = False
    ) -> Tensor:
        wanted = len(tokens)
        if decoding and wanted == 1:  # a lone vector takes another matrix kernel, with other bits: send it twice
            tokens, starts = [*tokens, *tokens], [*starts, *starts]
        counts = [len(t) for t in tokens]
        width = 1 if decoding else padded(max(counts))
        end = -(-(max(starts) + width) // BLOCK) * BLOCK
        self.rows.grow(end)
        # Padding goes to the right: its keys land behind the row's end, where the next token overwrites them.
        ids = torch.tensor([[*t, *([0] * (width - len(t)))] for t in tokens], device=self.device)
        positions = torch.tensor(starts, device=self.device)[:, None] + torch.arange(width, device=self.device)
        columns = torch.arange(end, device=self.device)
        seen = columns <= positions[..., None]
        if self.window:
            seen &= columns > positions[..., None] - self.window
        mask = torch.zeros(seen.shape, dtype=self.dtype, device=self.device).masked_fill_(~seen, float("-inf"))
        self.rows.aim(first, wanted, positions, end)
        hidden = self.body(
            input_ids=ids,
            position_ids=positions.clamp(max=self.context - 1),  # padding must not pass it
            past_key_values=self.rows,
            attention_mask=mask[:, None],
            use_cache=True,
        ).last_hidden_state
        last = hidden[torch.arange(len(counts), device=self.device), torch.tensor(counts, device=self.device) - 1]
        return self.head(last.expand(max(2, len(last)), -1))[:wanted]
