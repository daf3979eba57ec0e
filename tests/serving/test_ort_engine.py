"""The CPU tier's engine: the converted model answers as the source does, alone, in ragged batches, and as rows move."""

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from batcher import Batcher
from decoding import Request, Sampling
from ort_engine import FACTS, FIRST_CAPACITY, OrtEngine, open_session
from tiny_models import make_model as make_any_model
from tiny_models import make_tokenizer

from convert import graph
from convert.__main__ import context, convert, facts
from convert.blocks import pack, unpack
from convert.products import PROBE
from convert.recipe import Recipe, Weights, load_recipe

ROOT = Path(__file__).parents[2]
WHOLE = load_recipe(ROOT / "convert/recipes/fp32.yaml")[0]
BYTES = Weights(bits=8, block=16, symmetric=True, search=1)
WHOLE_ROWS = Weights(bits=8, block=None, symmetric=True, search=1)
EIGHT_BITS = {
    "blocks": Recipe(name="blocks", body=BYTES, head=BYTES, activations="int8"),
    "rows": Recipe(name="rows", body=WHOLE_ROWS, head=WHOLE_ROWS, activations="int8"),
    "rows, head in blocks": Recipe(name="both", body=WHOLE_ROWS, head=BYTES, activations="int8"),
}
SHORT, LONG = [1.0 + i / 10 for i in range(8)], [9.0] * 8
ROPE: dict[str, Any] = {
    "rope_type": "longrope", "rope_theta": 1e4, "short_factor": SHORT, "long_factor": LONG,
    "original_max_position_embeddings": 100,
}  # fmt: skip


def make_model(kind: str, **changes: Any) -> Any:
    """A tiny model whose heads are as large as the runtime's attention wants them: 16."""
    return make_any_model(kind, **{"hidden_size": 64, "initializer_range": 0.2, **changes})


