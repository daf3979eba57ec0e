"""Is it said who we are: the variables of the sign-in, set and of the right form."""

import re

from scripts.doctor.context import Context
from scripts.errors import InvalidInput
from scripts.sign_in_errors import where_to_set

GUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
DESK = ("AZURE_SUBSCRIPTION_ID",)  # `az login` knows the rest
JOB = ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_SUBSCRIPTION_ID")


def check(context: Context) -> str:
    """Raises InvalidInput with one sentence for each variable that is missing or no id."""
    federated = context.in_github or "AZURE_FEDERATED_TOKEN_FILE" in context.variables
    wrong = []
    for name in JOB if federated else DESK:
        value = context.variables.get(name, "")
        if not value:
            wrong.append(where_to_set(name, context.variables, context.environment))
        elif not GUID.fullmatch(value):
            wrong.append(f"{name} is not an id (eight, four, four, four and twelve hexadecimal digits): correct it")
    if wrong:
        raise InvalidInput("; ".join(wrong) + ".")
    return f"set: {', '.join(JOB if federated else DESK)}"
