"""What a schedule asks through the unmodified SDK: lists with tags and times, and a cluster's minimum changed."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

SOON = timedelta(minutes=10)


def recent(when: datetime) -> bool:
    return abs(datetime.now(UTC) - when) < SOON


def test_endpoints_are_listed_with_their_tags_and_times(ml_client: Any) -> None:
    from azure.ai.ml.entities import ManagedOnlineEndpoint

    for name, tags in (("day-two", {"train": "tickets"}), ("day-two-b", {})):
        ml_client.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name=name, tags=tags)).result()
    found = {each.name: each for each in ml_client.online_endpoints.list()}
    assert {"day-two", "day-two-b"} <= set(found)
    assert found["day-two"].tags == {"train": "tickets"}
    assert recent(datetime.fromisoformat(found["day-two"].properties["createdAt"]))


def test_the_minimum_of_a_cluster_can_be_changed_and_the_rest_stays(ml_client: Any) -> None:
    from azure.ai.ml.entities import AmlCompute

    made = AmlCompute(
        name="day-two", size="Standard_DS3_v2", min_instances=1, max_instances=3, idle_time_before_scale_down=300
    )
    ml_client.compute.begin_create_or_update(made).result()
    cluster = ml_client.compute.get("day-two")
    cluster.min_instances = 0
    ml_client.compute.begin_update(cluster).result()
    listed = {each.name: each for each in ml_client.compute.list()}["day-two"]
    for read in (ml_client.compute.get("day-two"), listed):
        assert (read.type.lower(), read.size) == ("amlcompute", "Standard_DS3_v2")
        assert (read.min_instances, read.max_instances, read.idle_time_before_scale_down) == (0, 3, 300)


def test_model_versions_say_when_they_were_made_and_keep_it(ml_client: Any, tmp_path: Path) -> None:
    from azure.ai.ml.entities import Model

    (tmp_path / "model.json").write_text(json.dumps({}))
    model = Model(name="day-two", version="1", path=str(tmp_path), type="custom_model", tags={"job": "train-1"})
    ml_client.models.create_or_update(model)
    made = ml_client.models.get("day-two", "1")
    made.tags["verdict"] = "fail"
    ml_client.models.create_or_update(made)
    (listed,) = ml_client.models.list(name="day-two")
    assert listed.tags == {"job": "train-1", "verdict": "fail"}
    assert listed.creation_context.created_at == made.creation_context.created_at
    assert recent(listed.creation_context.created_at)


@pytest.mark.slow
def test_jobs_are_listed_with_their_tags_status_compute_and_time(ml_client: Any) -> None:
    from azure.ai.ml import command
    from azure.ai.ml.constants import ListViewType
    from azure.ai.ml.entities import AmlCompute, Environment

    ml_client.compute.begin_create_or_update(AmlCompute(name="day-two-jobs", size="Standard_DS3_v2")).result()
    ml_client.environments.create_or_update(Environment(name="day-two", version="1", image="mcr.microsoft.com/any"))
    job = command(
        name="day-two-job",
        command="sleep 60",
        environment="day-two:1",
        compute="day-two-jobs",
        experiment_name="day-two",
        tags={"data_digest": "d", "period": "2026-Q4", "commit": "c"},
    )
    ml_client.jobs.create_or_update(job)
    found = {each.name: each for each in ml_client.jobs.list(list_view_type=ListViewType.ALL)}["day-two-job"]
    ml_client.jobs.begin_cancel("day-two-job").result()
    assert found.tags == {"data_digest": "d", "period": "2026-Q4", "commit": "c"}
    assert found.experiment_name == "day-two"
    assert found.compute == "day-two-jobs"
    assert recent(found.creation_context.created_at)
