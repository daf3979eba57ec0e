"""Which colour is free for a candidate."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.errors import Refused
from scripts.live import COLOURS, idle_colour, model_name


@pytest.mark.parametrize(
    ("traffic", "expected"),
    [
        ({}, ("", "blue")),
        ({"blue": 100}, ("blue", "green")),
        ({"green": 100}, ("green", "blue")),
        ({"green": 100, "blue": 0}, ("green", "blue")),
        ({"other": 100}, ("other", "blue")),
    ],
)
def test_the_idle_colour_is_the_other_one(traffic: dict[str, int], expected: tuple[str, str]) -> None:
    assert idle_colour(traffic) == expected


@given(st.integers(1, 99))
def test_split_traffic_has_no_idle_colour(weight: int) -> None:
    with pytest.raises(Refused, match="roll it back"):
        idle_colour({"blue": 100 - weight, "green": weight})


@given(st.dictionaries(st.sampled_from([*COLOURS, "other"]), st.just(100), max_size=1))
def test_the_idle_colour_never_has_traffic(traffic: dict[str, int]) -> None:
    stable, idle = idle_colour(traffic)
    assert idle not in traffic
    assert idle in COLOURS
    assert stable in ("", *traffic)


@pytest.mark.parametrize(
    ("identity", "name"),
    [
        ("/subscriptions/s/resourceGroups/g/providers/P/workspaces/w/models/tickets/versions/3", "tickets:3"),
        ("azureml://registries/azureml/models/Phi-4-mini/versions/1", "Phi-4-mini:1"),
        ("azureml:tickets:3", ""),
        ("None", ""),
        ("/models/versions/3", ""),
    ],
)
def test_a_deployments_model_is_named_as_people_name_it(identity: str, name: str) -> None:
    assert model_name(identity) == name
