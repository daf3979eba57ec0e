"""Has everybody the roles they need: the cluster, the endpoint, and whoever GitHub's jobs sign in as?"""

from collections import defaultdict

from scripts import azure_ml
from scripts.doctor.context import Context, Skip
from scripts.errors import Refused

WORDS = {"missing": "missing", "differs": "for something else", "hidden": "not ours to see"}


def check(context: Context) -> str:
    """Raises Refused naming each role that is missing. Roles that this identity may not see are told, not counted."""
    from scripts.github import environments
    from scripts.provision import roles

    place, side = context.place, environments.load()
    with azure_ml.explained("Looking at the roles"):
        wanted, of_jobs = roles.workload_grants(place), roles.github_grants(place, side)
        identities = list(dict.fromkeys(each.who for each in of_jobs))
        seen = context.each(lambda who: roles.visible(place, who), identities)
        known = {who for who, visible in zip(identities, seen, strict=True) if visible}
        wanted += [each for each in of_jobs if each.who in known]
        states: dict[str, list[roles.Grant]] = defaultdict(list)
        for each, state in zip(wanted, context.each(lambda one: one.resource().state(), wanted), strict=True):
            states[state].append(each)
    if missing := states["missing"]:
        lost: dict[str, list[str]] = defaultdict(list)
        for each in missing:
            lost[each.who].append(f"{each.wanted.name} on the {each.wanted.scope}")
        lacks = "; ".join(f"{who} lacks {', '.join(what)}" for who, what in lost.items())
        github = " --repository OWNER/NAME" if any(each.who in known for each in missing) else ""
        raise Refused(f"{lacks}: an Owner runs `python -m scripts provision{github}`.")
    if not states["exists"]:
        raise Skip("not checked: this identity may not see who has which role")
    hidden = f", {len(states['hidden'])} not ours to see" if states["hidden"] else ""
    nobody = "" if known or hidden else "; GitHub's environments have no identities here"
    return f"{len(states['exists'])} of {len(wanted)} roles are there{hidden}{nobody}"


def credentials(context: Context) -> str:
    """Does each identity trust exactly its environment's jobs? Raises Refused, or Skip where there is none."""
    from scripts.github import environments, setup
    from scripts.provision import github, names, roles

    place, side = context.place, environments.load()
    repository = context.variables.get("GITHUB_REPOSITORY", "")
    if not repository:
        raise Skip("not checked: set GITHUB_REPOSITORY to OWNER/NAME, the repository whose jobs sign in")
    asked = environments.this_repository()
    if context.github is not False:
        asked = setup.known(asked)
    wrong, seen = [], 0
    with azure_ml.explained("Looking at the federated credentials"):
        for each in side.environments:
            if not each.azure or not roles.visible(place, names.github_identity(each.name)):
                continue
            for one in github.credentials(place, side, asked, each.name):
                state, seen = one.state(), seen + 1
                if state != "exists":
                    wrong.append(f"{each.name}: the credential for {one.why} is {WORDS[state]}")
    if wrong:
        raise Refused(f"{'; '.join(wrong)}: an Owner runs `python -m scripts provision --repository {repository}`.")
    if not seen:
        raise Skip("not checked: GitHub's environments have no identities in this resource group")
    return f"{seen} federated credentials are for the jobs of {repository}"
