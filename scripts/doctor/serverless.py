"""Can this recipe's route be used here? For fine-tuning as a service: region, provider, and the caller's own rights."""

import re
from collections.abc import Iterable
from typing import Any

from scripts import azure_ml, routes
from scripts.doctor.context import Context, Skip
from scripts.errors import Refused
from scripts.routes import serverless_recipe
from scripts.training_job import CODE

ML = "Microsoft.MachineLearningServices/workspaces"
# What `train`, `register` and `deploy`, `evaluate` do. Azure AI Developer has them all, as the documents
# say; AzureML Data Scientist has them too.
NEEDED = (
    f"{ML}/jobs/write",
    f"{ML}/data/versions/write",
    f"{ML}/models/versions/write",
    f"{ML}/serverlessEndpoints/write",
    f"{ML}/serverlessEndpoints/listKeys/action",
)
ROLE = "Azure AI Developer"


def check(context: Context) -> str:
    """Raises Refused naming what is missing and who mends it."""
    path = CODE / "recipes" / f"{context.recipe}.yaml"
    route = routes.of_recipe(path)
    if route != "serverless":
        raise Skip(f"not checked: recipe {context.recipe} has route {route}, which needs no more than the rest")
    recipe, values = serverless_recipe.load(path), context.settings
    found = serverless_recipe.offer(recipe.model, values.location, "fine_tune")
    namespace = serverless_recipe.table().provider
    with azure_ml.explained("Looking at what fine-tuning as a service needs"):
        state = str(context.place.management.providers.get(namespace).registration_state)
        if state.lower() != "registered":
            raise Refused(
                f"Resource provider {namespace} is {state} in this subscription: an Owner runs "
                f"`az provider register --namespace {namespace}`."
            )
        allowed = context.place.authorization.permissions.list_for_resource(
            values.resource_group, "Microsoft.MachineLearningServices", "", "workspaces", values.workspace
        )
        lacking = [action for action in NEEDED if not allows(allowed := list(allowed), action)]
    if lacking:
        raise Refused(
            f"This identity may not {', '.join(each.removeprefix(ML + '/') for each in lacking)} on workspace "
            f"{values.workspace}: an Owner gives it the role {ROLE} there."
        )
    return (
        f"{found.name} is fine-tuned as a service in {values.location}, {namespace} is registered, all rights are there"
    )


def allows(permissions: Iterable[Any], action: str) -> bool:
    """Whether one of a caller's roles allows an action and does not take it away again."""
    return any(
        any(matches(each, action) for each in role.actions or [])
        and not any(matches(each, action) for each in role.not_actions or [])
        for role in permissions
    )


def matches(pattern: str, action: str) -> bool:
    """As Azure reads it: `*` is anything, also nothing between two slashes."""
    expression = re.escape(pattern).replace(r"/\*/", "(?:/.*)?/").replace(r"\*", ".*")
    return re.fullmatch(expression, action, re.IGNORECASE) is not None
