"""How fast a run is, in tokens that count: no padding, no attention across chats, nothing computed twice.

The arithmetic of a step follows from the true lengths of its chats. Recomputation by gradient checkpointing, padding
and the head on tokens without a label are work but no progress, so they lower the utilisation (MFU), as they should.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

# Dense bf16 FLOP/s from NVIDIA's data sheets, by a part of the name that the driver gives; more precise names first.
PEAK_FLOPS = {
    "H200": 989e12,
    "H100 NVL": 835e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "A10": 125e12,
}


def peak_flops(device: str) -> float | None:
    """What the device could do at most; None where no data sheet says it (a CPU): then there is no utilisation."""
    return next((flops for name, flops in PEAK_FLOPS.items() if name in device), None)


@dataclass(frozen=True)
class Shape:
    """The parts of a model that its arithmetic depends on."""

    linear: int  # weights of all matrix products of the layers
    head: int  # weights of the projection onto the vocabulary
    attention: int  # heads × size of a head × layers
    frozen: bool  # adapters on a frozen base: no gradients of its weights are computed

    def flops(self, lengths: Sequence[int], labels: int) -> float:
        """Forward and backward over chats of these lengths with so many labels.

        A product costs 2 per weight and token forward, as much again for the gradient of its input, and once more for
        that of its weight. Causal attention costs 2 × length² forward and twice that backward.
        """
        products = 2.0 * self.linear * sum(lengths) + 2.0 * self.head * labels
        return products * (2 if self.frozen else 3) + 3 * 2.0 * self.attention * sum(n * n for n in lengths)


def shape_of(model: Any) -> Shape:
    """Read off a model, before or after adapters were added (their own few products are left out)."""
    config, head = model.config, model.get_output_embeddings()
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    linear = sum(
        module.in_features * module.out_features
        for name, module in model.named_modules()
        if hasattr(module, "in_features") and "lora_" not in name and "base_layer" not in name and module is not head
    )
    frozen = any(not parameter.requires_grad for parameter in model.parameters())
    attention = config.num_attention_heads * size * config.num_hidden_layers
    return Shape(linear, head.in_features * head.out_features, attention, frozen)


@dataclass
class Counts:
    """What was done so far, over all processes; kept with each checkpoint, so that a resumed run goes on counting."""

    tokens: int = 0
    labels: int = 0
    flops: float = 0.0
    waited: float = 0.0  # seconds for data, of this process
    seconds: float = 0.0

    def add(self, other: Counts) -> None:
        for name, value in asdict(other).items():
            setattr(self, name, getattr(self, name) + value)


class Meter:
    """Counts between two log lines (`window`) and over the whole run (`total`)."""

    def __init__(self, shape: Shape, device: str, processes: int) -> None:
        peak = peak_flops(device)
        self.device, self._shape, self._peak = device, shape, peak * processes if peak else None
        self.window, self.total = Counts(), Counts()
        self._since = time.perf_counter()

    def start(self) -> None:
        self._since = time.perf_counter()

    def pause(self, seconds: float) -> None:
        """Leave out time that was spent on something else than training."""
        self._since += seconds

    def batch(self, inputs: dict[str, Any]) -> None:
        """Count one batch of this process, in rows with padding or as a single row without."""
        bounds = inputs.get("cu_seq_lens_q")
        lengths = (inputs["attention_mask"].sum(1) if bounds is None else bounds.diff()).tolist()
        labels = int((inputs["labels"][:, 1:] >= 0).sum())
        self.window.add(Counts(sum(lengths), labels, self._shape.flops(lengths, labels)))

    def close(self, over_processes: Sequence[float]) -> dict[str, float]:
        """End the window with tokens, labels and FLOPs summed over all processes; returns what MLflow is told."""
        now = time.perf_counter()
        seconds, self._since = now - self._since, now
        tokens, labels, flops = over_processes
        done = Counts(int(tokens), int(labels), flops, self.window.waited, seconds)
        self.total.add(done)
        self.window = Counts()
        return self.rates(done)

    def since(self) -> Counts:
        """What this process did since the last log line, with its time: for a checkpoint between two of them."""
        return Counts(**{**vars(self.window), "seconds": time.perf_counter() - self._since})

    def rates(self, counts: Counts) -> dict[str, float]:
        seconds = counts.seconds or 1e-9
        rates = {
            "tokens_per_second": counts.tokens / seconds,
            "loss_tokens_per_second": counts.labels / seconds,
            "data_wait_share": min(1.0, counts.waited / seconds),
        }
        return rates | ({"mfu": counts.flops / seconds / self._peak} if self._peak else {})
