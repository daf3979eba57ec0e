"""Does Azure know us, and has it what `provision` makes?"""

from scripts import azure_ml, sign_in_errors
from scripts.doctor.context import Context
from scripts.errors import AzureFailed, InvalidInput, Refused

MANAGEMENT_SCOPE = "https://management.azure.com/.default"


def sign_in(context: Context) -> str:
    """Really get a token for each of the two services. Raises AzureFailed saying which setting to mend."""
    from azure.core.exceptions import AzureError

    try:
        credential = azure_ml.credential()
        for scope in (MANAGEMENT_SCOPE, azure_ml.SCORING_SCOPE):
            credential.get_token(scope)
    except AzureError as error:
        said = sign_in_errors.explain(str(error), context.variables, _expected_subject(context))
        raise AzureFailed(f"{said or azure_ml.first_line(error)}.") from None
    return "Azure gives tokens for its management and for the endpoint"


def _expected_subject(context: Context) -> str:
    """The subject of this job's GitHub environment, when both are known."""
    from scripts.github import environments

    if not (context.environment and context.variables.get("GITHUB_REPOSITORY")):
        return ""
    try:
        side, identity = environments.load(), environments.this_repository()
    except InvalidInput:  # what is wrong with the file is for the check of GitHub to say
        return ""
    return " or ".join(environments.subjects(side, identity, context.environment))


def resources(context: Context) -> str:
    """Raises Refused when something that `provision` creates is not there."""
    from scripts import provision

    with azure_ml.explained("Looking at the resources"):
        things = provision.things(context.place)
        # First the providers: asked for a thing of one that is not registered, the SDK would register it.
        first = [each for each in things if each.kind == "provider"]
        found = list(zip(first, context.each(provision.Resource.state, first), strict=True))
        unregistered = {each.name for each, state in found if state == "missing"}
        rest = [each for each in things if each not in first]
        found += zip(rest, context.each(lambda each: each.state(unregistered), rest), strict=True)
    missing = [f"{each.kind} {each.name}" for each, state in found if state == "missing"]
    if missing:
        raise Refused(f"Azure lacks {', '.join(missing)}: run `python -m scripts provision`.")
    differ = [f"{each.kind} {each.name}" for each, state in found if state == "differs"]
    if differ:
        raise Refused(f"Not as the settings say: {', '.join(differ)}: run `python -m scripts provision`.")
    hidden = sum(state == "hidden" for _, state in found)
    return f"{len(found) - hidden} of {len(found)} resources are there" + (f", {hidden} not ours to see" * bool(hidden))
