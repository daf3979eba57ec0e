"""Takes personal data and secrets out of a text before it leaves the process. Coarse on purpose: here a mask too many
costs a little meaning, one too few somebody's privacy.

What this cannot see: names, postal addresses, numbers in words, secrets of fewer than twenty characters without a name.
"""

import re

# What it is called, and how it looks; the first that finds something takes it.
KINDS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("key", re.compile(r"-----BEGIN [^-\n]{0,60}KEY[^-\n]{0,20}-----.*?(?:-----END[^-\n]{0,80}-----|\Z)", re.DOTALL)),
    ("address with password", re.compile(r"\b[a-z][\w+.-]{1,20}://[^\s/@:]{1,64}:[^\s/@]{1,256}@\S*", re.IGNORECASE)),
    (
        "secret",
        re.compile(
            r"(?i)\b[\w-]*(?:password|passwd|pwd|secret|token|api[_-]?key|account-?key|access-?key|signature|sig)"
            r"[\"']?\s*(?:=|:|is\b)\s*[\"']?[^\s\"',;]{3,}"
        ),
    ),
    ("e-mail", re.compile(r"[\w.+%-]{1,64}@[\w-]+(?:\.[\w-]+)+")),
    ("secret", re.compile(r"\b(?:A[KS]IA|gh[pousr]_|github_pat_|hf_|sk-|[sr]k_live_|AIza|xox[a-z]-|eyJ)[\w.=-]{8,}")),
    ("account", re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{2,4}){3,9}\b")),
    ("number", re.compile(r"[+(]?\d(?:[ ./()-]{0,2}\d){6,}")),  # cards, phones, accounts: seven digits and more
    ("address", re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}\b")),
    ("secret", re.compile(r"(?=[\w+/=-]*\d)(?=[\w+/=-]*[A-Za-z])[\w+/=-]{20,}")),
)


def masked(text: str) -> str:
    """`text` with [kind] where it held something private."""
    for name, pattern in KINDS:
        text = pattern.sub(f"[{name}]", text)
    return text
