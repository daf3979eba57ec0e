"""A run that is killed goes on to the same weights and the same curve; what is half-written is not trusted."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from training import checkpoints
from training.errors import TrainingError
from training.recipe import load_recipe
from training.train import train

ROOT = Path(__file__).parents[2]
Content = dict[str, Any]
Write = Callable[[Content], Path]


@pytest.fixture(autouse=True)
def quiet_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def make(root: Path, step: int, run: str = "this") -> Path:
    folder = root / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    checkpoints.seal(folder, run, {"tokens": step})
    return folder


def test_the_newest_whole_checkpoint_is_found(tmp_path: Path) -> None:
    assert checkpoints.latest(tmp_path / "none", "this") is None
    second, tenth, last = (make(tmp_path, step) for step in (2, 10, 11))
    assert checkpoints.latest(tmp_path, "this") == last
    (last / checkpoints.MARK).unlink()
    assert checkpoints.latest(tmp_path, "this") == tenth
    (tenth / "model.safetensors").write_bytes(b"weig")
    assert checkpoints.latest(tmp_path, "this") == second
    (second / checkpoints.MARK).write_text("{")
    assert checkpoints.latest(tmp_path, "this") is None
    checkpoints.remove_incomplete(tmp_path)
    assert not list(tmp_path.glob("checkpoint-*"))


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    make(tmp_path, 2, run="another")
    with pytest.raises(TrainingError, match="another recipe, data or base model"):
        checkpoints.latest(tmp_path, "this")


def command(recipe: Path, base: Path, data: Path, output: Path, *more: str) -> list[str]:
    script = [sys.executable, str(ROOT / "training" / "train.py"), "--recipe", str(recipe)]
    return [*script, "--base-model", str(base), "--data", str(data), "--output", str(output), *more]


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_weights_and_the_same_curve(
    recipe_content: Content, write_recipe: Write, data_folder: Path, tiny_phi3: Path, tmp_path: Path
) -> None:
    """Over two epochs, with dropout (random states), bf16 adapters and the best model kept."""
    recipe_content["run"] |= {"max_steps": 20, "eval_every": 3, "checkpoint_every": 3, "keep_best": True}
    recipe_content["lora"] |= {"adapter_dtype": "bfloat16", "dropout": 0.1}
    recipe_content["data"]["sampling"] = "group_by_length"
    path, kept = write_recipe(recipe_content), tmp_path / "kept"
    recipe = load_recipe(path)
    whole = train(recipe, str(tiny_phi3), data_folder, tmp_path / "whole", tmp_path / "other")
    assert whole is not None

    line = command(path, tiny_phi3, data_folder, tmp_path / "killed", "--checkpoints", str(kept))
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as job:
        assert job.stdout
        for said in job.stdout:
            if said.startswith("step 17/"):
                job.send_signal(signal.SIGKILL)
    assert job.returncode == -signal.SIGKILL
    newest = checkpoints.latest(kept, checkpoints.read_mark(kept / "checkpoint-15")["run"])  # type: ignore[index]
    assert newest == kept / "checkpoint-15"
    (newest / "optimizer.pt").write_bytes(b"")  # as if it had been cut while it was written
    again = train(recipe, str(tiny_phi3), data_folder, tmp_path / "again", kept)
    assert again is not None
    assert again.resumed_from_step == 12
    assert again.loss == whole.loss
    assert again.trained_tokens == whole.trained_tokens
    assert again.model_digest == whole.model_digest
    after = train(recipe, str(tiny_phi3), data_folder, tmp_path / "after", kept)  # killed while it saved the model
    assert after is not None
    assert (after.model_digest, after.loss) == (whole.model_digest, whole.loss)


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(
    recipe_content: Content, write_recipe: Write, data_folder: Path, tiny_phi3: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    one = train(load_recipe(write_recipe(recipe_content)), str(tiny_phi3), data_folder, tmp_path / "one")
    assert one is not None
    recipe_content["run"]["batch_size"] = 2
    recipe_content["run"] |= {"checkpoint_every": 6, "eval_every": 6, "keep_best": True}
    recipe_content["scale"]["processes_per_instance"] = 2
    path = write_recipe(recipe_content)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = os.environ | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    line = command(path, tiny_phi3, data_folder, tmp_path / "two", "--checkpoints", str(tmp_path / "kept"))
    jobs = [
        subprocess.Popen(
            line,
            env=shared | {"RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    said = [job.communicate(timeout=600) for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0], said
    assert said[1][0] == ""  # one process speaks for all
    two = json.loads((tmp_path / "outputs" / "training_metrics.json").read_text())
    assert (two["processes"], two["trained_tokens"]) == (2, one.trained_tokens)
    for left, right in zip(one.loss, two["loss"], strict=True):
        assert left.loss == pytest.approx(right["loss"], abs=1e-4)
    assert one.eval_loss == pytest.approx(two["eval_loss"], abs=1e-4)
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("one", "two")]
    assert max(float((weights[0][name] - weights[1][name]).abs().max()) for name in weights[0]) < 0.01


@pytest.mark.slow
def test_a_run_whose_validation_loss_rises_stops_and_keeps_the_best_checkpoint(
    recipe_content: Content, write_recipe: Write, data_folder: Path, tiny_phi3: Path, tmp_path: Path
) -> None:
    """Two chats learned by heart say nothing about the others."""
    import torch
    from safetensors.torch import load_file

    train_file = data_folder / "train.jsonl"
    train_file.write_text("".join(train_file.read_text().splitlines(keepends=True)[:2]))
    recipe_content["lora"] = None
    recipe_content["optimizer"] |= {"schedule": "constant", "warmup_share": 0.0}
    recipe_content["run"] |= {"max_steps": 200, "batch_size": 2, "eval_every": 2, "checkpoint_every": 2}
    recipe_content["run"] |= {"keep_best": True, "patience": 3}
    recipe, kept = load_recipe(write_recipe(recipe_content)), tmp_path / "kept"
    done = train(recipe, str(tiny_phi3), data_folder, tmp_path / "model", kept)
    assert done is not None
    last = json.loads((kept / f"checkpoint-{done.steps}" / "trainer_state.json").read_text())
    losses = {entry["step"]: entry["eval_loss"] for entry in last["log_history"] if "eval_loss" in entry}
    best = min(losses, key=lambda step: losses[step])
    assert 2 < best < done.steps == best + 3 * 2 < 200
    assert done.eval_loss == pytest.approx(losses[best], abs=1e-5) != pytest.approx(losses[done.steps], abs=1e-2)
    saved, stored = (
        load_file(folder / "model.safetensors") for folder in (tmp_path / "model", kept / f"checkpoint-{best}")
    )
    assert all(torch.equal(saved[name], weight.bfloat16()) for name, weight in stored.items())
