"""What the documents decide before a pipeline is made: sizes, GPUs, parameters, the display name."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.errors import InvalidInput, Refused
from scripts.routes import registry_rules as rules

A100 = "Standard_NC24ads_A100_v4"
ALLOW = {rules.ALLOWED: f"['{A100}', 'Standard_NC48ads_A100_v4']"}
# The walk-through's own, and what its model's tag says (version 15 of Phi-3-mini-4k-instruct).
DOCUMENTS: dict[str, Any] = {
    "num_train_epochs": 3,
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "learning_rate": 5e-6,
    "lr_scheduler_type": "cosine",
    "apply_lora": "true",
    "apply_deepspeed": "true",
    "deepspeed_stage": 2,
}
DEFAULTS: dict[str, Any] = {
    **{"apply_deepspeed": "true", "deepspeed_stage": 2, "apply_lora": "true", "apply_ort": "false", "precision": 16},
    **{"num_train_epochs": 1, "learning_rate": 5e-06, "learning_rate_min": 5e-07, "save_total_limit": 1},
}
INPUTS = {*DOCUMENTS, *DEFAULTS} - {"learning_rate_min"}


def test_the_documents_name_is_built_of_the_documents_parameters() -> None:
    name = rules.display_name("Phi-3-mini-4k-instruct", "ultrachat", DOCUMENTS, 1)
    assert name == "Phi-3-mini-4k-instruct-ultrachat-bs1-cosine-ds2-lora-save_limit-1-seqlen-1"
    merged, _ = rules.merged(DOCUMENTS, DEFAULTS, INPUTS)
    assert rules.display_name("m", "d", {**merged, "gradient_accumulation_steps": 4, "num_nodes_finetune": 2}, 8) == (
        "m-d-bs64-cosine-ds2-lora-save_limit1-seqlen-1"
    )
    assert rules.display_name("m", "d", {}, 1) == "m-d-bs1-linear-nods-nolora-save_limit-1-seqlen-1"


def test_the_models_own_defaults_win_and_that_is_said() -> None:
    merged, told = rules.merged(DOCUMENTS, DEFAULTS, INPUTS)
    assert merged == {**DOCUMENTS, **{key: DEFAULTS[key] for key in DEFAULTS if key != "learning_rate_min"}}
    assert told == [
        "The model's own defaults win over the recipe: num_train_epochs 1 instead of 3.",
        "The component does not take these defaults of the model: learning_rate_min.",
    ]


NAMES = st.sampled_from(sorted(INPUTS | {"learning_rate_min"}))
VALUES = st.dictionaries(NAMES, st.integers(1, 9) | st.sampled_from(["true", "false"]))


@given(VALUES, VALUES)
def test_merging_loses_nothing_and_adds_nothing_the_component_does_not_know(
    recipe: dict[str, Any], model: dict[str, Any]
) -> None:
    recipe = {key: value for key, value in recipe.items() if key in INPUTS}
    merged, told = rules.merged(recipe, model, INPUTS)
    assert set(merged) == set(recipe) | (set(model) & INPUTS)
    assert all(merged[key] == model[key] for key in set(model) & INPUTS)
    assert all(merged[key] == recipe[key] for key in set(recipe) - set(model))
    differs = [key for key in set(recipe) & set(model) if str(recipe[key]) != str(model[key])]
    assert bool(differs) == any("win over" in sentence for sentence in told)


def test_a_cluster_is_never_resized_by_a_models_defaults() -> None:
    merged, _ = rules.merged({"num_nodes_finetune": 1}, {"num_nodes_finetune": 4}, {"num_nodes_finetune"})
    assert merged == {"num_nodes_finetune": 1}


def test_a_parameter_that_this_version_does_not_have_is_named() -> None:
    with pytest.raises(InvalidInput, match="no parameter apply_ort"):
        rules.merged({"apply_ort": "true"}, {}, {"apply_lora"})


def test_only_sizes_of_the_allow_list_are_let_through() -> None:
    rules.check_size("Phi", ALLOW, A100.upper())
    with pytest.raises(Refused, match=f"set compute.size to one of {A100}, Standard_NC48ads_A100_v4"):
        rules.check_size("Phi", ALLOW, "Standard_NC40ads_H100_v5")


@pytest.mark.parametrize("size", ["Standard_NC6", "standard_nc12", "STANDARD_NC24", "Standard_NC24r"])
def test_without_a_list_the_unsupported_sizes_are_refused(size: str) -> None:
    with pytest.raises(Refused, match=f"^{size} is not supported for fine-tuning"):
        rules.check_size("Phi", {}, size)
    rules.check_size("Phi", {}, "Standard_NC40ads_H100_v5")


@pytest.mark.parametrize("tag", ["", "__import__('os')", "{'a': 1}", "[1", "3"])
def test_a_tag_that_is_no_list_is_an_error_and_is_never_run(tag: str) -> None:
    with pytest.raises(InvalidInput, match="finetune_compute_allow_list of Phi is not a list"):
        rules.check_size("Phi", {rules.ALLOWED: tag}, A100)


def test_the_gpus_are_those_of_the_size_list() -> None:
    known = [(A100, 1), ("Standard_NC48ads_A100_v4", 2), ("Standard_E4s_v3", 0)]
    assert rules.gpus("standard_nc48ads_a100_v4", known, None) == 2
    assert rules.gpus("standard_nc48ads_a100_v4", known, 1) == 1
    for size, asked, said in (
        ("Standard_NC24rs_v3", None, "has no size Standard_NC24rs_v3"),
        ("Standard_E4s_v3", None, "has no GPU"),
        (A100, 2, f"is 2, and {A100} has 1"),
    ):
        with pytest.raises(InvalidInput, match=said):
            rules.gpus(size, known, asked)


def test_no_more_instances_than_the_cluster_may_have() -> None:
    rules.check_nodes(2, 2)
    with pytest.raises(InvalidInput, match="num_nodes_finetune is 3, and the cluster has at most 2"):
        rules.check_nodes(3, 2)
