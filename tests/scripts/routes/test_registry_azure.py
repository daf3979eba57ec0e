"""`route: registry` against the local Azure ML with a tiny model behind the catalogue: from the recipe to an answer."""

import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from eval.verdict import Verdict
from scripts import deploy, records, register, routes, train, training_job
from scripts import settings as settings_of
from scripts.errors import AzureFailed, InvalidInput, Refused
from scripts.provision import provision
from scripts.routes import registry_pipeline
from scripts.settings import Settings
from tests.emulator import azure_types
from tests.scripts.routes.registry_world import MODEL, ROOT, World, started, uploaded
from tests.workflows.tiny import make

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with started(tmp_path_factory.mktemp("registry")) as world:
        yield world


@pytest.fixture(scope="module")
def trained(world: World) -> records.Training:
    return world.train()


QUESTION = {"messages": make.row(1500)["messages"][:2], "max_tokens": 64, "temperature": 0}


@pytest.fixture(scope="module")
def released(world: World, trained: records.Training) -> dict[str, records.Model]:
    """The base model live on blue, the trained one on green without traffic."""
    base = register.register_folder(world.settings, world.home.parent / "base", "tiny-base")
    deploy.deploy(world.settings, base, "blue", [QUESTION], first=True)
    model = routes.named("registry").register(world.settings, trained)
    done = deploy.deploy(world.settings, model, "green", [QUESTION])
    assert (done.smoke.failures, done.weight) == (0, 0)
    return {"blue": base, "green": model}


def test_a_trained_model_is_registered_and_answers(
    world: World, trained: records.Training, released: dict[str, records.Model]
) -> None:
    assert (trained.route, trained.status, trained.attached) == ("registry", "Completed", False)
    assert trained.base_model == f"azureml://registries/azureml/models/{MODEL}/versions/1"
    assert trained.metrics.loss[0].loss > 3 * trained.metrics.loss[-1].loss
    assert trained.metrics.steps == 60
    assert trained.cost is not None
    assert trained.cost.node_hours
    model = released["green"]
    assert model.lineage == records.Lineage(
        data="d" * 64, code=trained.code_digest, recipe=trained.recipe.digest, job=trained.job_name, route="registry"
    )
    assert model.digest == trained.model_digest
    assert json.loads(asked(world.settings, "green"))["category"] == "defect"


def asked(values: Settings, colour: str) -> str:
    from scripts.endpoint import Endpoint, Requests

    endpoint = Endpoint(values)
    with Requests(endpoint.scoring_uri(), shape=endpoint.shape) as requests:
        return requests.ask(QUESTION, colour)[1]


EVALUATE = """
import json, sys
from pathlib import Path
from eval.run import run
prompts, uri, out, metrics, asked = sys.argv[1:]
run(Path(prompts), uri, Path(out), metrics=Path(metrics), **json.loads(asked))
"""


def scores(world: World, values: Settings, colour: str, rows: int) -> Path:
    """The score table of a colour, as `evaluate` makes it, over so many held-out prompts."""
    from scripts.endpoint import Endpoint

    folder, endpoint = world.home.parent, Endpoint(values)
    (folder / "heldout.jsonl").write_text(make.held_out(rows))
    (folder / "metrics.yaml").write_text("engine: promptflow-evals\nevaluators: {exact_match: {}}\n")
    out = folder / "scores" / f"{endpoint.name}-{colour}.jsonl"
    release = endpoint.deployments()[colour].tags["release"]
    asked = {
        "deployment": colour,
        "model_digest": endpoint.deployed_model(colour).digest,
        "serving": release,
        "by": "python",
        "quiet": True,
        "shape": endpoint.shape,
    }
    places = [folder / "heldout.jsonl", endpoint.scoring_uri(), out, folder / "metrics.yaml"]
    # A process of its own: the flow keeps its sign-in for as long as its process lives.
    subprocess.run([sys.executable, "-c", EVALUATE, *map(str, places), json.dumps(asked)], cwd=ROOT, check=True)
    return out


