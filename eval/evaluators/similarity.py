"""Similarity of meaning: the cosine of two sentence embeddings."""

from collections.abc import Callable, Mapping, Sequence

from eval.evaluators.encoder import Vectors, embed


class Similarity:
    """-1 to 1; paraphrases lie above about 0.7, unrelated sentences around 0. The texts are embedded in batches."""

    def __init__(self) -> None:
        self._vectors: Vectors = {}

    def prime(self, rows: Sequence[Mapping[str, str]], progress: Callable[[int, int], None]) -> None:
        self._vectors = embed(row[column] for row in rows for column in ("answer", "expected"))
        progress(len(rows), len(rows))

    def __call__(self, *, answer: str, expected: str) -> dict[str, float]:
        if not answer.strip() or not expected.strip():  # no words, no meaning: what the model makes of them is noise
            return {"similarity": float(answer.strip() == expected.strip())}
        known = self._vectors
        vectors = known if answer in known and expected in known else embed((answer, expected))
        return {"similarity": max(-1.0, min(1.0, float(vectors[answer] @ vectors[expected])))}
