"""Token files give the rows, errors and weights that encoding in the job gives; what does not fit is left alone."""

import hashlib
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.manifest import ENCODED_FORMAT
from data.prepare import prepare
from data.rules import load_rules
from data.sources import File, Sources
from data.tokenfile import SCHEMA, TokenFile, read
from training.chat_data import Lazy
from training.chat_template import control_tokens, install_template, render_template
from training.digest import file_sha256
from training.errors import TrainingError
from training.recipe import Recipe, load_recipe
from training.rows import load_rows
from training.tokenfile import FORMAT, Unfit, mapped, tokenizer_digest
from training.train import train

ROOT = Path(__file__).parents[2]
LOOSE = load_rules().model_copy(update={"max_tokens": 10_000})
Content = dict[str, Any]
Write = Callable[[Content], Path]


@pytest.fixture(scope="module")
def prepared(tiny_phi3: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a job mounts: 200 tickets, with the token files that the data step makes for the tiny model."""
    folder = tmp_path_factory.mktemp("prepared")
    pool = folder / "pool.jsonl"
    pool.write_text("".join((ROOT / "data/tickets.jsonl").read_text().splitlines(keepends=True)[:200]))
    sources = Sources(name="t", train=File(file=pool))
    template = ROOT / "training/templates/phi3.jinja"
    prepare(sources, None, folder / "out", "t", rules=LOOSE, tokenizer=tiny_phi3, template=template)
    return folder / "out" / "training"


@pytest.fixture
def plain(prepared: Path, tmp_path: Path) -> Path:
    """The same chats without token files."""
    return Path(shutil.copytree(prepared, tmp_path / "plain", ignore=shutil.ignore_patterns("*.arrow")))


@pytest.fixture
def own(prepared: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(prepared, tmp_path / "own"))


@pytest.fixture
def tokenizer(phi3_tokenizer: Any) -> Any:
    install_template(phi3_tokenizer, "phi3")
    return phi3_tokenizer


def recipe_of(content: Content, write: Write, **data: Any) -> Recipe:
    content["data"] |= {"max_length": 900, **data}
    return load_recipe(write(content))


def refused(folder: Path, tokenizer: Any, base: Path) -> str:
    """Why the token file of train.jsonl is left alone."""
    jsonl = folder / "train.jsonl"
    made_with = {"jsonl": file_sha256(jsonl), "tokenizer": tokenizer_digest(str(base), None)}
    with pytest.raises(Unfit) as why:
        mapped(folder / "train.arrow", jsonl, tokenizer, made_with)
    return str(why.value)


def test_the_two_sides_mean_the_same_format() -> None:
    assert FORMAT == ENCODED_FORMAT


@pytest.mark.parametrize("packing", [False, True], ids=["alone", "packed"])
@pytest.mark.parametrize("longest", [900, 400])
@pytest.mark.parametrize("validation", [None, 5])
def test_the_rows_are_those_that_the_job_encodes(
    packing: bool, longest: int, validation: int | None, recipe_content: Content, write_recipe: Write,
    tokenizer: Any, tiny_phi3: Path, prepared: Path, plain: Path,
) -> None:  # fmt: skip
    changes = {"packing": packing, "max_length": longest, "max_validation_rows": validation, "over_length": "drop"}
    recipe = recipe_of(recipe_content, write_recipe, **changes)
    ours, theirs = (load_rows(recipe, tokenizer, str(tiny_phi3), folder) for folder in (prepared, plain))
    assert isinstance(ours.train, Lazy)
    assert (list(ours.train), list(ours.validation)) == (list(theirs.train), list(theirs.validation))
    assert (ours.chats, ours.digests, ours.longest) == (theirs.chats, theirs.digests, theirs.longest)
    lines = (prepared / "train.jsonl").read_text().count("\n")
    assert (0 < ours.chats["train"] < lines) == (longest == 400)


def test_the_validation_sample_is_drawn_from_all_of_it(
    recipe_content: Content, write_recipe: Write, tokenizer: Any, tiny_phi3: Path, prepared: Path, plain: Path
) -> None:
    recipe = recipe_of(recipe_content, write_recipe, max_validation_rows=None)
    few = recipe_of(recipe_content, write_recipe, max_validation_rows=5)
    every = load_rows(recipe, tokenizer, str(tiny_phi3), plain).validation
    drawn = random.Random(recipe.run.seed).sample(list(every), 5)
    assert list(load_rows(few, tokenizer, str(tiny_phi3), prepared).validation) == drawn


def test_too_long_a_chat_is_refused_in_the_same_words(
    recipe_content: Content, write_recipe: Write, tokenizer: Any, tiny_phi3: Path, prepared: Path, plain: Path
) -> None:
    said = []
    for folder in (prepared, plain):
        with pytest.raises(TrainingError) as error:
            load_rows(recipe_of(recipe_content, write_recipe, max_length=400), tokenizer, str(tiny_phi3), folder)
        said.append(str(error.value).replace(str(folder), ""))
    assert said[0] == said[1]


def cut(path: Path, share: float) -> None:
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def rewritten(folder: Path, change: Callable[[list[Any]], list[Any]], **about: str) -> None:
    """The token file anew and whole, with other chats in it or saying something else of itself."""
    import pyarrow

    path = folder / "train.arrow"
    told = {key.decode(): value.decode() for key, value in pyarrow.ipc.open_file(str(path)).schema.metadata.items()}
    rows = [(row["input_ids"], row["labels"]) for row in read(path).to_pylist()]
    path.unlink()  # it is mapped
    file = TokenFile(path, told | about)
    file.write(change(rows))
    file.close()


def relabelled(rows: list[Any]) -> list[Any]:
    """The last chat with a loss on its prompt."""
    return [*rows[:-1], (rows[-1][0], rows[-1][0])]


def displaced(folder: Path) -> None:
    """The labels of each chat one token too early, under a digest that holds."""
    import pyarrow

    path = folder / "train.arrow"
    table = pyarrow.ipc.open_file(str(path)).read_all().combine_chunks()
    ids, learned = table.to_batches()[0].columns
    early = pyarrow.array([0, *(end - 1 for end in ids.offsets.to_pylist()[1:-1]), len(ids.values)], pyarrow.int32())
    columns = [ids, pyarrow.ListArray.from_arrays(early, learned.values)]
    path.unlink()
    told = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    file = TokenFile(path, told)
    file.put(pyarrow.record_batch(columns, schema=SCHEMA))
    file.close()


SPOILED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "another row": (lambda own: (own / "train.jsonl").open("a").write("\n"), "of other chats"),
    "another tokenizer": (lambda own: rewritten(own, list, tokenizer="0" * 64), "another tokenizer"),
    "another template": (lambda own: rewritten(own, list, template="0" * 64), "another chat template"),
    "another format": (lambda own: rewritten(own, list, format="2"), "another format"),
    "says nothing": (lambda own: rewritten(own, list, format=""), "another format"),
    "fewer chats": (lambda own: rewritten(own, lambda rows: rows[:-1]), "chats"),
    "more chats": (lambda own: rewritten(own, lambda rows: [*rows, rows[0]]), "chats"),
    "no chats": (lambda own: rewritten(own, lambda _: []), "chats"),
    "other labels": (lambda own: rewritten(own, relabelled), "is not what the tokenizer makes"),
    "displaced labels": (displaced, "damaged"),
    "empty": (lambda own: cut(own / "train.arrow", 0), "damaged"),
    "cut in the middle": (lambda own: cut(own / "train.arrow", 0.5), "damaged"),
    "without its end": (lambda own: cut(own / "train.arrow", 0.999), "damaged"),
    "no Arrow": (lambda own: (own / "train.arrow").write_text("not found\n" * 99), "damaged"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_file_that_does_not_fit_is_left_alone(
    name: str, recipe_content: Content, write_recipe: Write, tokenizer: Any, tiny_phi3: Path, own: Path, plain: Path
) -> None:
    spoil, why = SPOILED[name]
    spoil(own)
    assert why in refused(own, tokenizer, tiny_phi3)
    shutil.copy(own / "train.jsonl", plain / "train.jsonl")
    recipe = recipe_of(recipe_content, write_recipe)
    ours, theirs = (load_rows(recipe, tokenizer, str(tiny_phi3), folder) for folder in (own, plain))
    assert not isinstance(ours.train, Lazy)
    assert ours.train == theirs.train


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), length=st.none() | st.integers(0, 10**6))
def test_damage_anywhere_is_seen_or_harmless(
    place: float, bit: int, length: int | None, tokenizer: Any, tiny_phi3: Path, prepared: Path, tmp_path: Path
) -> None:
    """A flipped bit or a cut: the file is left alone, or it still gives every row as it was."""
    jsonl, whole = prepared / "train.jsonl", (prepared / "train.arrow").read_bytes()
    spoiled = bytearray(whole[: length % len(whole)] if length else whole)
    if not length:
        spoiled[int(place * len(spoiled))] ^= 1 << bit
    path = tmp_path / f"{hashlib.sha256(spoiled).hexdigest()[:16]}.arrow"
    path.write_bytes(spoiled)
    made_with = {"jsonl": file_sha256(jsonl), "tokenizer": tokenizer_digest(str(tiny_phi3), None)}
    try:
        rows, _ = mapped(path, jsonl, tokenizer, made_with)
    except Unfit:
        return
    assert list(rows) == list(mapped(prepared / "train.arrow", jsonl, tokenizer, made_with)[0])


def test_a_base_model_from_the_hub_is_known_by_its_pinned_files(
    tiny_phi3: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    snapshot = tmp_path / "models--someone--tiny" / "snapshots" / ("a" * 40)
    shutil.copytree(tiny_phi3, snapshot)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("transformers.utils.hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert tokenizer_digest("someone/tiny", "a" * 40) == file_sha256(tiny_phi3 / "tokenizer.json")


def test_a_base_model_without_tokenizer_json_fits_nothing(tokenizer: Any, tmp_path: Path, own: Path) -> None:
    assert tokenizer_digest(str(tmp_path), None) == ""
    assert "another tokenizer" in refused(own, tokenizer, tmp_path)


@pytest.mark.slow
def test_training_on_token_files_gives_the_same_curve_and_the_same_bytes(
    recipe_content: Content, write_recipe: Write, tiny_phi3: Path, prepared: Path, plain: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    recipe_content["base_model"]["attention"] = "varlen"
    recipe_content["run"] |= {"max_steps": 4, "batch_size": 1, "eval_every": 2}
    recipe = recipe_of(recipe_content, write_recipe, packing=True, max_length=600, over_length="drop")
    base = str(tiny_phi3)
    ours, theirs = (train(recipe, base, data, tmp_path / f"of-{data.name}") for data in (prepared, plain))
    assert ours is not None
    assert theirs is not None
    assert (ours.loss, ours.eval_loss, ours.trained_tokens) == (theirs.loss, theirs.eval_loss, theirs.trained_tokens)
    assert ours.model_digest == theirs.model_digest


def test_the_template_digest_is_of_the_template_that_is_installed(prepared: Path, tokenizer: Any) -> None:
    rendered = render_template("phi3", control_tokens(tokenizer))
    record = json.loads((prepared.parent / "dataset.json").read_text())
    assert record["template"] == hashlib.sha256(rendered.encode()).hexdigest()