def gated(world: World, values: Settings, candidate: records.Model, baseline: records.Model) -> Verdict:
    """The verdict on green against blue; the same tables with the sides changed do not pass."""
    from scripts import gate

    mine, theirs = (scores(world, values, colour, make.HELD_OUT_ROWS) for colour in ("green", "blue"))
    rules = yaml.safe_load(make.judging())
    rules["metrics"] = [each for each in rules["metrics"] if each["name"] == "exact_match"]
    if candidate.artifact == "mlflow":  # nobody counts tokens there, so nobody can hold them against a limit
        del rules["cost"]
    policy = world.home.parent / "policy.yaml"
    policy.write_text(yaml.safe_dump(rules))
    verdict = gate.judge(mine, [theirs], policy, candidate.digest, baseline.digest)
    assert verdict.outcome == "pass", verdict.reason
    assert gate.judge(theirs, [mine], policy, baseline.digest, candidate.digest).outcome == "fail"
    return verdict


def rolled_out(world: World, values: Settings, verdict: Verdict) -> None:
    """The candidate gets everything, step by step."""
    from scripts.endpoint import Endpoint
    from scripts.rollout import policy as policies
    from scripts.rollout import run as rollout
    from scripts.rollout.begin import Wanted

    folder = world.home.parent
    (folder / "live.jsonl").write_text(make.live())
    sources = rollout.sources_of(folder / "live.jsonl", folder / "heldout.jsonl")
    wanted = Wanted(verdict, policies.load(values.rollout_policy), "green", None, again=False)
    done = rollout.run(values, wanted, sources, lambda _: None)
    assert (done.state, [step.weight for step in done.steps]) == ("PROMOTED", [10, 50, 100])
    assert sum(error for step in done.steps for error in step.errors.values()) == 0
    assert Endpoint(values).traffic() == {"green": 100}


def test_the_registered_model_passes_the_gate_and_a_rollout_moves_the_traffic(
    world: World, released: dict[str, records.Model]
) -> None:
    verdict = gated(world, world.settings, released["green"], released["blue"])
    rolled_out(world, world.settings, verdict)


@pytest.fixture(scope="module")
def no_code(world: World) -> Settings:
    """The demo's environment with the tier that Azure serves, at an endpoint of its own."""
    content = yaml.safe_load((ROOT / "scripts/environments/demo.yaml").read_text())
    content["serving"] = {"tier": "mlflow", "instance_type": "Standard_E4s_v3", "probe_initial_delay_seconds": 10}
    content["serving"]["content_filter"] = "off"
    path = world.home.parent / "mlflow.yaml"
    content["serving_environment"] = {"name": "phi-serving"}
    path.write_text(yaml.safe_dump({**content, "endpoint": "ticket-triage-mlflow"}))
    values = settings_of.load(path)
    provision(values)
    return values


def test_the_documents_output_is_served_without_code(
    world: World, no_code: Settings, trained: records.Training
) -> None:
    model = routes.named("registry").register(no_code, trained)
    kept = world.ml.models.get(model.name, model.version)
    assert (model.artifact, kept.type, kept.tags["artifact"]) == ("mlflow", "mlflow_model", "mlflow")
    assert model.path.rstrip("/").endswith("trained_model")
    assert model.digest != trained.model_digest
    assert model.lineage.job == trained.job_name
    done = deploy.deploy(no_code, model, "blue", [QUESTION] * 4, first=True)  # together, as `deploy` asks
    assert (done.smoke.failures, done.tier, done.weight) == (0, "mlflow", 100)
    sent = next(
        each["request"]["properties"]
        for each in world.requests()
        if each["method"] == "PUT" and each["path"].endswith("/ticket-triage-mlflow/deployments/blue")
    )
    assert "codeConfiguration" not in sent
    assert "environmentId" not in sent
    assert sent["model"].endswith(f"/models/{model.name}/versions/{model.version}")
    assert deploy.deploy(no_code, model, "blue", [QUESTION]).kept
    assert asked(no_code, "blue")
    rows = [json.loads(line) for line in scores(world, no_code, "blue", 4).read_text().splitlines()]
    assert [row["status"] for row in rows] == ["ok"] * 4


