"""Command jobs through the unmodified SDK: run, fail, cancel, stream, outputs, one run a name, models from outputs."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.context import Emulator, Settings
from emulator.errors import ArmError
from emulator.job_command import missing_references, resolve
from emulator.job_runner import fail_interrupted
from emulator.runtime import runtime_of
from emulator.store import Store

slow = pytest.mark.slow
TERMINAL = ("Completed", "Failed", "Canceled")
NAMES = st.from_regex(r"[A-Za-z_]\w{0,8}", fullmatch=True)
REPORT = """
import json, os, pathlib, sys
given = dict(pair.split("=", 1) for pair in sys.argv[1:])
seen = {"argv": given, "env": dict(os.environ), "cwd": os.listdir(".")}
seen["files"] = {k: sorted(p.name for p in pathlib.Path(v).rglob("*")) for k, v in given.items() if os.path.isdir(v)}
seen["texts"] = {k: open(v).read() for k, v in given.items() if os.path.isfile(v)}
print("working")
pathlib.Path(given["out"], "nested").mkdir()
pathlib.Path(given["out"], "nested", "report.json").write_text(json.dumps(seen))
pathlib.Path("outputs/artifact.txt").write_text("kept")
"""


@given(st.dictionaries(NAMES, st.text(max_size=20).filter(lambda text: "${{" not in text and "$[[" not in text)))
def test_resolve_puts_every_value_where_it_is_named(values: dict[str, str]) -> None:
    command = "|".join(f'"${{{{inputs.{name}}}}}" ${{{{ outputs.{name} }}}}' for name in values)
    expected = "|".join(f'"{value}" {value}' for value in values.values())
    assert resolve(command, values, values) == expected


@given(NAMES, NAMES)
def test_resolve_refuses_what_nothing_answers_and_drops_it_when_optional(known: str, unknown: str) -> None:
    if known == unknown:
        return
    command = f"run ${{{{inputs.{known}}}}} $[[--maybe ${{{{inputs.{unknown}}}}}]]"
    assert resolve(command, {known: "v"}, {}) == "run v "
    assert resolve(command, {known: "v", unknown: "w"}, {}) == "run v --maybe w"
    assert missing_references(f"${{{{inputs.{unknown}}}}}", {known: 1}, {unknown: 1}) == [f"inputs.{unknown}"]
    with pytest.raises(ArmError, match=f"inputs.{unknown}"):
        resolve(f"${{{{inputs.{unknown}}}}}", {known: "v"}, {unknown: "v"})


def test_jobs_of_a_stopped_emulator_are_failed_and_say_why(tmp_path: Path) -> None:
    store = Store(tmp_path / "state.db")
    job = "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w/jobs/"
    for name, status in (("running", "Running"), ("preparing", "Preparing"), ("done", "Completed")):
        store.put(job + name, {"id": job + name, "name": name, "properties": {"status": status}})
    parts: dict[str, Any] = dict.fromkeys(("storage", "operations", "processes", "tokens", "tracking"))
    fail_interrupted(runtime_of(Emulator(settings=Settings(tmp_path), store=store, **parts)))
    found = {name: store.need(job + name) for name in ("running", "preparing", "done")}
    assert [each["properties"]["status"] for each in found.values()] == ["Failed", "Failed", "Completed"]
    assert "was stopped while this job was running" in found["running"]["_error"]["message"]
    assert "_error" not in found["done"]


@pytest.fixture(scope="module")
def ml(ml_client: Any) -> Any:
    """The client, with a compute and an environment there."""
    from azure.ai.ml.entities import AmlCompute, Environment

    ml_client.compute.begin_create_or_update(AmlCompute(name="cpu-jobs", size="Standard_DS3_v2")).result()
    ml_client.environments.create_or_update(Environment(name="jobs", version="1", image="mcr.microsoft.com/any"))
    return ml_client


Submit = Callable[..., Any]


@pytest.fixture
def submit(ml: Any, tmp_path: Path) -> Iterator[Submit]:
    """Submit a command (with `script` as main.py in its code folder, if given); whatever still runs is cancelled."""
    from azure.ai.ml import command

    submitted: list[str] = []

    def send(text: str, script: str = "", **options: Any) -> Any:
        if script:
            code = tmp_path / "code"
            code.mkdir(exist_ok=True)
            (code / "main.py").write_text(script)
            options["code"] = str(code)
        job = ml.jobs.create_or_update(command(command=text, environment="jobs:1", compute="cpu-jobs", **options))
        submitted.append(job.name)
        return job

    yield send
    for name in submitted:
        if ml.jobs.get(name).status not in TERMINAL:
            ml.jobs.begin_cancel(name).result()


def ended(ml: Any, name: str, seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while (job := ml.jobs.get(name)).status not in TERMINAL:
        assert time.monotonic() < deadline, f"job {name} is still {job.status}"
        time.sleep(0.1)
    return job


def download(ml: Any, name: str, folder: Path, **options: Any) -> Path:
    with redirect_stdout(io.StringIO()):
        ml.jobs.download(name, download_path=folder, **options)
    return folder


def history_error(credential: Any, ml: Any, name: str) -> dict[str, Any]:
    import httpx

    scope = f"subscriptions/{ml.subscription_id}/resourceGroups/{ml.resource_group_name}/providers"
    path = f"{scope}/Microsoft.MachineLearningServices/workspaces/{ml.workspace_name}/runs/{name}/details"
    token = credential.get_token("https://management.azure.com/.default").token
    url = f"https://eastus2.api.azureml.ms/history/v1.0/{path}"
    answer = httpx.get(url, headers={"Authorization": f"Bearer {token}"}).raise_for_status().json()
    return answer["error"]["error"]


@slow
def test_a_job_gets_its_inputs_and_its_outputs_come_back(ml: Any, submit: Submit, tmp_path: Path) -> None:
    from azure.ai.ml import Input, Output
    from azure.ai.ml.entities import Data, Model

    (tmp_path / "rows.jsonl").write_text("row\n")
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    (tmp_path / "folder" / "deep" / "a.txt").write_text("a")
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "weights.bin").write_text("w")
    rows = ml.data.create_or_update(Data(name="rows", version="1", type="uri_file", path=str(tmp_path / "rows.jsonl")))
    ml.models.create_or_update(Model(name="base", version="3", path=str(tmp_path / "base"), type="custom_model"))
    job = submit(
        'python main.py file=${{inputs.file}} folder="${{inputs.folder}}" model=${{ inputs.model }} '
        "uri=${{inputs.uri}} n=${{inputs.n}} flag=${{inputs.flag}} out=${{outputs.result}}",
        REPORT,
        inputs={
            "file": Input(type="uri_file", path="azureml:rows:1"),
            "folder": Input(type="uri_folder", path=str(tmp_path / "folder")),
            "model": Input(type="custom_model", path="azureml:base:3"),
            "uri": Input(type="uri_file", path=rows.path),
            "n": 3,
            "flag": True,
        },
        outputs={"result": Output(type="uri_folder")},
        environment_variables={"COLOUR": "blue"},
        experiment_name="inputs",
    )
    assert job.status == "Starting"
    done = ended(ml, job.name)
    assert done.status == "Completed"
    named = download(ml, job.name, tmp_path / "named", output_name="result") / "named-outputs" / "result"
    seen = json.loads((named / "nested" / "report.json").read_text())
    assert seen["texts"] == {"file": "row\n", "uri": "row\n"}
    assert seen["files"] == {"folder": ["a.txt", "deep"], "model": ["weights.bin"], "out": []}
    assert (seen["argv"]["n"], seen["argv"]["flag"]) == ("3", "True")
    environment = seen["env"]
    assert environment["COLOUR"] == "blue"
    assert environment["AZUREML_RUN_ID"] == job.name
    assert environment["AZUREML_ARM_WORKSPACE_NAME"] == ml.workspace_name
    assert environment["HF_HUB_OFFLINE"] == "1"
    assert "main.py" in seen["cwd"]
    artifacts = download(ml, job.name, tmp_path / "default") / "artifacts"
    assert (artifacts / "outputs" / "artifact.txt").read_text() == "kept"
    assert "working" in (artifacts / "user_logs" / "std_log.txt").read_text()


@slow
def test_the_managed_identity_of_the_compute_logs_a_job_in(ml: Any, submit: Submit, tmp_path: Path) -> None:
    from azure.ai.ml.entities import AmlCompute, IdentityConfiguration

    identity = IdentityConfiguration(type="system_assigned")
    compute = AmlCompute(name="cpu-identity", size="Standard_DS3_v2", identity=identity)
    ml.compute.begin_create_or_update(compute).result()
    script = (
        "import os\n"
        "assert 'MSI_ENDPOINT' in os.environ  # without it the credential would try the metadata service of a machine\n"
        "from azure.identity import ManagedIdentityCredential as M\n"
        "open('outputs/length', 'w').write(str(len(M().get_token('https://management.azure.com/.default').token)))\n"
    )
    job = submit("python main.py", script)
    assert ended(ml, job.name).status == "Failed", "a compute without an identity must not give a login"
    from azure.ai.ml import command

    with_login = command(command="python main.py", code=str(tmp_path / "code"), environment="jobs:1")
    with_login.compute = "cpu-identity"
    name = ml.jobs.create_or_update(with_login).name
    assert ended(ml, name).status == "Completed"
    length = download(ml, name, tmp_path / "login") / "artifacts" / "outputs" / "length"
    assert int(length.read_text()) > 100


@slow
def test_the_log_can_be_followed_while_the_job_runs(ml: Any, submit: Submit, tmp_path: Path) -> None:
    go = tmp_path / "go"
    job = submit(f"echo first; while [ ! -e '{go}' ]; do sleep 0.1; done; echo second")
    shown = io.StringIO()

    def follow() -> None:
        with redirect_stdout(shown):
            ml.jobs.stream(job.name)

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    deadline = time.monotonic() + 30
    while "first" not in shown.getvalue():
        assert time.monotonic() < deadline, shown.getvalue()
        time.sleep(0.1)
    assert "second" not in shown.getvalue()
    assert ml.jobs.get(job.name).status == "Running"
    go.touch()
    follower.join(30)
    assert "second" in shown.getvalue()
    assert "Execution Summary" in shown.getvalue()


@slow
def test_a_failing_command_fails_the_job_with_the_tail_of_its_log(
    ml: Any, submit: Submit, credential: Any, tmp_path: Path
) -> None:
    from azure.ai.ml import Output
    from azure.ai.ml.exceptions import JobException

    text = "echo checkpoint > ${{outputs.model}}/c.txt; sleep 1; echo the last words >&2; exit 7"
    job = submit(text, outputs={"model": Output(type="uri_folder")})
    with redirect_stdout(io.StringIO()), pytest.raises(JobException, match="the last words"):
        ml.jobs.stream(job.name)
    assert ml.jobs.get(job.name).status == "Failed"
    error = history_error(credential, ml, job.name)
    assert error["code"] == "UserError"
    assert "exited with status code 7" in error["message"]
    kept = download(ml, job.name, tmp_path, output_name="model") / "named-outputs" / "model" / "c.txt"
    assert kept.read_text() == "checkpoint\n"


def running_with(text: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if process.pid != os.getpid() and text in " ".join(process.info["cmdline"] or []):
            found.append(process)
    return found


@slow
def test_cancel_ends_the_whole_process_group(ml: Any, submit: Submit) -> None:
    job = submit("sleep 4711 & sleep 4711")
    deadline = time.monotonic() + 30
    while len(running_with("sleep 4711")) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert running_with("sleep 4711")
    ml.jobs.begin_cancel(job.name).result()
    assert ended(ml, job.name, 20).status == "Canceled"
    assert not running_with("sleep 4711")


@slow
def test_a_job_past_its_limit_is_cancelled(ml: Any, submit: Submit, credential: Any) -> None:
    job = submit("sleep 4712", timeout=1)
    assert ended(ml, job.name, 30).status == "Canceled"
    assert "longer than its limit" in history_error(credential, ml, job.name)["message"]


@slow
def test_a_name_is_one_run_however_often_it_is_submitted(ml: Any, submit: Submit, tmp_path: Path) -> None:
    count = tmp_path / "count"
    name = f"train-{os.getpid()}"
    with ThreadPoolExecutor(3) as pool:
        jobs = [pool.submit(submit, f"echo run >> '{count}'", name=name, tags={"n": str(n)}) for n in range(3)]
        assert {job.result().name for job in jobs} == {name}
    assert ended(ml, name).status == "Completed"
    again = submit(f"echo run >> '{count}'", name=name, tags={"later": "yes"})
    assert again.status == "Completed"
    assert ml.jobs.get(name).tags == {"later": "yes"}
    time.sleep(1)
    assert count.read_text() == "run\n"


@slow
def test_what_a_failed_job_left_at_a_place_of_its_own_is_there_for_the_next_try(
    ml: Any, submit: Submit, tmp_path: Path
) -> None:
    """How training goes on: its checkpoints are a mounted output whose path is the work's, not the job's."""
    from azure.ai.ml import Output

    place = f"azureml://datastores/workspaceblobstore/paths/checkpoints/work-{os.getpid()}"
    text = "echo $(( $(cat ${{outputs.kept}}/step 2>/dev/null || echo 0) + 1 )) > ${{outputs.kept}}/step; "
    text += f"cp ${{{{outputs.kept}}}}/step '{tmp_path}/seen'; exit 1"
    for expected in ("1\n", "2\n"):
        job = submit(text, outputs={"kept": Output(type="uri_folder", mode="rw_mount", path=place)})
        assert ended(ml, job.name).status == "Failed"
        assert (tmp_path / "seen").read_text() == expected


@slow
def test_what_cannot_run_is_refused_at_once(ml: Any, submit: Submit) -> None:
    from azure.ai.ml import Input, command
    from azure.core.exceptions import AzureError

    missing = command(command="true", environment="jobs:1", compute="no-such-compute")
    with pytest.raises(AzureError, match="no-such-compute"):
        ml.jobs.create_or_update(missing)
    nowhere = Input(type="uri_file", path="azureml://datastores/workspaceblobstore/paths/nowhere.txt")
    job = submit("cat ${{inputs.x}}", inputs={"x": nowhere})
    assert ended(ml, job.name).status == "Failed"


@slow
def test_a_model_is_registered_from_an_output_of_a_completed_job_only(ml: Any, submit: Submit, tmp_path: Path) -> None:
    from azure.ai.ml import Output
    from azure.ai.ml.entities import Model
    from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

    text = "mkdir ${{outputs.model}}/best && echo w > ${{outputs.model}}/best/w.bin"
    outputs = {"model": Output(type="uri_folder"), "empty": Output(type="uri_folder")}
    good, bad = submit(text, outputs=outputs), submit(f"{text}; exit 1", outputs=outputs)
    assert (ended(ml, good.name).status, ended(ml, bad.name).status) == ("Completed", "Failed")

    def register(version: str, path: str) -> Any:
        return ml.models.create_or_update(Model(name="tuned", version=version, type="custom_model", path=path))

    model = register("1", f"azureml://jobs/{good.name}/outputs/model/paths/best")
    assert model.path.endswith(f"/datastores/workspaceblobstore/paths/azureml/{good.name}/model/best")
    model.tags = {"verdict": "pass"}  # what is learned about a model later is written on it
    assert ml.models.create_or_update(model).tags == {"verdict": "pass"}
    ml.models.download("tuned", "1", download_path=tmp_path)
    assert [path.read_text() for path in tmp_path.rglob("w.bin")] == ["w\n"]
    with pytest.raises(ResourceNotFoundError, match="not found"):
        register("2", "azureml://jobs/nobody/outputs/model")
    refused = {
        f"azureml://jobs/{good.name}/outputs/other": "no output 'other'",
        f"azureml://jobs/{good.name}/outputs/empty": "left nothing there",
        f"azureml://jobs/{bad.name}/outputs/model": "is Failed",
    }
    for path, why in refused.items():
        with pytest.raises(HttpResponseError, match=why) as caught:
            register("2", path)
        assert caught.value.status_code == 400


BEFORE = """
import os, sys
from azure.ai.ml import MLClient, command
from azure.ai.ml.entities import AmlCompute, Environment, Workspace
from azure.identity import DefaultAzureCredential
from azure.mgmt.resource.resources import ResourceManagementClient
login, sub = DefaultAzureCredential(), os.environ["AZURE_SUBSCRIPTION_ID"]
ml = MLClient(login, sub, "rg", "ws-one")
if sys.argv[1] == "before":
    ResourceManagementClient(login, sub).resource_groups.create_or_update("rg", {"location": "eastus2"})
    ml.workspaces.begin_create(Workspace(name="ws-one", location="eastus2")).result()
    ml.compute.begin_create_or_update(AmlCompute(name="cpu", size="Standard_DS3_v2")).result()
    ml.environments.create_or_update(Environment(name="env", version="1", image="mcr.microsoft.com/any"))
    job = command(command="sleep 4713", environment="env:1", compute="cpu", name="cut-short")
    ml.jobs.create_or_update(job)
    import time
    while ml.jobs.get("cut-short").status != "Running":
        time.sleep(0.1)
else:
    print("FAILED", ml.jobs.get("cut-short").status == "Failed")
    ml.jobs.stream("cut-short")
"""


@slow
def test_a_crash_of_the_emulator_leaves_no_running_job(tmp_path: Path) -> None:
    from emulator.launcher import Options, command_env, start_serve, stop_serve

    home, script = tmp_path / "home", tmp_path / "before.py"
    script.write_text(BEFORE)
    options = Options(home, {}, operation_seconds=0.05)

    def run(phase: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, str(script), phase]
        env = command_env(Settings.load(home))
        return subprocess.run(argv, env=env, text=True, capture_output=True, check=False, timeout=120)

    serve = start_serve(options, detached=False)
    try:
        before = run("before")
        assert before.returncode == 0, before.stderr
        assert running_with("sleep 4713")
        serve.kill()
        serve.wait()
        stop_serve(serve, home)
        serve = start_serve(options, detached=False)
        assert not running_with("sleep 4713")
        after = run("after")
    finally:
        stop_serve(serve, home)
    assert "FAILED True" in after.stdout
    assert "was stopped while this job was running" in after.stderr
