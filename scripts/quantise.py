"""`quantise`: make a registered model smaller for a CPU, as a model version with a digest of its own.

Everything after it judges and moves models by their digest, so a verdict on the source says nothing about this one:
deploy, evaluate and gate it as any other. The conversion runs where the command runs (convert/).
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from azure.core.exceptions import ResourceNotFoundError

from scripts import azure_ml, digests, records
from scripts.errors import InvalidInput, Refused
from scripts.register import register
from scripts.settings import Settings

CODE = Path(__file__).parents[1] / "convert"


def quantise(
    settings: Settings, model: records.Model, recipe: str, prompts: Path
) -> tuple[records.Model, dict[str, Any]]:
    """The registered, converted model and what the conversion found (convert/__main__.py).

    Raises InvalidInput for a recipe, model or prompts that cannot be used, Refused when the files of the workspace are
    not those that `model` says, AzureFailed.
    """
    path = recipe_file(recipe)
    with tempfile.TemporaryDirectory() as scratch:
        source = fetch(settings, model, Path(scratch) / "source")
        folder, report = Path(scratch) / f"{model.name}-{recipe}", Path(scratch) / "report.json"
        command = [
            sys.executable, "-m", CODE.name, "--model", str(source), "--recipe", str(path),
            "--prompts", str(prompts.resolve()), "--output", str(folder), "--report", str(report),
        ]  # fmt: skip
        # A process of its own: the model's gigabytes and torch's threads go when it ends.
        with azure_ml.waiting(f"Converting {model.name}:{model.version} by recipe {recipe}"):
            done = subprocess.run(command, cwd=CODE.parent, check=False, capture_output=True, text=True)
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines()
            raise InvalidInput(said[-1].removeprefix("✗ ") if said else f"Recipe {recipe} could not be carried out.")
        found = json.loads(report.read_text(encoding="utf-8"))
        lineage = model.lineage.model_copy(
            update={
                "source": f"{model.name}:{model.version}",
                "source_digest": model.digest,
                "conversion": f"{recipe}:{found['recipe_digest']}",
            }
        )
        return register(settings, model.name, str(folder), digests.of_folder(folder), lineage, "onnx"), found


def recipe_file(recipe: str) -> Path:
    """Raises InvalidInput for a name that is none of convert/recipes."""
    known = sorted(path.stem for path in (CODE / "recipes").glob("*.yaml"))
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,40}", recipe) or recipe not in known:
        raise InvalidInput(
            f"--recipe takes the name of a file in convert/recipes without .yaml ({', '.join(known)}), "
            f"not {recipe[:40]!r}."
        )
    return CODE / "recipes" / f"{recipe}.yaml"


def fetch(settings: Settings, model: records.Model, folder: Path) -> Path:
    """Download a registered model; the folder that has its config.json. Raises InvalidInput, Refused, AzureFailed."""
    ml, what = azure_ml.client(settings), f"model {model.name}:{model.version}"
    with azure_ml.explained(f"Downloading {what}"), azure_ml.waiting(f"Downloading {what}"):
        try:
            ml.models.download(model.name, model.version, download_path=str(folder))
        except ResourceNotFoundError:
            raise InvalidInput(f"The workspace has no {what}: register it first.") from None
    found = sorted(folder.rglob("config.json"), key=lambda path: len(path.parts))
    if not found:
        raise InvalidInput(f"{what} is no model folder (no config.json in it).")
    if (digest := digests.of_folder(found[0].parent)) != model.digest:
        raise Refused(
            f"The files of {what} have the digest {digest[:12]}, its record says {model.digest[:12]}: "
            "somebody changed one of them; register the model again."
        )
    return found[0].parent