KINDS: dict[str, Callable[[], Any]] = {
    "llama": lambda: make_model("llama"),
    "llama, tied": lambda: make_model("llama", tie_word_embeddings=True),
    "phi3": lambda: make_model("phi3"),
    "phi3, window 24": lambda: make_model("phi3", sliding_window=24),
    "phi3, longrope": lambda: make_model("phi3", max_position_embeddings=4096, rope_parameters=ROPE,
                                         original_max_position_embeddings=100),
    "phi3, part rotated": lambda: make_model("phi3", hidden_size=128, rope_parameters={
        "rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}),
    "one key/value head each": lambda: make_model("llama", num_key_value_heads=4),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models this small gain nothing by a second, and beside other tests two wait for each other."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)


def opened(model: Any, folder: Path, recipe: Recipe = WHOLE) -> Callable[..., OrtEngine]:
    """A maker of engines (rows, prefix_tokens) for the converted model."""
    longest = context(model.config)
    graph.write(model, recipe, folder, longest)
    (folder / FACTS).write_text(json.dumps(facts(model, longest)))
    session = open_session(folder)
    return lambda rows, kept=0: OrtEngine(*session, rows, kept)


def alone(model: Any, prompt: list[int], tokens: int) -> list[int]:
    ids = torch.tensor([prompt])
    out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False)
    answer: list[int] = out[0, len(prompt) :].tolist()
    return answer[:-1] if answer and answer[-1] in (258, 262) else answer


def prompts(count: int, longest: int, seed: int = 1, shared: int = 0) -> list[list[int]]:
    draw = random.Random(seed)
    start = [draw.randrange(256) for _ in range(shared)]
    return [start + [draw.randrange(256) for _ in range(draw.randint(1, longest))] for _ in range(count)]


def answers(batcher: Batcher, asked: list[list[int]], tokens: list[int]) -> list[Request]:
    requests = [batcher.submit(p, Sampling(n)) for p, n in zip(asked, tokens, strict=True)]
    for request in requests:
        request.done.result(60)
    return requests


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_the_sources(kind: str, tmp_path: Path) -> None:
    model = KINDS[kind]()
    engine = opened(model, tmp_path)(3)
    asked = prompts(3, 60)
    got, _ = engine.prefill(0, asked)
    with torch.no_grad():
        expected = np.stack([model(torch.tensor([p])).logits[0, -1].numpy() for p in asked])
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-3)
        got = engine.decode([5, 6, 7], [len(p) for p in asked])
        longer = [[*p, t] for p, t in zip(asked, (5, 6, 7), strict=True)]
        expected = np.stack([model(torch.tensor([p])).logits[0, -1].numpy() for p in longer])
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", ["llama", "phi3, window 24", "phi3, longrope"])
def test_a_batch_answers_as_the_source_alone(kind: str, tmp_path: Path) -> None:
    model = KINDS[kind]()
    make = opened(model, tmp_path)
    longest = min(70, context(model.config) - 40)
    asked = prompts(9, longest)  # more than the rows: some join while others decode, and rows move
    tokens = [random.Random(i).randint(1, 30) for i in range(len(asked))]
    got = answers(Batcher(lambda: make(4), max_batch=4), asked, tokens)
    assert [r.answer for r in got] == [alone(model, p, n) for p, n in zip(asked, tokens, strict=True)]
    assert len({tuple(r.answer[:3]) for r in got}) > 3, "the model ignores its prompts: the test shows nothing"


def test_a_kept_prefix_changes_no_answer(tmp_path: Path) -> None:
    model = make_model("phi3")
    make = opened(model, tmp_path)
    asked = prompts(9, 30, shared=80)
    batcher = Batcher(lambda: make(4, 4096), max_batch=4)
    got = answers(batcher, asked, [12] * 9)
    assert [r.answer for r in got] == [alone(model, p, 12) for p in asked]
    assert [len(p.tokens) for p in batcher.engine.prefixes.kept] == [80]
    assert batcher.engine.prefill(0, [asked[0]])[1] == 80, "nothing was reused"


def test_prompts_longer_than_the_first_capacity(tmp_path: Path) -> None:
    model = make_model("llama")
    make = opened(model, tmp_path)
    asked = [*prompts(4, 20), *prompts(2, 1, shared=FIRST_CAPACITY + 40), *prompts(2, 200, seed=5)]
    batcher = Batcher(lambda: make(4), max_batch=4)
    got = answers(batcher, asked, [5, 60, 17, 60, 3, 9, 2, 25])
    assert [r.answer for r in got] == [alone(model, p, r.sampling.max_tokens) for p, r in zip(asked, got, strict=True)]
    assert batcher.engine.rows.columns > FIRST_CAPACITY


@pytest.mark.parametrize("kind", EIGHT_BITS)
def test_eight_bits_in_a_batch_answer_as_eight_bits_alone(kind: str, tmp_path: Path) -> None:
    make = opened(make_model("llama"), tmp_path, EIGHT_BITS[kind])
    asked = prompts(9, 50)
    together = answers(Batcher(lambda: make(4), max_batch=4), asked, [20] * 9)
    one = Batcher(lambda: make(1), max_batch=1)
    assert [r.answer for r in together] == [answers(one, [p], [20])[0].answer for p in asked]


@pytest.mark.parametrize("kind", EIGHT_BITS)
def test_eight_bits_change_scores_a_little_and_not_nothing(kind: str, tmp_path: Path) -> None:
    model = make_model("llama")
    asked = prompts(6, 50)
    got, _ = opened(model, tmp_path, EIGHT_BITS[kind])(6).prefill(0, asked)
    with torch.no_grad():
        expected = np.stack([model(torch.tensor([p])).logits[0, -1].numpy() for p in asked])
    off = np.abs(got - expected).max() / np.abs(expected).max()
    assert 1e-5 < off < 0.1


def test_whole_rows_lose_nothing_but_what_the_weights_lose(tmp_path: Path) -> None:
    """Two of 64 channels are far larger than the rest, as in trained models: one byte for all would be too coarse."""
    model = make_model("llama")
    with torch.no_grad():
        for layer in model.model.layers:
            layer.input_layernorm.weight[3] = layer.post_attention_layernorm.weight[5] = 60.0
    asked = prompts(6, 50)
    got, _ = opened(model, tmp_path, EIGHT_BITS["rows"])(6).prefill(0, asked)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.copy_(unpack(pack(module.weight, WHOLE_ROWS), WHOLE_ROWS))
        expected = np.stack([model(torch.tensor([p])).logits[0, -1].numpy() for p in asked])
    assert np.abs(got - expected).max() < 0.01 * np.abs(expected).max()  # one byte: more than all of it


def test_a_processor_that_adds_up_wrongly_is_found_before_anybody_asks(tmp_path: Path) -> None:
    """No such processor here: the probe is given another answer."""
    import onnx

    opened(make_model("llama"), tmp_path, EIGHT_BITS["rows"])
    probe = onnx.load(tmp_path / PROBE)
    probe.graph.initializer[0].int32_data[0] = 126
    onnx.save(probe, tmp_path / PROBE)
    with pytest.raises(RuntimeError, match="lacks VNNI"):
        open_session(tmp_path)


def test_log_probabilities_and_sampling_work_without_torch(tmp_path: Path) -> None:
    model = make_model("llama", eos_token_id=[])
    make = opened(model, tmp_path)
    batcher = Batcher(lambda: make(4), max_batch=4)
    how = Sampling(12, temperature=1.0, top_p=0.9, seed=7, logprobs=True)
    asked = prompts(4, 20)
    requests = [batcher.submit(asked[0], how)]
    requests[0].done.result(60)
    requests += [batcher.submit(p, how if i == 0 else Sampling(12, 1.0)) for i, p in enumerate(asked)]
    for request in requests:
        request.done.result(60)
    assert requests[1].answer == requests[0].answer != alone(model, asked[0], 12)
    with torch.no_grad():
        ids = [*asked[0], *requests[0].answer]
        scores = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    start = len(asked[0]) - 1
    expected = [float(scores[start + i, token]) for i, token in enumerate(requests[0].answer)]
    assert requests[0].logprobs == pytest.approx(expected, abs=1e-3)


def test_a_folder_that_was_converted_is_served_by_this_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a transformers folder to answers over the wire, and the prompts' tokens are the Python tier's."""
    from score import respond
    from service import load, model_folder

    make_model("llama").save_pretrained(tmp_path / "source" / "tiny")
    make_tokenizer().save_pretrained(tmp_path / "source" / "tiny")
    talks = [[{"role": "user", "content": f"Hello {i}"}] for i in range(3)]
    chats = tmp_path / "chats.jsonl"
    chats.write_text("".join(json.dumps({"messages": talk}) + "\n" for talk in talks))
    report = convert(tmp_path / "source" / "tiny", ROOT / "convert/recipes/fp32.yaml", chats, tmp_path / "cpu" / "tiny")
    assert (report["prompts"], report["choices"] > 0) == (3, True)
    monkeypatch.setenv("MAX_OUTPUT_TOKENS", "64")
    ours = load(model_folder(str(tmp_path / "cpu")))
    assert isinstance(ours.batcher.engine, OrtEngine)
    source = load(model_folder(str(tmp_path / "source")))
    assert [ours.prompts.encode(t) for t in talks] == [source.prompts.encode(t) for t in talks]
    said = respond(ours, json.dumps({"messages": talks[0], "max_tokens": 8})).body
    assert said["usage"]["prompt_tokens"] == len(ours.prompts.encode(talks[0]))
    assert (ours.context, ours.batcher.engine.stop_ids) == (source.context, source.batcher.engine.stop_ids)


def test_the_cpu_tier_does_not_load_torch(tmp_path: Path) -> None:
    import subprocess

    model = make_model("llama")
    opened(model, tmp_path)
    model.config.save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    script = (
        "import sys; sys.path.insert(0, 'serving'); sys.modules['torch'] = None\n"
        "from pathlib import Path; from service import load; from decoding import Sampling\n"
        f"service = load(Path({str(tmp_path)!r}))\n"
        "ids = service.prompts.encode([{'role': 'user', 'content': 'Hi'}])\n"
        "request = service.batcher.submit(ids, Sampling(4, 1.0, seed=1)); request.done.result(60)\n"
        "print(len(request.answer))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() in {"1", "2", "3", "4"}, done.stderr
