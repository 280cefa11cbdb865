"""Checkpoints that can be trusted after a kill: one counts only when a list of its files says that it is whole.

transformers writes a checkpoint file by file into its final directory and crashes on one that it did not finish. The
list holds sizes, so that a file which a power failure cut short is noticed too.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

_LIST = "bigfive_complete.json"
_NAME = re.compile(r"checkpoint-(\d+)")


class MarkComplete(TrainerCallback):
    """Writes the list when transformers has written all else."""

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            mark_complete(Path(args.output_dir) / f"checkpoint-{state.global_step}")


def mark_complete(checkpoint: Path) -> None:
    """List the files of a finished checkpoint with their sizes."""
    files = [p for p in checkpoint.rglob("*") if p.is_file() and p.name != _LIST]
    aside = checkpoint / f"{_LIST}.tmp"
    sizes = {str(p.relative_to(checkpoint)): p.stat().st_size for p in files}
    aside.write_text(json.dumps(sizes), encoding="utf-8")
    aside.rename(checkpoint / _LIST)


def latest_complete(directory: Path, *, remove: bool = True) -> str | None:
    """The path of the newest whole checkpoint, for `Trainer.train`; what is half-written is removed, if wanted."""
    found = []
    for path in directory.glob("checkpoint-*"):
        if (match := _NAME.fullmatch(path.name)) and is_complete(path):
            found.append((int(match[1]), path))
        elif remove:
            shutil.rmtree(path)
    return str(max(found)[1]) if found else None


def is_complete(checkpoint: Path) -> bool:
    """Whether every file is there in the size that it was listed with."""
    try:
        sizes = json.loads((checkpoint / _LIST).read_text(encoding="utf-8"))
        return all((checkpoint / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError):
        return False
