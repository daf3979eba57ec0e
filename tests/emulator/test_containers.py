"""Deployments that bring a container: the real start script of serving/container, behind the endpoint's own address.

What runs behind it here is a stand-in, not vLLM (emulator/stand_ins/vllm_stand_in.py).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from emulator.containers import Dockerfile, lay_out, parse
from emulator.errors import ArmError

ROOT = Path(__file__).parents[2]
NAME, ROUTE = "contained", "/v1/chat/completions"
ASKED = {"messages": [{"role": "user", "content": "the hat"}], "max_tokens": 6}
ROUTES = {
    "liveness_route": {"path": "/health", "port": 8000},
    "readiness_route": {"path": "/health", "port": 8000},
    "scoring_route": {"path": ROUTE, "port": 8000},
}


def test_a_dockerfile_is_read_as_far_as_nothing_must_be_run() -> None:
    read = parse("# why\nFROM a/b:1@sha256:0\nWORKDIR /opt/x\nENV A=1 B='2 3'\nCOPY a.py \\\n  b.py ./\nEXPOSE 80\n")
    assert (read.image, str(read.workdir), read.env) == ("a/b:1@sha256:0", "/opt/x", {"A": "1", "B": "2 3"})
    assert read.copies == [(["a.py", "b.py"], "/opt/x")]
    for wrong in ("RUN pip install x", "COPY --from=b a c", "ENTRYPOINT python3 start.py", "ADD a b"):
        with pytest.raises(ArmError, match="no container engine"):
            parse(f"FROM a\n{wrong}")


def test_files_come_from_the_context_and_from_nowhere_else(tmp_path: Path) -> None:
    context, root = tmp_path / "context", tmp_path / "root"
    context.mkdir()
    (context / "a.py").write_text("1")
    (tmp_path / "secret").write_text("2")
    lay_out(Dockerfile(copies=[(["a.py"], "/opt/x"), (["a.py"], "/opt/y/b.py")]), context, root)
    assert sorted(str(file.relative_to(root)) for file in root.rglob("*.py")) == ["opt/x/a.py", "opt/y/b.py"]
    for outside in ("../secret", "missing"):
        with pytest.raises(ArmError, match="COPY failed"):
            lay_out(Dockerfile(copies=[([outside], "/")]), context, root)


@pytest.fixture(scope="module")
def model(ml_client: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    from azure.ai.ml.entities import ManagedOnlineEndpoint, Model

    sys.path.insert(0, str(ROOT / "tests/serving"))
    from tiny_models import make_model, make_tokenizer

    folder = tmp_path_factory.mktemp("model") / "tiny"
    make_model("llama").save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    ml_client.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name=NAME, auth_mode="key")).result()
    return ml_client.models.create_or_update(Model(name="tiny", version="1", path=str(folder), type="custom_model"))


def deployment(ml: Any, colour: str, environment: Any, **more: Any) -> Any:
    from azure.ai.ml.entities import ManagedOnlineDeployment, OnlineRequestSettings

    made = ManagedOnlineDeployment(
        name=colour,
        endpoint_name=NAME,
        environment=environment,
        instance_type="Standard_NC24ads_A100_v4",
        instance_count=1,
        request_settings=OnlineRequestSettings(request_timeout_ms=60_000, max_concurrent_requests_per_instance=4),
        **more,
    )
    return ml.online_deployments.begin_create_or_update(made).result()


@pytest.mark.slow
def test_a_container_answers_at_its_own_route(ml_client: Any, model: Any, tmp_path: Path) -> None:
    from azure.ai.ml.entities import BuildContext, Environment

    tier = yaml.safe_load((ROOT / "serving/tiers.yaml").read_text())["tiers"]["gpu"]["serving"]
    import json

    made = ml_client.environments.create_or_update(
        Environment(
            name="contained",
            version="1",
            build=BuildContext(path=str(ROOT / "serving/container"), dockerfile_path="Dockerfile"),
            inference_config=ROUTES,
        )
    )
    variables = {
        **tier["environment_variables"],
        "SERVED_MODEL_NAME": "phi",
        "SERVER_PORT": "8000",
        "SERVER_ARGUMENTS": json.dumps(tier["arguments"]),
    }
    environment = f"azureml:{made.name}:{made.version}"
    more = {"model": model.id, "model_mount_path": "/models", "environment_variables": variables}
    done = deployment(ml_client, "green", environment, **more)
    assert done.provisioning_state == "Succeeded"
    assert done.code_configuration is None
    endpoint = ml_client.online_endpoints.get(NAME)
    assert endpoint.scoring_uri == f"https://{NAME}.eastus2.inference.ml.azure.com{ROUTE}"
    endpoint.traffic = {"green": 100}
    ml_client.online_endpoints.begin_create_or_update(endpoint).result()
    assert ml_client.online_endpoints.get(NAME).scoring_uri == endpoint.scoring_uri
    key = ml_client.online_endpoints.get_keys(NAME).primary_key
    with httpx.Client(headers={"Authorization": f"Bearer {key}"}, timeout=60) as client:
        answer = client.post(endpoint.scoring_uri, json=ASKED)
        assert answer.status_code == 200, answer.text
        assert answer.json()["usage"]["completion_tokens"] == 6
        other = client.post(endpoint.scoring_uri.removesuffix(ROUTE) + "/score", json=ASKED)
        assert (other.status_code, other.headers["ms-azureml-model-error-statuscode"]) == (424, "404")
    _autoscale_has_one_owner(tmp_path)
    log = ml_client.online_deployments.get_logs("green", NAME, lines=50)
    assert "the hat" not in log
    assert "vllm serve" in log


def _autoscale_has_one_owner(folder: Path) -> None:
    """The live colour's rule is there, as Azure Monitor took it, but while a rollout is under way."""
    from azure.core.exceptions import ResourceNotFoundError
    from azure.mgmt.monitor import MonitorManagementClient

    from scripts import autoscale, azure_ml, settings
    from scripts.provision import Place, destroy

    values = yaml.safe_load((ROOT / "scripts/environments/production.yaml").read_text())
    names = {"resource_group": "rg-mlops", "workspace": "ws-mlops", "endpoint": NAME}
    path = folder / "e.yaml"
    path.write_text(
        yaml.safe_dump({**values, **names, "serving": {"tier": "gpu"}, "serving_environment": {"name": "x"}})
    )
    made = settings.load(path)
    known = MonitorManagementClient(azure_ml.credential(), made.subscription_id).autoscale_settings
    assert autoscale.settle(made, rolling_out=False) == "green"
    found = known.get("rg-mlops", f"{NAME}-green")
    assert found.target_resource_uri.endswith(f"/onlineEndpoints/{NAME}/deployments/green")
    (profile,) = found.profiles
    assert (profile.capacity.minimum, profile.capacity.maximum, len(profile.rules)) == ("1", "2", 2)
    assert autoscale.settle(made, rolling_out=True) == ""
    with pytest.raises(ResourceNotFoundError):
        known.get("rg-mlops", f"{NAME}-green")
    assert autoscale.settle(made, rolling_out=True) == "", "none to take away is well"
    autoscale.settle(made, rolling_out=False)
    gone = destroy._remove(destroy.autoscale_of(Place(made), "green"), delete=True)
    assert gone is not None
    assert gone.state == "deleted"
    assert not list(known.list_by_resource_group("rg-mlops"))


@pytest.mark.slow
def test_an_image_that_nothing_stands_in_for_is_one_sentence(ml_client: Any, model: Any) -> None:
    from azure.ai.ml.entities import Environment

    routes = {**ROUTES, "scoring_route": {"path": "/ask", "port": 80}}
    made = ml_client.environments.create_or_update(
        Environment(name="other", version="1", image="ghcr.io/someone/server:1", inference_config=routes)
    )
    with pytest.raises(Exception, match=r"cannot run image 'ghcr.io/someone/server:1', and can stand in for vllm"):
        deployment(ml_client, "blue", f"azureml:{made.name}:1", model=model.id)
    assert ml_client.online_deployments.get("blue", NAME).provisioning_state == "Failed"
    plain = ml_client.environments.create_or_update(Environment(name="plain", version="1", image="any"))
    with pytest.raises(Exception, match="inference_config"):
        deployment(ml_client, "red", f"azureml:{plain.name}:1", model=model.id)