def test_the_other_of_azures_servers_leaves_the_prompt_as_it_is_and_is_rolled_out(
    world: World, no_code: Settings, trained: records.Training
) -> None:
    """Which one answers, the model itself says; and a folder in MLflow's form can be registered, too."""
    there = next((world.home / "deployments").rglob("MLmodel")).parent
    described = yaml.safe_load((there / "MLmodel").read_text())
    described["metadata"]["azureml.base_image"] = "mcr.microsoft.com/azureml/curated/foundation-model-inference:61"
    shutil.copytree(there, world.home.parent / "image")
    (world.home.parent / "image" / "MLmodel").write_text(yaml.safe_dump(described))
    model = register.register_folder(no_code, world.home.parent / "image", "with-image")
    assert (model.artifact, world.ml.models.get("with-image", model.version).type) == ("mlflow", "mlflow_model")
    assert deploy.deploy(no_code, model, "green", [QUESTION]).smoke.failures == 0
    assert json.loads(asked(no_code, "green")) == json.loads(asked(world.settings, "green"))
    assert json.loads(asked(no_code, "green"))["category"] == "defect"
    assert asked(no_code, "blue") != asked(no_code, "green")  # Llama's marks around the system prompt
    live = routes.named("registry").register(no_code, trained)
    rolled_out(world, no_code, gated(world, no_code, model, live))


def test_what_cannot_be_served_without_code_is_refused_by_us_and_by_azure(
    world: World, no_code: Settings, trained: records.Training, released: dict[str, records.Model]
) -> None:
    with pytest.raises(Refused, match="is a plain model folder, and this deployment takes one in MLflow's form"):
        deploy.deploy(no_code, released["green"], "green", [QUESTION])
    with pytest.raises(Refused, match="left no model in MLflow's form"):
        routes.named("job").register(no_code, trained)
    with pytest.raises(InvalidInput, match="only our own server reads MAX_BATCH_SIZE"):
        mine = released["green"].model_copy(update={"artifact": "mlflow"})
        deploy.deploy(no_code, mine, "green", [QUESTION], variables={"MAX_BATCH_SIZE": "1"})
    with pytest.raises(AzureFailed, match="only models of type mlflow_model are served without them"):
        deploy.deploy(no_code, mine, "blue", [QUESTION], over_way_back=True)
    there = {"name": released["green"].name, "version": released["green"].version}
    with_code = deploy._deployment(world.settings, released["green"], "green", {})
    with_code.endpoint_name, with_code.environment = no_code.endpoint, None
    with pytest.raises(Exception, match="its code needs one"):
        world.ml.online_deployments.begin_create_or_update(with_code).result()
    assert world.ml.models.get(**there).type == "custom_model"


def test_two_shapes_never_share_an_endpoint(world: World, no_code: Settings) -> None:
    beside = no_code.model_copy(update={"endpoint": world.settings.endpoint})
    from scripts.endpoint import Endpoint

    why = deploy.other_address(beside, Endpoint(world.settings).deployments())
    assert "takes requests of shape openai and the tier mlflow of shape foundry" in why
    assert not deploy.other_address(world.settings, Endpoint(world.settings).deployments())
    assert not deploy.other_address(no_code, Endpoint(no_code).deployments())


