"""Sources are read as they are described, by the hub's own library too; what is wrong with one is one sentence."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import yaml

from data import hub
from data.chunks import Shape
from data.errors import DataError
from data.load import read_jsonl
from data.prepare import prepare
from data.rows import content_key
from data.sources import Asset, File, Hub, Sources, chunks, load_sources

Row = dict[str, Any]
ROOT = Path(__file__).parents[2]
REVISION = "8049631c405ae6576f93f445c6b8166f76f5505a"
SPLITS = {"train_sft": 200, "test_sft": 50, "train_gen": 40, "test_gen": 30}


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What the hub's library keeps of these tests is gone after them."""
    import datasets.config

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield


@pytest.fixture(scope="module")
def ultrachat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder laid out like HuggingFaceH4/ultrachat_200k: parquet of prompt, prompt_id, messages; a card."""
    from .conftest import ticket

    folder = tmp_path_factory.mktemp("ultrachat")
    (folder / "data").mkdir()
    files = []
    for at, (split, count) in enumerate(SPLITS.items()):
        rows = []
        for number in range(1000 * at, 1000 * at + count):
            messages = ticket(number)["messages"][1:]
            prompt = messages[0]["content"]
            rows.append({"prompt": prompt, "prompt_id": content_key(prompt), "messages": messages})
        name = f"data/{split}-00000-of-00001-a3ecf92756993583.parquet"
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / name, row_group_size=64)
        files.append({"split": split, "path": f"data/{split}-*"})
    card = yaml.safe_dump({"configs": [{"config_name": "default", "data_files": files}]})
    (folder / "README.md").write_text(f"---\n{card}---\n# A card\n")
    return folder


def rows_of(source: Hub | File | Asset) -> list[Row]:
    return [row for chunk in chunks(source) for row in chunk.read()]  # type: ignore[misc]


@pytest.mark.parametrize("split", SPLITS)
def test_a_split_of_the_hubs_layout_becomes_rows(ultrachat: Path, split: str) -> None:
    source = Hub(hub=str(ultrachat), revision=REVISION, split=split, format="messages", id="prompt_id")
    rows = rows_of(source)
    table = pyarrow.parquet.read_table(next(ultrachat.glob(f"data/{split}-*")))
    assert [row["id"] for row in rows] == table["prompt_id"].to_pylist()
    assert [row["messages"] for row in rows] == table["messages"].to_pylist()
    assert len(rows_of(source.model_copy(update={"percent": 10}))) == SPLITS[split] // 10


def test_from_sources_in_yaml_to_a_data_set(ultrachat: Path, tmp_path: Path) -> None:
    content = yaml.safe_load((ROOT / "data/sources/ultrachat.yaml").read_text())
    content["train"] |= {"hub": str(ultrachat), "percent": 50}
    content["heldout"] |= {"hub": str(ultrachat), "percent": 100}
    (tmp_path / "sources.yaml").write_text(yaml.safe_dump(content))
    sources = load_sources(tmp_path / "sources.yaml")
    made = prepare(sources.model_copy(update={"rules": ROOT / sources.rules}), None, tmp_path / "out", sources.name)
    assert {split: file.rows for split, file in made.files.items()} | {"train": 0, "validation": 0} == {
        "train": 0,
        "validation": 0,
        "heldout": 50,
    }
    assert made.files["train"].rows + made.files["validation"].rows == 100


@pytest.mark.parametrize("name", ["tickets", "ultrachat"])
def test_what_is_shipped_can_be_read(name: str) -> None:
    sources = load_sources(ROOT / f"data/sources/{name}.yaml")
    assert sources.name == name
    assert (ROOT / sources.rules).is_file()


def test_files_and_folders_of_jsonl_and_parquet_are_the_same_rows(
    make_ticket: Callable[..., Row], write: Callable[..., Path], tmp_path: Path
) -> None:
    rows = [make_ticket(n) for n in range(9)]
    write(tmp_path / "all.jsonl", rows)
    (tmp_path / "parts").mkdir()
    write(tmp_path / "parts" / "a.jsonl", rows[:4])
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows[4:]), tmp_path / "parts" / "b.parquet")
    (tmp_path / "parts" / "README.md").write_text("no data")
    assert rows_of(File(file=tmp_path / "all.jsonl")) == rows_of(File(file=tmp_path / "parts")) == rows


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown key": (
        {"train": {"file": "x", "formt": "alpaca"}},
        "unknown key '.*formt'; the nearest .* is 'format'",
    ),
    "an unknown part": ({"trian": {"file": "x"}}, "the key 'train' is missing|unknown key 'trian'.*'train'"),
    "a moving revision": ({"train": {"hub": "a/b", "revision": "main", "split": "train"}}, "pin the 40 .* not 'main'"),
    "no revision": ({"train": {"hub": "a/b", "split": "train"}}, "'train.hub.revision' is missing"),
    "no such format": ({"train": {"file": "x", "format": "chat"}}, "'messages', 'prompt_completion'"),
    "too many percent": ({"train": {"hub": "a", "revision": REVISION, "split": "s", "percent": 101}}, "percent"),
    "half an asset": ({"train": {"asset": "azureml:tickets"}}, "train.asset.asset"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_wrong_description_is_one_sentence(fault: str, tmp_path: Path) -> None:
    content, said = WRONG[fault]
    path = tmp_path / "sources.yaml"
    path.write_text(yaml.safe_dump({"name": "x", **content}))
    with pytest.raises(DataError, match=said) as caught:
        load_sources(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_not_there_is_one_sentence(ultrachat: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.jsonl").touch()
    for source, said in [
        (File(file=tmp_path / "none.jsonl"), "There is no file"),
        (File(file=tmp_path / "broken.parquet"), "cannot be read as parquet"),
        (File(file=tmp_path / "empty"), "without .jsonl or .parquet"),
        (File(file=tmp_path / "empty.jsonl"), "holds no rows"),
        (Asset(asset="azureml:a:1"), "has to be downloaded first"),
        (Hub(hub=str(ultrachat), revision=REVISION, split="train"), "has no split 'train'; it has .*train_sft"),
        (Hub(hub=str(tmp_path / "none/there"), revision=REVISION, split="x"), "none/there"),
    ]:
        with pytest.raises(DataError, match=said) as caught:
            rows_of(source)
        assert "\n" not in str(caught.value)


def test_a_hub_that_cannot_be_reached_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is asked for outside the machine: the library itself knows that it is offline."""
    import datasets.config
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match=r"a/b at 804963.* cannot be loaded, because the hub cannot be reached"):
        list(hub.of_hub("a/b", REVISION, "train", 1, Shape()))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (FileNotFoundError("Revision '804' doesn't exist for dataset 'a/b' on the Hub."), "There is no such revision"),
        (
            FileNotFoundError("Dataset 'a/b' doesn't exist on the Hub or cannot be accessed."),
            "There is no data set a/b",
        ),
        (ConnectionError("Couldn't reach 'a/b' on the Hub (LocalEntryNotFoundError)"), "the hub cannot be reached"),
        (ValueError("Unknown split \"x\". Should be one of ['train', 'test']."), "it has train, test"),
        (ValueError("Something else.\nMore of it"), r"could not be loaded \(Something else\.\)"),
    ],
)
def test_what_the_hubs_library_says_becomes_one_sentence(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(DataError, match=said) as caught:
        list(hub.of_hub("a/b", REVISION, "x", 1, Shape()))
    assert "\n" not in str(caught.value)


def test_a_validation_split_that_is_given_is_not_made(
    make_ticket: Callable[..., Row], write: Callable[..., Path], tmp_path: Path
) -> None:
    train = write(tmp_path / "train.jsonl", [make_ticket(n) for n in range(40)])
    validation = write(tmp_path / "validation.jsonl", [make_ticket(n) for n in range(50, 55)])
    sources = Sources(name="x", train=File(file=train), validation=File(file=validation))
    made = prepare(sources, None, tmp_path / "out", "x")
    assert [row["id"] for row in read_jsonl(tmp_path / "out/training/validation.jsonl")] == [
        json.loads(line)["id"] for line in validation.read_text().splitlines()
    ]
    assert made.files["train"].rows + made.files["heldout"].rows == 40
