"""What `prepare` leaves beside the JSONL is what a training job would encode: the same rows, in their order."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data import chunks
from data.errors import DataError
from data.manifest import Dataset, file_sha256, is_version_of, load_dataset
from data.prepare import NEEDED, prepare
from data.rules import Rules, load_rules
from data.sources import File, Sources
from data.tokenfile import TokenFile, distribute, part_of, read
from data.tokens import load

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "training" / "templates" / "chatml.jinja"
LOOSE = load_rules().model_copy(update={"max_tokens": 10_000})
ENCODED = st.lists(
    st.lists(st.tuples(st.integers(0, 2**31 - 1), st.booleans()), max_size=20).map(
        lambda chat: ([token for token, _ in chat], [token if learned else -100 for token, learned in chat])
    ),
    max_size=20,
)
QUICK = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)


def rows_of(path: Path) -> list[tuple[list[int], list[int]]]:
    return [(row["input_ids"], row["labels"]) for row in read(path).to_pylist()]


@QUICK
@given(pieces=st.lists(ENCODED, max_size=4), data=st.data())
def test_every_row_comes_back_and_lies_where_it_was_placed(pieces: Any, data: st.DataObject, tmp_path: Path) -> None:
    parts = [part_of(tmp_path / f"{number}.jsonl") for number in range(len(pieces))]
    for part, piece in zip(parts, pieces, strict=True):
        file = TokenFile(part)
        for at in range(0, len(piece), 3):
            file.write(piece[at : at + 3])
        file.close()
        assert rows_of(part) == piece
    rows = [row for piece in pieces for row in piece]
    placed = np.array(data.draw(st.lists(st.integers(0, 2), min_size=len(rows), max_size=len(rows))), np.int8)
    wanted = {number: (tmp_path / f"{number}.arrow", {"of": str(number)}) for number in (0, 1)}
    distribute(parts, placed, wanted)
    for number, (path, about) in wanted.items():
        assert rows_of(path) == [row for row, place in zip(rows, placed, strict=True) if place == number]
        assert pyarrow.ipc.open_file(str(path)).schema.metadata[b"of"].decode() == about["of"]
    assert not any(part.exists() for part in parts)


def tokenizer(folder: Path, words: list[str]) -> Path:
    """The folder of a small tokenizer that was learned from `words`."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special, alphabet = ["<|im_start|>", "<|im_end|>"], pre_tokenizers.ByteLevel.alphabet()
    inner.train_from_iterator(
        words,
        trainers.BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    folder.mkdir()
    inner.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    path = tmp_path / "pool.jsonl"
    path.write_text("".join((ROOT / "data/tickets.jsonl").read_text().splitlines(keepends=True)[:200]))
    return path


def made(pool: Path, out: Path, tokens: Path | None, rules: Rules = LOOSE) -> Dataset:
    sources = Sources(name="t", train=File(file=pool))
    return prepare(sources, None, out, "t", rules=rules, tokenizer=tokens, template=TEMPLATE if tokens else None)


def test_the_token_files_are_those_of_the_rows(pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "RANGE", pool.stat().st_size - 20_000)  # two pieces: more would be worth processes
    one, other = (tokenizer(tmp_path / words[0], words) for words in (["lamp", "broken"], ["parcel", "delivery"]))
    plain, first, again, third = (
        made(pool, tmp_path / name, tokens) for name, tokens in (("plain", None), ("a", one), ("b", one), ("c", other))
    )
    for split in ("train", "validation"):
        file, folder = first.files[split], tmp_path / "a"
        assert file.encoded is not None
        chats = [json.loads(line)["messages"] for line in (folder / file.path).read_text().splitlines()]
        assert rows_of(folder / file.encoded.path) == load(one, TEMPLATE).encode(chats)
        about = pyarrow.ipc.open_file(str(folder / file.encoded.path)).schema.metadata
        told = {key: about[key].decode() for key in (b"jsonl", b"tokenizer", b"template")}
        assert told == {b"jsonl": file.sha256, b"tokenizer": first.tokenizer, b"template": first.template}
        assert file_sha256(folder / file.encoded.path) == file.encoded.sha256
    assert {path.name for path in (tmp_path / "a").rglob("*.arrow")} == {"train.arrow", "validation.arrow"}
    assert not list((tmp_path / "plain").rglob("*.arrow"))

    # Equal rows have one digest, by which jobs are named; another tokenizer's files are another asset.
    assert {each.digest for each in (plain, first, again, third)} == {plain.digest}
    assert first.version == again.version
    assert len({plain.version, first.version, third.version}) == 3
    assert all(is_version_of(each.version, plain.digest) for each in (plain, first, third))
    assert not is_version_of(first.version, "0" * 64)
    record = tmp_path / "a" / "dataset.json"
    assert load_dataset(record) == first
    record.write_text(record.read_text().replace(first.version, plain.version))
    with pytest.raises(DataError, match="changed by hand"):
        load_dataset(record)


def test_rows_that_a_job_would_refuse_are_left_to_it(pool: Path, tmp_path: Path) -> None:
    """Where the checks are told to let one pass, nothing may hide it from the job."""
    rows = [json.loads(line) for line in pool.read_text().splitlines()]
    rows[7]["messages"][-2]["content"] = " "
    pool.write_text("".join(json.dumps(row) + "\n" for row in rows))
    lenient = LOOSE.model_copy(update={"severities": LOOSE.severities | dict.fromkeys(NEEDED, "warning")})
    done = made(pool, tmp_path / "out", tokenizer(tmp_path / "model", ["lamp"]), lenient)
    assert not any(file.encoded for file in done.files.values())
    assert is_version_of(done.version, done.digest)
    assert done.version == done.digest[:12]
