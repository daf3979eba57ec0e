"""Similarity: the embeddings are the model's own, in batches or alone."""

import math

import pytest

from eval.evaluators.encoder import embed
from eval.evaluators.similarity import Similarity

pytestmark = pytest.mark.slow  # loads a real model

HAPPY = "That is a happy person"


def silent(_done, _total):
    pass


@pytest.mark.parametrize(
    ("other", "cosine"),
    [
        (HAPPY, 1),
        # The model's public page shows these three for all-MiniLM-L6-v2.
        ("That is a very happy person", 0.943),
        ("That is a happy dog", 0.695),
        ("Today is a sunny day", 0.257),
        ("", 0),
    ],
)
def test_the_models_published_values(other, cosine):
    assert Similarity()(answer=other, expected=HAPPY) == {"similarity": pytest.approx(cosine, abs=1e-3)}


def test_nothing_is_like_nothing():
    assert Similarity()(answer=" ", expected="") == {"similarity": 1}


def test_a_batch_gives_what_each_text_gives_alone():
    texts = [f"{'word ' * (i % 40)}number {i}" for i in range(150)]
    rows = [{"answer": text, "expected": texts[0]} for text in texts]
    primed = Similarity()
    primed.prime(rows, silent)
    for row in rows[::10]:
        alone = Similarity()(**row)["similarity"]
        assert primed(**row)["similarity"] == pytest.approx(alone, abs=1e-5)


def test_vectors_have_length_one_and_only_the_first_256_tokens_count():
    start = "ticket " * 300
    vectors = embed([HAPPY, start, start + "and an end that is not seen"])
    assert {len(vector) for vector in vectors.values()} == {384}
    assert all(math.isclose(float(vector @ vector), 1, abs_tol=1e-5) for vector in vectors.values())
    assert float(vectors[start] @ vectors[start + "and an end that is not seen"]) == pytest.approx(1, abs=1e-5)
