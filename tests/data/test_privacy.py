"""Whatever is planted is found, whatever is shown holds nothing of it, and plain text raises nothing."""

import random
import re
import string
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from data.checks import check_rows
from data.privacy import PERSONAL, SECRETS, find, iban, luhn, masked
from data.rules import CHATS, load_rules

Row = dict[str, Any]
LETTERS, ALNUM = string.ascii_letters, string.ascii_letters + string.digits


def card(rng: random.Random) -> str:
    digits = rng.choice("3456") + "".join(rng.choices(string.digits, k=14))
    number = next(digits + check for check in string.digits if luhn(digits + check))
    space = rng.choice(["", " ", "-"])
    return space.join(number[at : at + 4] for at in range(0, 16, 4))


def account(rng: random.Random) -> str:
    body = "".join(rng.choices(string.digits, k=18))
    whole = next(f"DE{check:02d}{body}" for check in range(2, 99) if iban(f"DE{check:02d}{body}"))
    return " ".join(whole[at : at + 4] for at in range(0, 22, 4)) if rng.random() < 0.5 else whole


def token(prefix: str, length: int, of: str = ALNUM) -> Callable[[random.Random], str]:
    return lambda rng: prefix + "".join(rng.choices(of, k=length))


PLANTS: dict[str, Callable[[random.Random], str]] = {
    "e-mail": lambda rng: f"{token('', 6, LETTERS)(rng)}.{rng.randint(1, 99)}@{token('', 5, LETTERS)(rng)}.co.uk",
    "phone number": lambda rng: rng.choice(["+49 30 {}{} {}", "({}) {}-{}4", "{}-{}-{}7", "+1{}{}{}"]).format(
        rng.randint(200, 999), rng.randint(200, 999), rng.randint(200, 999)
    ),
    "card number": card,
    "IBAN": account,
    "private key": lambda _: "-----BEGIN " + "RSA PRIVATE" + " KEY-----",
    "AWS key": token("AK" + "IA", 16, string.ascii_uppercase),
    "GitHub token": token("gh" + "p_", 36),
    "Hugging Face token": token("h" + "f_", 34, LETTERS),
    "API key": token("s" + "k-", 40),
    "Google key": token("AI" + "za", 35),
    "Slack token": token("xo" + "xb-", 30),
    "JSON web token": lambda rng: f"eyJ{token('', 20)(rng)}.eyJ{token('', 30)(rng)}.{token('', 25)(rng)}",
    "connection string": lambda rng: rng.choice(["AccountKey={}", "Server=db.corp;User=u;Password={}"]).format(
        token("", 44)(rng)
    ),
    "password in an address": lambda rng: f"postgres://app:{token('', 12)(rng)}@db.corp/main",
    "access signature": lambda rng: f"https://a.b/c?sv=2024&sig={token('', 44)(rng)}",
}
PLAIN = "The lamp costs 12.50, order AB-12345 of 2024-05-06 (v1.2.3), see https://example.com/a?b=c or call us."


def test_every_kind_has_a_plant() -> None:
    assert {kind.name for kind in (*PERSONAL, *SECRETS)} == set(PLANTS)


@pytest.mark.parametrize("kind", PLANTS)
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**9))
def test_what_is_planted_is_found_and_never_shown(kind: str, seed: int) -> None:
    value = PLANTS[kind](random.Random(seed))
    text = f"{PLAIN} Mine is {value} and that is it."
    found = list(find(SECRETS + PERSONAL, text))
    assert [one.kind for one in found] == [kind], (value, found)
    shown = " ".join(map(str, found)) + masked(text)
    assert masked(text).startswith(f"{PLAIN} Mine is ")
    assert max(re.findall(r"[A-Za-z0-9]+", value), key=len) not in shown.replace(PLAIN, "")


@given(text=st.text(alphabet=string.ascii_letters + " .,;:!?-'\n()é中", max_size=300))
def test_text_without_digits_marks_or_signs_raises_nothing(text: str) -> None:
    assume("://" not in text)
    assert list(find(PERSONAL + SECRETS, text)) == []
    assert masked(text) == text


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        "someone@example.com or noreply@mail.example.org",
        "1234 5678 9012 3456",  # no card begins with 1
        "4234 5678 9012 3457",  # no card: the sum is wrong
        "DE00 1234 5678 9012 3456 78",  # no account: the check digits are wrong
        "2024-05-06 12:30:45, 192.168.100.200, 3.14159265358979, 10000000000000",
        "ISBN 978-3-16-148410-0, version 10.20.30, ticket 20240506-1234",
        "sk-learn and hf_hub are libraries; AKIA is a name; Password=",
    ],
)
def test_what_only_looks_like_it_raises_nothing(text: str) -> None:
    assert [str(one) for one in find(PERSONAL + SECRETS, text)] == []


def test_the_report_never_shows_a_value_even_where_it_is_the_rows_id(make_ticket: Callable[..., Row]) -> None:
    rng = random.Random(1)
    rows = [make_ticket(n) for n in range(len(PLANTS))]
    values = []
    for row, plant in zip(rows, PLANTS.values(), strict=True):
        values.append(plant(rng))
        row["id"] = values[-1]
        row["messages"][1]["content"] += f" {values[-1]}."
    checks = {check.code: check for check in check_rows("a.jsonl", rows, rules=load_rules(CHATS))}
    assert checks["personal_data"].count == len(PERSONAL)
    assert checks["secrets"].count == len(SECRETS)
    said = "".join(check.model_dump_json() for check in checks.values())
    assert not [value for value in values if value in said]
