"""`quantise` in a real workspace: what comes of it is another model, and no verdict on its source lets it through."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scripts import records
from scripts.errors import InvalidInput, Refused
from scripts.quantise import recipe_file
from scripts.rollout.begin import check_verdict
from tests.scripts.rollout.world import World, judged, run
from tests.serving.tiny_models import make_model, make_tokenizer

ROOT = Path(__file__).parents[2]
SCRIPT = """
import json, sys
from pathlib import Path
from scripts import azure_ml, provision, records, register, settings
from scripts.errors import Refused, InvalidInput
from scripts.quantise import quantise
out = Path(sys.argv[1])
values = settings.load(Path("scripts/environments/demo.yaml"))
for resource in provision.resources(values):
    if resource.kind in ("resource group", "container registry", "workspace"):
        resource.create()
source = register.register(values, "tuned", str(out / "model"), register.digests.of_folder(out / "model"),
                           records.Lineage(data="d" * 64, job="train-1"))
chats = Path("data/heldout.jsonl")
first, found = quantise(values, source, "int8", chats)
again, _ = quantise(values, source, "int8", chats)
refused = []
for model in (source.model_copy(update={"digest": "0" * 64}), source.model_copy(update={"version": "9"}), first):
    try:
        quantise(values, model, "int8", chats)
        refused.append("")
    except (Refused, InvalidInput) as error:
        refused.append(f"{type(error).__name__}: {error}")
tags = azure_ml.client(values).models.get(first.name, first.version).tags
said = {"source": source.model_dump(mode="json"), "first": first.model_dump(mode="json"), "found": found,
        "again": again.version, "refused": refused, "tags": dict(tags)}
(out / "said.json").write_text(json.dumps(said))
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("quantise")
    make_model("llama", hidden_size=64, intermediate_size=96).save_pretrained(folder / "model")
    make_tokenizer().save_pretrained(folder / "model")
    command = [sys.executable, "-m", "emulator", "run", "--", sys.executable, "-c", SCRIPT, str(folder)]
    environment = {**os.environ, "EMULATOR_HOME": str(folder / "azure"), "PYTHONPATH": str(ROOT)}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdin=subprocess.DEVNULL)
    return json.loads((folder / "said.json").read_text())


@pytest.mark.slow
class TestQuantise:
    def test_it_is_a_version_with_a_digest_and_lineage_of_its_own(self, said: Any) -> None:
        source, first = (records.Model.model_validate(said[name]) for name in ("source", "first"))
        assert first.name == source.name
        assert (first.version, first.digest) != (source.version, source.digest)
        assert first.version == first.digest[:12]
        assert (first.lineage.source, first.lineage.source_digest) == (f"tuned:{source.version}", source.digest)
        assert (first.lineage.data, first.lineage.job) == ("d" * 64, "train-1")
        assert first.lineage.conversion == f"int8:{said['found']['recipe_digest']}"
        assert said["tags"] == {
            "digest": first.digest,
            "artifact": "onnx",
            **{k: v for k, v in first.lineage.model_dump().items() if v},
        }
        assert said["found"]["prompts"] == 200

    def test_the_same_conversion_is_the_same_version(self, said: Any) -> None:
        assert said["again"] == said["first"]["version"]

    def test_what_is_not_the_recorded_model_is_refused(self, said: Any) -> None:
        changed, missing, converted = said["refused"]
        assert changed.startswith("Refused: The files of model tuned:")
        assert missing == "InvalidInput: The workspace has no model tuned:9: register it first."
        assert converted.startswith("InvalidInput: ")
        assert "cannot be loaded as a model" in converted

    def test_a_verdict_on_the_source_moves_no_traffic_to_it(self, said: Any) -> None:
        source, first = said["source"]["digest"], said["first"]["digest"]
        world = World()
        world.models["green"] = first
        with pytest.raises(Refused, match=f"runs model {first[:12]}, but the verdict judged {source[:12]}"):
            run(world.actor(), judged(candidate_model=source))
        assert (world.written, world.held) == ([], None)
        check_verdict(judged(candidate_model=first), world.actor().endpoint, "blue", "green")


@pytest.mark.parametrize("recipe", ["int9", "../int8", "", "int8.yaml"])
def test_a_recipe_that_is_not_there_is_named_with_those_that_are(recipe: str) -> None:
    with pytest.raises(InvalidInput, match="fp32, int4, int8, int8_blocks"):
        recipe_file(recipe)
