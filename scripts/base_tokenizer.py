"""`data --recipe`: the tokenizer and template that a recipe's job encodes with, found before its GPU is rented.

Whatever would stop that job and can be known here, stops here, before anything is uploaded: a recipe that is wrong, a
size that cannot run it, a base model or revision that is not there.
"""

import re
from pathlib import Path
from typing import NamedTuple

import yaml

from scripts import routes, training_size
from scripts.errors import InvalidInput
from scripts.settings import Settings
from scripts.training_job import CODE


class Found(NamedTuple):
    tokenizer: Path | None  # the folder of tokenizer.json
    template: Path | None
    why_not: str = ""  # a sentence where there is no tokenizer


def of_recipe(recipe: str, settings: Settings | None) -> Found:
    """Raises InvalidInput; `settings` None: the size is not looked at."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,60}", recipe):
        raise InvalidInput(f"--recipe takes the name of a file in training/recipes without .yaml, not {recipe[:60]!r}.")
    path = CODE / "recipes" / f"{recipe}.yaml"
    route = routes.of_recipe(path)
    routes.named(route).check(path)
    if route != routes.DEFAULT:
        return Found(None, None, f"a recipe of route {route} is trained by the service, with a tokenizer of its own")
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    base = content["base_model"]
    if settings:
        scale = training_size.Scale(**{key: content["scale"][key] for key in training_size.Scale.model_fields})
        training_size.check(settings.compute.size, settings.compute.max_instances, recipe, scale)
    source, template = str(base["source"]), CODE / "templates" / f"{base['chat_template']}.jinja"
    if Path(source).is_dir():
        return Found(Path(source), template)
    if source.startswith("azureml:"):
        return Found(None, None, f"{source} is in the workspace: give its tokenizer's folder with --tokenizer")
    return _of_hub(source, base["revision"], template)


def _of_hub(source: str, revision: str | None, template: Path) -> Found:
    from huggingface_hub import errors, hf_hub_download

    if revision is None:
        raise InvalidInput(f"The recipe pins no revision of {source}; set base_model.revision to a commit of it.")
    try:
        return Found(Path(hf_hub_download(source, "tokenizer.json", revision=revision)).parent, template)
    except errors.RevisionNotFoundError:
        raise InvalidInput(
            f"There is no revision {revision[:40]} of {source}: copy the commit from the model's page to "
            "base_model.revision of the recipe."
        ) from None
    except errors.RepositoryNotFoundError:
        raise InvalidInput(
            f"There is no model {source} on the hub that may be read: check base_model.source, and HF_TOKEN for one "
            "that is not public."
        ) from None
    except errors.LocalEntryNotFoundError:
        return Found(None, None, f"the hub cannot be reached for {source}")
    except errors.EntryNotFoundError:
        return Found(None, None, f"{source} has no tokenizer.json at {revision[:12]}")
    except (errors.HFValidationError, ValueError):
        raise InvalidInput(f"{source!r} is neither a folder nor a model of the hub; mend base_model.source.") from None
    except (OSError, errors.HfHubHTTPError) as error:
        return Found(None, None, f"the hub did not give it ({(str(error).splitlines() or ['no reason'])[0][:120]})")
