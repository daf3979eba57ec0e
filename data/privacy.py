"""Secrets and personal data in text: found by shape and, if there is one, checksum; shown only as kind and length.

What this cannot see: names, postal addresses, numbers written in words, secrets without a known shape.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

RESERVED = ("example.com", "example.org", "example.net", ".example", ".test", ".invalid", ".localhost")  # RFC 2606


@dataclass(frozen=True)
class Kind:
    """`needles`: pieces of text without one of which there is nothing to look for, so that most rows cost nothing."""

    name: str
    needles: tuple[str, ...]
    pattern: re.Pattern[str]
    holds: Callable[[str], bool] = lambda _: True
    before: str = ""  # characters that belong to the value where they stand before the match


@dataclass(frozen=True)
class Found:
    kind: str
    start: int
    end: int

    def __str__(self) -> str:
        """What may be shown: never a character of the value."""
        return f"{self.kind} of {self.end - self.start} characters"


def _digits(text: str) -> str:
    return re.sub(r"[ .\-()/]", "", text)


def luhn(text: str) -> bool:
    """Whether the digits are a payment card's number: 13 to 19 of them, a known first digit, the Luhn sum."""
    digits = [int(d) for d in _digits(text)]
    if not 13 <= len(digits) <= 19 or digits[0] not in (2, 3, 4, 5, 6) or len(set(digits)) == 1:
        return False
    doubled = [d if at % 2 == 0 else d * 2 - 9 * (d > 4) for at, d in enumerate(reversed(digits))]
    return sum(doubled) % 10 == 0


def iban(text: str) -> bool:
    """Whether an account number's check digits are right: remainder 1 modulo 97, letters read as 10 to 35."""
    compact = text.replace(" ", "")
    if not 15 <= len(compact) <= 34:
        return False
    return int("".join(str(int(c, 36)) for c in compact[4:] + compact[:4])) % 97 == 1


def _private_address(text: str) -> bool:
    host = text.rpartition("@")[2].lower()
    return not any(host == name or host.endswith(name if name[0] == "." else f".{name}") for name in RESERVED)


def _phone(text: str) -> bool:
    return 8 <= len(_digits(text).lstrip("+")) <= 15


# Patterns begin with a class and look back after it: the search then skips to the class, which is ten times as fast.
PERSONAL = (
    Kind(
        "e-mail",
        ("@",),
        re.compile(r"(?<=[\w.+-])@[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}\.)+[A-Za-z]{2,24}\b"),
        _private_address,
        r"[\w.+-]{1,64}$",
    ),
    Kind("IBAN", (), re.compile(r"[A-Z](?<!\w[A-Z])[A-Z]\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?(?!\w)"), iban),
    Kind(
        "phone number",
        (),
        re.compile(
            r"[+(\d](?<![\w.+-].)(?:(?<=\+)[1-9]\d{0,2}(?:[ .\-/]?\(?\d{1,5}\)?){2,6}"  # international, any grouping
            r"|(?<=\()\d{3}\) ?\d{3}[ .-]\d{4}|(?<=\d)\d\d([.-])\d{3}\1\d{4})(?![\w-]|\.\d)"  # North American
        ),
        _phone,
    ),
    Kind("card number", (), re.compile(r"\d(?<![\w.+-]\d)(?:[ -]?\d){12,18}(?![\w-]|\.\d)"), luhn),
)
SECRETS = (
    Kind("private key", ("PRIVATE KEY",), re.compile(r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----")),
    Kind("AWS key", ("AKIA", "ASIA"), re.compile(r"(?<!\w)A[KS]IA[0-9A-Z]{16}(?!\w)")),
    Kind(
        "GitHub token",
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
        re.compile(r"(?<!\w)(?:gh[pousr]_[A-Za-z0-9]{36,251}|github_pat_\w{22,251})(?!\w)"),
    ),
    Kind("Hugging Face token", ("hf_",), re.compile(r"(?<!\w)hf_[A-Za-z]{30,60}(?!\w)")),
    Kind("API key", ("sk-", "sk_live_", "rk_live_"), re.compile(r"(?<!\w)(?:sk-|[sr]k_live_)[\w-]{20,200}(?!\w)")),
    Kind("Google key", ("AIza",), re.compile(r"(?<!\w)AIza[\w-]{35}(?![\w-])")),
    Kind("Slack token", ("xox",), re.compile(r"(?<!\w)xox[abeoprs]-[A-Za-z0-9-]{10,200}")),
    Kind("JSON web token", ("eyJ",), re.compile(r"(?<!\w)eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}")),
    Kind(
        "connection string",
        ("AccountKey=", "SharedAccessKey=", "SharedAccessSignature=", "Password=", "Pwd=", "password=", "pwd="),
        re.compile(
            r"(?:AccountKey|SharedAccessKey|SharedAccessSignature)=[\w+/=%&-]{20,}"
            r"|(?i:(?:Server|Data Source|Host)=[^;\n]{1,200};[^\n]{0,300}?(?:Password|Pwd)=[^;\s]{3,200})"
        ),
    ),
    Kind(
        "password in an address",
        ("://",),
        re.compile(r"://[^\s:/@]{1,64}:[^\s:/@]{3,128}@"),
        before=r"[a-z][a-z0-9+]{1,20}$",
    ),
    Kind("access signature", ("sig=",), re.compile(r"[?&]sig=[A-Za-z0-9%+/]{30,200}=?")),
)
# What cards, accounts and phones cannot do without. It begins with a digit either way: there are few to stop at.
_NUMBERS = re.compile(r"\d(?:(?:[ .()/-]{0,2}\d){6}|(?<=[A-Z]{2}\d)\d ?[A-Z\d]{4})")


def find(kinds: tuple[Kind, ...], text: str) -> Iterator[Found]:
    """What of these kinds stands in `text`, kind by kind; a place is told once, by the first kind that it is of."""
    taken: list[tuple[int, int]] = []
    numbers: bool | None = None
    for kind in kinds:
        if kind.needles and not any(needle in text for needle in kind.needles):
            continue
        if not kind.needles:
            numbers = bool(_NUMBERS.search(text)) if numbers is None else numbers
            if not numbers:
                continue
        for match in kind.pattern.finditer(text):
            start, end = match.span()
            if kind.before and (reach := re.search(kind.before, text[max(0, start - 64) : start])):
                start -= len(reach[0])
            if kind.holds(text[start:end]) and not any(start < e and s < end for s, e in taken):
                taken.append((start, end))
                yield Found(kind.name, start, end)


def masked(text: str) -> str:
    """`text` (a row's id, a slice's value) as it may be shown."""
    for found in sorted(find(SECRETS + PERSONAL, text), key=lambda f: -f.start):
        text = f"{text[: found.start]}[{found}]{text[found.end :]}"
    return text
