"""The whole job on a tiny random Phi-3: the code path of the A100, in seconds."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from training.digest import file_sha256, folder_digest
from training.errors import TrainingError
from training.recipe import load_recipe
from training.train import main, train

ROOT = Path(__file__).parents[2]
Content = dict[str, Any]
Write = Callable[[Content], Path]


@pytest.fixture(autouse=True)
def quiet_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics go under the test's folder, and no tracking server of somebody else is used."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.mark.slow
def test_the_snapshot_trains_a_phi3_as_a_script(
    recipe_content: Content, write_recipe: Write, data_folder: Path, tiny_phi3: Path, tmp_path: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    code = tmp_path / "7f3a-any-name"
    shutil.copytree(ROOT / "training", code, ignore=shutil.ignore_patterns("__pycache__"))
    recipe_content["run"]["max_steps"] = 30
    output = tmp_path / "model"
    output.mkdir()  # a job's output is a mounted folder that exists
    command = [sys.executable, "train.py", "--recipe", write_recipe(recipe_content), "--base-model", tiny_phi3]
    done = subprocess.run(
        [*command, "--data", data_folder, "--output", output, "--adapter", tmp_path / "adapter"],
        cwd=code,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(" lr ") == 30

    metrics = json.loads((code / "outputs" / "training_metrics.json").read_text())
    losses = [point["loss"] for point in metrics["loss"]]
    assert sum(losses[-5:]) < 0.96 * sum(losses[:5])  # adapters cannot move the random head, so it falls slowly
    assert metrics["steps"] == 30
    assert metrics["model_digest"] == folder_digest(output)
    assert metrics["base_model_digest"] == folder_digest(tiny_phi3)
    assert 0 < metrics["trained_tokens"] < 30 * 4 * 100

    tokenizer = AutoTokenizer.from_pretrained(output)
    model = AutoModelForCausalLM.from_pretrained(output)
    assert (type(model).__name__, model.dtype) == ("Phi3ForCausalLM", torch.bfloat16)
    assert model.generation_config.eos_token_id == [0, 1, 2]
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Lamp 3"}], add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    assert model.generate(**prompt, max_new_tokens=8).shape[1] > prompt["input_ids"].shape[1]
    assert not list(output.rglob("adapter*"))  # serving would take it for an adapter: it has a folder of its own
    card = (output / "README.md").read_text()
    assert file_sha256(data_folder / "train.jsonl") in card
    assert f"{metrics['perplexity']:.5f}" in card

    from peft import PeftModel

    plain = AutoModelForCausalLM.from_pretrained(tiny_phi3, dtype=torch.float32)
    again = PeftModel.from_pretrained(plain, tmp_path / "adapter").merge_and_unload()
    for name, weight in again.state_dict().items():
        assert torch.equal(weight.bfloat16(), model.state_dict()[name]), name


@pytest.mark.slow
def test_the_same_recipe_gives_the_same_model_and_full_training_works_too(
    recipe_content: Content, write_recipe: Write, data_folder: Path, tiny_phi3: Path, tmp_path: Path
) -> None:
    recipe_content["run"]["max_steps"] = 4
    recipe = load_recipe(write_recipe(recipe_content))
    one, two = (train(recipe, str(tiny_phi3), data_folder, tmp_path / name) for name in ("one", "two"))
    assert one.model_digest == two.model_digest
    assert one.loss == two.loss
    recipe_content["lora"] = None
    recipe_content["data"]["sampling"] = "group_by_length"
    recipe_content["run"]["max_steps"] = 30
    full = train(load_recipe(write_recipe(recipe_content)), str(tiny_phi3), data_folder, tmp_path / "full")
    assert full.model_digest not in (one.model_digest, one.base_model_digest)
    assert full.loss[-1].loss < 0.5 * full.loss[0].loss


@pytest.mark.slow
def test_eight_chats_at_once_equal_eight_times_one(
    recipe_content: Content, write_recipe: Write, data_folder: Path, tiny_phi3: Path, tmp_path: Path
) -> None:
    """Accumulated gradients are normalised by tokens, so the cut into small batches does not show."""
    from safetensors.torch import load_file

    results = []
    for batch, accumulation in ((8, 1), (1, 8)):
        recipe_content["run"] |= {"batch_size": batch, "accumulation": accumulation, "max_steps": 5}
        output = tmp_path / f"model-{batch}"
        metrics = train(load_recipe(write_recipe(recipe_content)), str(tiny_phi3), data_folder, output)
        results.append((metrics, load_file(output / "model.safetensors")))
    (at_once, weights), (one_by_one, other) = results
    for left, right in zip(at_once.loss, one_by_one.loss, strict=True):
        assert left.loss == pytest.approx(right.loss, abs=2e-3)
    assert max(float((weights[name] - other[name]).abs().max()) for name in weights) < 0.01
    assert at_once.trained_tokens == one_by_one.trained_tokens


@pytest.mark.slow
def test_the_loss_over_labels_alone_equals_the_models_own(tiny_phi3: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from training.step import add_sparse_loss

    model = AutoModelForCausalLM.from_pretrained(tiny_phi3, dtype=torch.float32)
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(6, 300, (3, 20), generator=generator)
    labels = ids.clone()
    labels[:, :12] = -100
    labels[2, 15:] = -100
    mask = torch.ones_like(ids)
    mask[2, 15:] = 0
    whole = model(input_ids=ids, attention_mask=mask, labels=labels).loss
    whole.backward()
    gradient = model.lm_head.weight.grad.clone()
    model.zero_grad()
    add_sparse_loss(model)
    items = (labels[:, 1:] != -100).sum()
    sparse = model(input_ids=ids, attention_mask=mask, labels=labels, sparse_loss=True)["loss"] / items
    sparse.backward()
    assert sparse.item() == pytest.approx(whole.item(), rel=1e-5)
    assert torch.allclose(model.lm_head.weight.grad, gradient, atol=1e-6)


@pytest.mark.slow
def test_weights_that_are_no_numbers_fail_loudly_and_leave_no_model(
    recipe_content: Content,
    write_recipe: Write,
    data_folder: Path,
    tiny_phi3: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from safetensors.torch import load_file, save_file

    broken = shutil.copytree(tiny_phi3, tmp_path / "broken")
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    arguments = ["--recipe", str(write_recipe(recipe_content)), "--base-model", str(broken)]
    assert main([*arguments, "--data", str(data_folder), "--output", str(tmp_path / "model")]) == 1
    assert "error: The loss became nan at step 1" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()
    assert not (tmp_path / "outputs").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "key", "value", "said"),
    [
        ("lora", "targets", ["q_proj"], "no layers named q_proj"),
        ("lora", "first_layer", 2, "layers 0 to 1"),
        ("base_model", "chat_template", "chatml", "no special token"),
        ("base_model", "keep_eos_token_ids", [32007], "no token 32007"),
    ],
)
def test_a_recipe_for_another_model_is_explained(
    part: str,
    key: str,
    value: Any,
    said: str,
    recipe_content: Content,
    write_recipe: Write,
    data_folder: Path,
    tiny_phi3: Path,
    tmp_path: Path,
) -> None:
    recipe_content[part][key] = value
    with pytest.raises(TrainingError, match=said):
        train(load_recipe(write_recipe(recipe_content)), str(tiny_phi3), data_folder, tmp_path / "model")


def test_bad_input_is_one_sentence_and_exit_code_3(
    recipe_content: Content,
    write_recipe: Write,
    data_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe = str(write_recipe(recipe_content))
    full = tmp_path / "full"
    full.mkdir()
    (full / "model.safetensors").write_text("an older model")
    data, output = ["--data", str(data_folder)], ["--output", str(tmp_path / "model")]
    cases = {
        "cannot be read": ["--recipe", str(tmp_path / "none.yaml"), *data, *output],
        "needs --data and --output": ["--recipe", recipe],
        "made for 2 processes and 1 started": ["--recipe", recipe, *data, *output, "--set", "scale.instances=2"],
        "say where with --checkpoints": ["--recipe", recipe, *data, *output, "--set", "run.checkpoint_every=5"],
        "changes no value of the recipe": ["--recipe", recipe, *data, *output, "--set", "run.sed=5"],
        "wrong value at 'optimizer.learning_rate'": [
            "--recipe",
            recipe,
            *data,
            *output,
            "--set",
            "optimizer.learning_rate=fast",
        ],
        "machine has none": ["--recipe", recipe, *data, *output, "--set", "scale.device=gpu"],
        "is not a folder": ["--recipe", recipe, "--base-model", str(tmp_path / "none"), *data, *output],
        "is not empty": ["--recipe", recipe, "--base-model", str(full), *data, "--output", str(full)],
    }
    for said, arguments in cases.items():
        assert main(arguments) == 3
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
    assert main(["--recipe", recipe, "--check"]) == 0
    assert not (tmp_path / "model").exists()


def test_a_hub_name_without_a_pinned_revision_is_refused(recipe_content: Content, write_recipe: Write) -> None:
    from training.model import _revision

    recipe = load_recipe(write_recipe(recipe_content))
    with pytest.raises(TrainingError, match="pins no revision"):
        _revision(recipe, "someone/some-model")


def test_the_help_is_instant_and_needs_no_heavy_library() -> None:
    code = "import sys; from training import train; assert not {'torch', 'transformers', 'trl'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
