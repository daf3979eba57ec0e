"""What one request asks of the model, and how its next token is chosen."""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import torch


@dataclass(frozen=True)
class Sampling:
    """How to choose tokens: temperature 0 is greedy; `seed` makes sampling repeatable whatever the batch."""

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None


@dataclass
class Request:
    prompt: list[int]
    sampling: Sampling
    answer: list[int] = field(default_factory=list)
    finish_reason: str = ""
    done: Future[None] = field(default_factory=Future)
    abandoned: bool = False  # nobody waits any more; set by the server's thread, read by the model's
    generator: torch.Generator | None = None

    def length(self) -> int:
        """Tokens in the row: the newest answer token is not in it yet."""
        return len(self.prompt) + len(self.answer) - 1


def choose(logits: torch.Tensor, requests: Sequence[Request]) -> list[int]:
    """The next token of each request: the likeliest, or one drawn from the smallest set holding `top_p`."""
    tokens: list[int] = logits.argmax(-1).tolist()
    for i, request in enumerate(requests):
        how = request.sampling
        if how.temperature < 1e-3:  # the same choice, and no overflow below
            continue
        if request.generator is None:
            request.generator = torch.Generator()
            request.generator.manual_seed(how.seed) if how.seed is not None else request.generator.seed()
        chances, order = (logits[i].float().cpu() / how.temperature).softmax(-1).sort(descending=True)
        chances[1:][(chances.cumsum(0) - chances)[1:] >= how.top_p] = 0
        tokens[i] = int(order[torch.multinomial(chances, 1, generator=request.generator)])
    return tokens
