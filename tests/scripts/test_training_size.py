"""A recipe that the compute cannot run is one sentence before anything is asked of Azure."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from scripts import settings
from scripts.doctor.quota import needs_of
from scripts.errors import InvalidInput
from scripts.train import Plan, train
from scripts.training_size import GPU_FAMILY, GPUS, Scale, check

ROOT = Path(__file__).parents[2]


def scale(device: str = "gpu", instances: int = 1, processes: int = 1) -> Scale:
    return Scale(device=device, instances=instances, processes_per_instance=processes)


@pytest.mark.parametrize("size", ["Standard_E16s_v3", "Standard_DS3_v2", "STANDARD_NP10S", "Standard_F4s_v2"])
def test_a_size_without_gpu_is_refused_for_a_gpu_recipe_alone(size: str) -> None:
    with pytest.raises(InvalidInput, match=r"^Recipe a100_lora needs a GPU and .* has none"):
        check(size, 1, "a100_lora", scale())
    check(size, 1, "cpu_small", scale("cpu"))


def test_the_number_of_gpus_and_of_instances_is_known() -> None:
    check("Standard_NC96ads_A100_v4", 1, "multi_gpu", scale(processes=4))
    check("Standard_NC999ads_B300_v9", 1, "multi_gpu", scale(processes=4))  # not known yet: the job will tell
    with pytest.raises(InvalidInput, match="starts 4 processes on an instance and Standard_NC24ads_A100_v4 has 1 GPU:"):
        check("Standard_NC24ads_A100_v4", 1, "multi_gpu", scale(processes=4))
    with pytest.raises(InvalidInput, match=r"needs 2 instances .* at most 1"):
        check("Standard_NC96ads_A100_v4", 1, "multi_node_fsdp", scale(instances=2, processes=4))
    assert all(GPU_FAMILY.match(name) for name in GPUS)


def test_the_command_refuses_before_it_signs_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", "0" * 8)
    monkeypatch.setenv("MLOPS_COMPUTE__SIZE", "Standard_E16s_v3")
    values = settings.load(Path("scripts/environments/production.yaml"))
    content = yaml.safe_load(Path("training/recipes/a100_lora.yaml").read_text())["scale"]
    parts = dict.fromkeys(("recipe_digest", "code_digest", "data_digest", "base_model_digest"), "x")
    known = {name: content[name] for name in Scale.model_fields}
    work = Plan(recipe="a100_lora", data_asset="azureml:a:1", base_model="b", scale=Scale(**known), **parts)
    with pytest.raises(InvalidInput, match="needs a GPU"):
        train(values, work)


@pytest.mark.parametrize(("tier", "where"), [("dedicated", True), ("low_priority", False)])
def test_low_priority_nodes_take_nothing_of_the_quota_of_their_family(
    tier: str, where: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", "0" * 8)
    monkeypatch.setenv("MLOPS_COMPUTE__TIER", tier)
    values = settings.load(Path("scripts/environments/production.yaml"))
    size = SimpleNamespace(name=values.compute.size, v_cp_us=24, family="a100")
    found = {need.where for need in needs_of(values, [size])}
    assert found == ({"compute.size", "serving.instance_type"} if where else {"serving.instance_type"})
