"""The held-out prompts as a training row meets them: the same prompt, nearly the same, or the same cluster."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from data.rows import Messages, prompts
from data.similarity import Array, alike, band_keys, signature


@dataclass
class Gate:
    """What is known of the held-out rows; small enough to be sent to every worker."""

    asked: set[tuple[str, ...]] = field(default_factory=set)
    clusters: set[str] = field(default_factory=set)
    signatures: list[Array] = field(default_factory=list)
    _bands: list[dict[int, list[int]]] = field(default_factory=list)

    def add(self, cluster: object, messages: Messages) -> None:
        """A held-out row. Its last prompt is what the gate asks; the turns before are given to the model."""
        if isinstance(cluster, str):
            self.clusters.add(cluster)
        if asked := list(prompts(messages)):
            self.asked.add(asked[-1])
            self.signatures.append(signature(" ".join(asked[-1])))

    def index(self) -> Gate:
        if self.signatures:
            self._bands = [{} for _ in range(band_keys(self.signatures[0][None]).shape[1])]
            for at, keys in enumerate(band_keys(np.stack(self.signatures))):
                for band, key in zip(self._bands, keys.tolist(), strict=True):
                    band.setdefault(key, []).append(at)
        return self

    def meets(self, messages: Messages, near: float) -> str | None:
        """How the row's prompts meet a held-out one: "the same prompt", "87 % of a prompt", or None."""
        asked = list(prompts(messages)) if self.asked else []
        if self.asked.intersection(asked):
            return "the same prompt"
        if not asked:
            return None
        ours = np.stack([signature(" ".join(prompt)) for prompt in asked])
        most = 0.0
        for mine, keys in zip(ours, band_keys(ours), strict=True):
            found = {at for band, key in zip(self._bands, keys.tolist(), strict=True) for at in band.get(key, ())}
            if found:
                theirs = np.stack([self.signatures[at] for at in sorted(found)])
                most = max(most, float(alike(mine[None], theirs).max()))
        return f"{most:.0%} of a prompt" if most >= near else None
