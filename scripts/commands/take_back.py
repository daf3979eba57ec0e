"""Take traffic back: `rollout abort`, `rollback`, `watchdog`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scripts import settings
from scripts.commands.options import Config, Out
from scripts.commands.traffic import line, rollout, tell
from scripts.errors import InvalidInput
from scripts.outputs import finish

if TYPE_CHECKING:
    from scripts.rollout.back import Wish

app = typer.Typer()
Reason = Annotated[str, typer.Option(help="Why, in any words; kept whole in the record, cut in the endpoint's tags.")]


@rollout.command()
def abort(reason: Reason, config: Config = None, out: Out = Path("out/rollback.json")) -> None:
    """Take back the rollout that is under way, whether its runner lives or not.

    Example: `python -m scripts rollout abort --reason "wrong priorities"`
    """
    from scripts.rollout.back import Wish

    _take_back(settings.load(config), Wish(reason, only_under_way=True), out)


@app.command()
def rollback(
    reason: Reason,
    to: Annotated[
        str | None,
        typer.Option(
            help="Which colour, or which serverless endpoint, gets all traffic; default what was live before."
        ),
    ] = None,
    endpoint: Annotated[str | None, typer.Option(help="The endpoint's name, to be sure; the settings have it.")] = None,
    config: Config = None,
    out: Out = Path("out/rollback.json"),
) -> None:
    """Give what was live before all the traffic now, whatever a rollout is doing.

    Example: `python -m scripts rollback --to blue --reason "wrong priorities"`
    """
    from scripts.endpoint import Endpoint
    from scripts.rollout.back import Wish

    values = settings.load(config)
    if endpoint is not None and endpoint != values.endpoint:
        raise InvalidInput(
            f"--endpoint {line(endpoint)!r} is not this environment's endpoint {values.endpoint} (key `endpoint` in "
            f"{config}); workspace {values.workspace} has {Endpoint(values).all_names()}."
        )
    _take_back(values, Wish(reason, to), out)


@app.command()
def watchdog(
    stale_minutes: Annotated[float, typer.Option(min=0, help="Silence after which a runner counts as dead.")] = 20,
    config: Config = None,
    out: Out = Path("out/watchdog.json"),
) -> None:
    """Take back a rollout whose runner died, and weights that nobody vouches for.

    Example: `python -m scripts watchdog --stale-minutes 20`
    """
    from datetime import timedelta

    from scripts import autoscale
    from scripts.front import front_of
    from scripts.rollout import watch as step
    from scripts.rollout.store import BlobStore

    values = settings.load(config)
    done = step.watch(front_of(values), BlobStore(values), timedelta(minutes=stale_minutes), tell)
    good = done.action == "none"
    if not good:
        autoscale.settle_or_tell(values, tell)
    said = f"All is well with {done.endpoint}: {line(done.reason)}"
    if not good:
        said = f"Traffic of {done.endpoint} was taken back to {done.traffic or 'nobody'}: {line(done.reason)}"
    then = "nothing" if good else "find out why its runner died"
    finish(done, out, said=said, then=then, outputs={"action": done.action, "reason": line(done.reason)}, good=good)


def _take_back(values: settings.Settings, wish: "Wish", out: Path) -> None:
    from scripts import autoscale
    from scripts.front import front_of
    from scripts.rollout import back
    from scripts.rollout.store import BlobStore

    done = back.roll_back(front_of(values), lambda: BlobStore(values), wish, tell)
    autoscale.settle_or_tell(values, tell)
    said = f"Traffic of {done.endpoint} is {done.traffic or 'nobody'}: {line(done.reason)}"
    kept = {"to": done.to, "state_kept": str(done.state_kept).lower(), "reason": line(done.reason)}
    finish(done, out, said=said, then="find out why", outputs=kept)
