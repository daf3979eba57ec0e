"""Is GitHub's side as `.github/environments.yaml` says?"""

from scripts.doctor.context import Context, Skip
from scripts.errors import InvalidInput, Refused


def check(context: Context) -> str:
    """Raises Refused naming what differs, Skip when GitHub cannot be asked and that was not demanded."""
    from scripts.github import api, environments, plan, setup

    if context.github is False:
        raise Skip("not checked, as asked (--no-github)")
    side = environments.load()
    try:
        if why_not := api.unavailable():
            raise InvalidInput(why_not)
        identity = setup.seen(environments.this_repository())
        found = list(plan.changes(side, identity.name, api.find, lambda *who: setup.id_of(identity.owner, *who), {}))
    except InvalidInput as error:
        if context.github:
            raise
        raise Skip(f"not checked: {error}") from None
    if found:
        parts = [each if isinstance(each, str) else each.why for each in found]
        raise Refused(
            f"GitHub differs from {environments.FILE} ({'; '.join(part.rstrip('.') for part in parts)}): "
            "run `python -m scripts provision github --apply`."
        )
    return f"{identity.name} is as {environments.FILE} says"
