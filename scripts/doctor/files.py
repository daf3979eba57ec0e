"""Can every file be read that the commands of a release will ask for? A slip in one is cheapest found here."""

from collections.abc import Callable, Iterator
from pathlib import Path

from scripts.doctor.context import Context
from scripts.errors import InvalidInput, Refused

Reads = Callable[[Path], object]
RECIPES = Path("training/recipes")


def check(context: Context) -> str:
    """Raises InvalidInput with the sentence of each file that cannot be read."""
    from eval.errors import EvalError

    wrong, seen = [], 0
    for path, read in files(context):
        seen += 1
        try:
            read(path)
        except (InvalidInput, Refused, EvalError) as error:
            wrong.append(str(error).rstrip("."))
    if wrong:
        raise InvalidInput(f"{'; '.join(wrong)}.")
    return f"{seen} files that the settings and the commands name are in order"


def files(context: Context) -> Iterator[tuple[Path, Reads]]:
    """Each with what reads it."""
    from eval import metrics
    from eval import policy as gate
    from scripts.cost import prices
    from scripts.github import environments
    from scripts.operate import policy as operate
    from scripts.rollout import policy as rollout

    settings = context.settings
    yield settings.rollout_policy, rollout.load
    for image in (settings.training_environment, settings.serving_environment):
        for file in image.files if image else ():
            yield file, _exists
    yield operate.RETRAIN, _retrain
    yield operate.REAP, lambda path: operate.load(operate.Reap, path)
    yield gate.DEFAULT_POLICY, gate.load_policy
    yield metrics.DEFAULT_METRICS, metrics.load_metrics
    yield prices.TABLE, prices.load
    yield environments.FILE, environments.load
    if recipe := context.variables.get("RECIPE"):
        yield RECIPES / f"{recipe}.yaml", _recipe


def _retrain(path: Path) -> None:
    """With the judge that it may name."""
    from scripts.operate import judged, policy

    rules = policy.load(policy.Retrain, path)
    if rules.judge:
        judged.judge(rules.judge)


def _recipe(path: Path) -> None:
    """One of a managed route with its model, which may be retired; others are judged by the training code, on use."""
    from scripts import routes

    _exists(path)
    if (route := routes.of_recipe(path)) != routes.DEFAULT:
        routes.named(route).check(path)


def _exists(path: Path) -> None:
    if not path.is_file():
        raise InvalidInput(f"{path}: there is no such file; correct the setting that names it.")