def test_the_pipeline_is_the_documents_own(world: World, trained: records.Training) -> None:
    job = world.ml.jobs.get(trained.job_name)
    assert job.display_name == f"{MODEL}-tickets-bs8-linear-nods-nolora-save_limit1-seqlen-1"
    assert job.tags["commit"] == "c" * 40
    assert job.tags["base_model"] == trained.base_model
    sent = next(
        each["request"]["properties"]
        for each in world.requests()
        if each["method"] == "PUT" and each["path"].endswith(f"/jobs/{trained.job_name}")
    )
    (node,) = sent["jobs"].values()
    assert node["componentId"] == "azureml://registries/azureml/components/chat_completion_pipeline/versions/0.0.82"
    assert sent["settings"]["force_rerun"] is True
    assert sent["settings"]["continue_on_step_failure"] is False
    assert sent["outputs"]["trained_model"]["jobOutputType"] == "mlflow_model"
    assert node["outputs"]["mlflow_model_folder"]["value"] == "${{parent.outputs.trained_model}}"
    literals = {name: value["value"] for name, value in node["inputs"].items() if "value" in value}
    assert literals["number_of_gpu_to_use_finetuning"] == "1"
    assert literals["apply_lora"] == "false"
    assert {literals[step] for step in registry_pipeline.STEPS} == {world.settings.compute.name}
    assert node["inputs"]["train_file_path"]["uri"].endswith("/train.jsonl")


def test_its_steps_are_runs_of_their_own(world: World, trained: records.Training) -> None:
    steps = list(world.ml.jobs.list(parent_job_name=trained.job_name))
    assert [each.display_name for each in steps] == [
        "ft_nlp_common_validation",
        "chat_completion_model_import",
        "chat_completion_datapreprocess",
        "chat_completion_finetune",
        "chat_completion_model_converter",
        "compute_metrics",
    ]
    assert {each.status for each in steps} == {"Completed"}
    assert not {each.name for each in steps} & {each.name for each in world.ml.jobs.list()}


def test_the_same_recipe_attaches_and_another_one_does_not(world: World, trained: records.Training) -> None:
    again = world.train()
    assert (again.attached, again.job_name) == (True, trained.job_name)
    assert again.model_digest == trained.model_digest
    other = train.train(world.settings, world.plan(training={"seed": 2}), wait_seconds=0)
    assert isinstance(other, train.Waiting)
    assert other.job_name != trained.job_name
    world.ml.jobs.begin_cancel(other.job_name).result()


def test_what_azure_would_refuse_is_refused_before_anything_is_made(world: World) -> None:
    phi = {"base_model": {"source": "Phi-4-mini-instruct"}}
    before = len([each for each in world.requests() if each["method"] == "PUT"])
    for settings, parts, kind, said in (
        (sized(world, "Standard_NC40ads_H100_v5", "h100"), phi, Refused, "set compute.size to one of Standard_NC24"),
        (sized(world, "Standard_NC24r", "old"), {}, Refused, "Standard_NC24r is retired"),
        (sized(world, "Standard_E4s_v3", "cpu"), {}, InvalidInput, "has no GPU"),
        (sized(world, "Standard_NC24s_v9", "none"), {}, InvalidInput, "has no size"),
        (world.settings, {"base_model": {"source": "Phi-4-maxi"}}, InvalidInput, "azureml has no model Phi-4-maxi"),
        (world.settings, {"base_model": {"revision": "9"}}, InvalidInput, "with version 9"),
        (world.settings, {"component": {"version": "9"}}, InvalidInput, "no component chat_completion_pipeline"),
        (world.settings, {"optimisation": {"number_of_gpu_to_use_finetuning": 2}}, InvalidInput, "is 2, and"),
        (world.settings, {"optimisation": {"num_nodes_finetune": 2}}, InvalidInput, "and the cluster has at most 1"),
    ):  # fmt: skip
        with pytest.raises(kind) as raised:
            train.train(settings, world.plan(**parts))
        assert said in str(raised.value)
    assert len([each for each in world.requests() if each["method"] == "PUT"]) == before


