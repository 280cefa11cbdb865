"""Checkpoints that can be trusted after a kill: each counts only if a list of its files shows that it is complete.

transformers writes a checkpoint file by file into its final directory, and crashes when it loads an unfinished one.
The list holds file sizes, so it also reveals a file that a power failure cut short.
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
    """Writes the list once transformers has written all other files."""

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
    """The path of the newest complete checkpoint, for `Trainer.train`; `remove` deletes the incomplete ones."""
    found = []
    for path in directory.glob("checkpoint-*"):
        if (match := _NAME.fullmatch(path.name)) and is_complete(path):
            found.append((int(match[1]), path))
        elif remove:
            shutil.rmtree(path)
    return str(max(found)[1]) if found else None


def is_complete(checkpoint: Path) -> bool:
    """Whether every listed file exists with its listed size."""
    try:
        sizes = json.loads((checkpoint / _LIST).read_text(encoding="utf-8"))
        return all((checkpoint / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError):
        return False
