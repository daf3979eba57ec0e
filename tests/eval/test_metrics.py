"""metrics.yaml: what is not known is refused by name, and the digest changes when a score could."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from eval import metrics as module
from eval.errors import EvalError
from eval.metrics import DEFAULT_METRICS, KNOWN, Metrics, caveats, judge_digest, load_metrics

JUDGE = {"service": "openai-compatible", "model": "m"}


def write(folder: Path, content: object) -> Path:
    path = folder / "metrics.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
    return path


def test_the_default_is_what_the_demo_scores_by():
    metrics = load_metrics()
    assert metrics.engine == "promptflow-evals" and metrics.judge is None
    assert list(metrics.evaluators) == ["exact_match", "json_valid", "field_accuracy", "f1"]


def test_every_evaluator_that_the_default_file_names_in_a_comment_is_known():
    lines = DEFAULT_METRICS.read_text().split("evaluators:")[1].split("\n\n")[0].splitlines()
    named = {line.strip(" #").split(":")[0] for line in lines if line.strip(" #").split(":")[0] in KNOWN}
    assert named == set(KNOWN)
    shown = [line.strip(" #") for line in DEFAULT_METRICS.read_text().splitlines()]
    text = "\n".join(["evaluators:", *(f"  {line}" for line in shown if line.split(":")[0] in KNOWN)])
    text += "\njudge: {service: azure-openai, model: m}"
    assert set(Metrics.model_validate(yaml.safe_load(text)).evaluators) == set(KNOWN)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"evaluators": {"exact_macth": {}}}, ["exact_macth", "known are", "exact_match", "fluency"]),
        ({"evaluators": {}}, ["evaluators"]),
        ({}, ["evaluators"]),
        ("", ["metrics.yaml"]),
        ("[]", ["metrics.yaml"]),
        ("a: [", ["not YAML"]),
        ({"evaluators": ["f1"]}, ["evaluators"]),
        ({"evaluators": {"f1": {"x": 1}}}, ["f1", "x", "unknown key"]),
        ({"evaluators": {"f1": {}}, "engines": "x"}, ["engines", "unknown key"]),
        ({"evaluators": {"f1": {}}, "engine": "mlflow"}, ["engine", "azure-ai-evaluation"]),
        ({"evaluators": {"format": {}}}, ["format", "pattern"]),
        ({"evaluators": {"format": {"pattern": "("}}}, ["format", "regular expression"]),
        ({"evaluators": {"format": {"max_length": 0}}}, ["format", "max_length"]),
        ({"evaluators": {"json_schema": {}}}, ["json_schema", "file"]),
        ({"evaluators": {"safety": {"service": "aws"}}}, ["safety", "service"]),
        ({"evaluators": {"fluency": {}}}, ["fluency", "judge"]),
        ({"evaluators": {"fluency": {}}, "judge": {**JUDGE, "key": "k"}}, ["judge.key", "unknown key"]),
        ({"evaluators": {"fluency": {}}, "judge": {"service": "azure-openai"}}, ["judge.model"]),
    ],
)
def test_a_wrong_file_is_one_sentence_that_names_it(content, says, tmp_path):
    with pytest.raises(EvalError) as caught:
        load_metrics(write(tmp_path, content))
    assert str(tmp_path / "metrics.yaml") in str(caught.value) and "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in says), caught.value


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(EvalError, match="cannot be read"):
        load_metrics(tmp_path / "nothing.yaml")


FULL = {
    "engine": "azure-ai-evaluation",
    "evaluators": {"f1": {}, "format": {"max_length": 9}, "fluency": {}, "json_schema": {"file": "s.json"}},
    "judge": JUDGE,
}


def digest(folder: Path, **changes: object) -> str:
    return judge_digest(load_metrics(write(folder, FULL | changes)))


def test_the_digest_is_of_what_can_change_a_score_and_of_nothing_else(tmp_path, monkeypatch):
    (tmp_path / "s.json").write_text("{}")
    first = digest(tmp_path)
    evaluators = FULL["evaluators"]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(tmp_path / "s.json", elsewhere)
    monkeypatch.setenv("MLOPS_JUDGE_ENDPOINT", "https://example.com")
    assert first == digest(tmp_path) == digest(elsewhere)
    assert first == digest(tmp_path, judge={**JUDGE, "at_once": 2, "patience_s": 5})
    assert first == digest(tmp_path, evaluators=dict(reversed(evaluators.items())))
    others = [
        digest(tmp_path, engine="promptflow-evals"),
        digest(tmp_path, judge={**JUDGE, "model": "another"}),
        digest(tmp_path, judge={**JUDGE, "service": "azure-openai"}),
        digest(tmp_path, evaluators={**evaluators, "rouge_l": {}}),
        digest(tmp_path, evaluators={**evaluators, "format": {"max_length": 8}}),
        digest(tmp_path, evaluators={**evaluators, "coherence": {}}),
    ]
    (tmp_path / "s.json").write_text('{"type": "object"}')
    others.append(digest(tmp_path))
    assert len({first, *others}) == len(others) + 1


def test_the_digest_knows_the_evaluators_code_the_judges_prompts_and_the_packages(tmp_path, monkeypatch):
    (tmp_path / "s.json").write_text("{}")
    first = digest(tmp_path)
    parts = list(module._parts(load_metrics(tmp_path / "metrics.yaml")))
    assert [part for part in parts if "fluency.prompty " in part]
    assert not [part for part in parts if "/_coherence/" in part]
    assert json.loads(parts[1])["jsonschema"]
    code = tmp_path / "code"
    shutil.copytree(module.CODE, code, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(module, "CODE", code)
    assert digest(tmp_path) == first
    (code / "words.py").write_text((code / "words.py").read_text() + "\n")
    assert digest(tmp_path) != first


def test_a_schema_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(EvalError, match=r"s\.json"):
        digest(tmp_path)


@pytest.mark.parametrize(
    ("evaluators", "said"), [({"safety": {}}, 1), ({"safety": {"service": "azure"}}, 0), ({"f1": {}}, 0)]
)
def test_the_local_stand_in_for_content_safety_is_never_silent(evaluators, said):
    found = caveats(Metrics.model_validate({"evaluators": evaluators}))
    assert len(found) == said and all("not by a service" in sentence for sentence in found)
