"""The committed files are what the generator writes, and what the README and the demo promise of them."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from data.load import read_jsonl
from data.make_tickets import DEV, FILES, main, make_rows
from data.prepare import prepare
from data.stories import SYSTEM
from data.tokens import approximate_chat_tokens

ROOT = Path(__file__).parents[2]
Row = dict[str, Any]
ORDER = re.compile(r"\b[A-Z]{2}-\d{5}\b")


@pytest.fixture(scope="module")
def sample() -> dict[str, list[Row]]:
    return {name.removesuffix(".jsonl"): read_jsonl(ROOT / "data" / name) for name in FILES}


def gold(row: Row) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(row["messages"][-1]["content"])
    return answer


def said(row: Row) -> str:
    return " ".join(m["content"] for m in row["messages"] if m["role"] == "user")


def test_the_generator_writes_the_committed_bytes(tmp_path: Path) -> None:
    assert main(["--output", str(tmp_path)]) == 0
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (ROOT / "data" / name).read_bytes()


def test_the_sample_passes_its_own_checks(tmp_path: Path) -> None:
    made = prepare(ROOT / "data/tickets.jsonl", ROOT / "data/heldout.jsonl", tmp_path / "out", "tickets")
    assert not any(check.count for check in made.checks)
    assert [check.code for check in made.checks if check.severity == "off"] == ["across_splits"]
    assert made.files["train"].rows > 1000


def test_sizes_and_clusters(sample: dict[str, list[Row]]) -> None:
    assert len(sample["tickets"]) >= 1000
    assert len(sample["heldout"]) >= 150
    assert len({row["cluster_id"] for row in sample["heldout"]}) >= 60
    assert len(sample["live"]) >= 200
    assert all((ROOT / "data" / name).stat().st_size < 1_000_000 for name in FILES)
    turns = [row["slices"]["turns"] for row in sample["tickets"]]
    assert 0.1 < turns.count("multi") / len(turns) < 0.4


def test_long_live_threads_stand_clear_of_every_held_out_prompt(sample: dict[str, list[Row]]) -> None:
    held_out = max(approximate_chat_tokens(row["messages"][:-1]) for row in sample["heldout"])
    long = [row for row in sample["live"] if row["slices"]["length"] == "thread"]
    shortest = min(approximate_chat_tokens(row["messages"][:-1]) for row in long)
    assert held_out <= 200
    assert shortest >= 320  # at least 260 by the real tokenizer, which counts up to 21 % fewer
    assert 0.25 < len(long) / len(sample["live"]) < 0.35


def test_answers_follow_from_what_the_customer_wrote(sample: dict[str, list[Row]]) -> None:
    for row in (row for rows in sample.values() for row in rows):
        answer = gold(row)
        assert answer["product"] in said(row)
        orders = ORDER.findall(said(row))
        assert (orders[-1] if orders else None) == answer["order_id"]
        assert row["slices"]["priority"] == answer["priority"]
        assert row["messages"][0]["content"] == SYSTEM


def test_paraphrases_share_their_facts_and_nothing_is_said_twice(sample: dict[str, list[Row]]) -> None:
    for rows in sample.values():
        clusters: dict[str, Row] = {}
        for row in rows:
            first = clusters.setdefault(row["cluster_id"], row)
            assert gold(first) == gold(row)
            assert first is row or said(first) != said(row)


def test_products_orders_and_wording_of_the_files_are_disjoint(sample: dict[str, list[Row]]) -> None:
    pool = sample["tickets"]
    for other in ("heldout", "live"):
        for key in ("product", "order_id"):
            shared = {gold(row)[key] for row in pool} & {gold(row)[key] for row in sample[other]}
            assert shared <= {None}
    words = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / "data/phrases").glob("*.yaml")}
    assert set(words) == {"pool", "heldout", "live", "dev"}

    def sentences(part: Any) -> set[str]:
        if isinstance(part, str):
            return {" ".join(part.casefold().split())} - {"", "hi.", "hello."}
        values = part.values() if isinstance(part, dict) else part
        return set().union(*(sentences(value) for value in values))

    names = sorted(words)
    for at, one in enumerate(names):
        for two in names[at + 1 :]:
            assert sentences(words[one]) & sentences(words[two]) == set(), (one, two)


def test_few_shot_rows_come_from_the_pool_and_the_prompt_is_the_same_everywhere(sample: dict[str, list[Row]]) -> None:
    shots = read_jsonl(ROOT / "flow" / "few_shot.jsonl")
    assert all(shot in sample["tickets"] for shot in shots)
    assert (ROOT / "flow" / "system_prompt.txt").read_text().strip() == SYSTEM


def test_another_seed_gives_other_tickets_and_the_development_set_a_fourth_wording() -> None:
    assert make_rows(DEV, 1, set()) != make_rows(DEV, 2, set())
    assert make_rows(DEV, 1, set()) == make_rows(DEV, 1, set())
