"""Who looks at prompts and answers, and can it? A server whose filter cannot start does not start."""

from scripts.doctor.context import Context
from scripts.errors import InvalidInput

SAID = {
    "local": "phrases alone (docs/content-filter.md has what they miss); `azure` before strangers may ask",
    "off": "off, as the settings say: nothing is looked at",
}


def check(context: Context) -> str:
    """Raises InvalidInput when `azure` is chosen and nobody says where that is."""
    serving = context.settings.serving
    if serving.content_filter != "azure":
        return SAID[serving.content_filter]
    if not serving.content_safety_endpoint:
        raise InvalidInput(
            f"{context.config}: serving.content_filter is azure, but serving.content_safety_endpoint is empty: write "
            "the address of your Azure AI Content Safety resource, https://NAME.cognitiveservices.azure.com."
        )
    if not serving.content_safety_id:
        return f"{serving.content_safety_endpoint}; give the endpoint its role yourself (docs/content-filter.md)"
    return f"{serving.content_safety_endpoint}"