def sized(world: World, size: str, name: str) -> Settings:
    compute = world.settings.compute.model_copy(update={"size": size, "name": name})
    return world.settings.model_copy(update={"compute": compute})


def test_a_step_that_fails_ends_the_pipeline_and_is_named(world: World, tmp_path: Path) -> None:
    world.plan()  # writes the recipe
    broken = uploaded(world.settings, tmp_path / "data", "2", last='{"messages": []}\n')
    with pytest.raises(AzureFailed) as raised:
        train.train(world.settings, train.plan("tiny", broken, None))
    step, line = "chat_completion_datapreprocess", make.TRAINING_ROWS + 1
    assert f"ended as Failed: {step}: train_file_path: line {line} has no 'messages'" in str(raised.value)
    name = next(iter(world.ml.jobs.list())).name
    steps = [(each.display_name, each.status) for each in world.ml.jobs.list(parent_job_name=name)]
    assert steps[-1] == (step, "Failed")  # nothing began after it
    assert world.ml.jobs.get(name).tags["reported"] == "true"
    assert goes_on(world, train.plan("tiny", broken, None)) == steps  # no step can do without the failed one


def goes_on(world: World, work: train.Plan) -> list[tuple[str, str]]:
    """The steps, and how each ended, of the same pipeline when it is to continue after a step that failed."""
    ready = routes.named("registry").ready(world.settings, world.ml, work, lambda _: None)
    job = registry_pipeline.entity(world.ml, world.settings, ready, "goes-on", {})
    job.settings.continue_on_step_failure = True
    ended = training_job.wait(world.ml, world.ml.jobs.create_or_update(job), 120, pause=lambda _: time.sleep(0.2))
    assert training_job.status(ended) == "Failed"
    return [(each.display_name, each.status) for each in world.ml.jobs.list(parent_job_name="goes-on")]


def test_a_cluster_that_is_missing_is_made_and_one_that_failed_is_told(world: World) -> None:
    named = sized(world, "Standard_NC48ads_A100_v4", "another-cluster")
    done = train.train(named, world.plan(optimisation={"apply_deepspeed": True}), wait_seconds=0)
    assert isinstance(done, train.Waiting)
    world.ml.jobs.begin_cancel(done.job_name).result()
    assert world.ml.compute.get("another-cluster").size == "Standard_NC48ads_A100_v4"
    sent = [each for each in world.requests() if each["path"].endswith(f"/jobs/{done.job_name}")][-1]
    assert sent["host"] == "management.azure.com"
    world.faults({"kind": "cluster", "name": "no-cluster", "cluster": "broken-*", "message": "There is no room."})
    broken = sized(world, "Standard_NC24ads_A100_v4", "broken-cluster")
    jobs = len(list(world.ml.jobs.list()))
    with pytest.raises(AzureFailed, match=r"Making cluster broken-cluster.*There is no room"):
        train.train(broken, world.plan(training={"seed": 9}))
    world.faults()
    assert world.ml.compute.get("broken-cluster").provisioning_state == "Failed"
    with pytest.raises(AzureFailed, match="provisioning of cluster broken-cluster failed: delete it, or name another"):
        train.train(broken, world.plan(training={"seed": 9}))
    assert len(list(world.ml.jobs.list())) == jobs


def test_every_request_has_the_official_types(world: World, trained: records.Training) -> None:  # noqa: ARG001
    checked, problems = Counter[str](), Counter[str]()
    for each in world.requests():
        if (found := azure_types.deviations(each)) is not None:
            checked[each["path"].split("/")[9] if each["path"].count("/") > 8 else "workspace"] += 1
            said = "request.properties.properties.hash_version: 202208 is not StringType"  # the SDK's own
            problems.update(f"{each['method']} {each['path'][-60:]}: {one}" for one in found if one != said)
    assert checked["jobs"]
    assert not problems, "\n".join(f"{count} x {problem}" for problem, count in problems.most_common(40))
