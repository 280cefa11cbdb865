"""What stock transformers says of a text alone: tokenized, one forward pass, a sigmoid. The truth in many tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from bigfive_udf.model.checkpoint import OWN_MODEL_TYPE, read_json


class Oracle:
    """Probabilities and token counts, text by text; our own heads are applied by hand to a stock encoder."""

    def __init__(self, directory: Path, max_length: int = 128, dtype: torch.dtype = torch.float32) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(directory)
        self.max_length = max_length
        config = read_json(directory / "config.json")
        self._own = config if config["model_type"] == OWN_MODEL_TYPE else None
        if self._own is None:
            self._model = AutoModelForSequenceClassification.from_pretrained(directory).to(dtype).eval()
            return
        from safetensors.torch import load_file

        weights = load_file(directory / "model.safetensors")
        assert dtype is torch.float32, "our own heads are applied in fp32"
        self._model = AutoModel.from_config(AutoConfig.for_model(**self._own["encoder"])).eval()
        encoder = {n.removeprefix("encoder."): t for n, t in weights.items() if n.startswith("encoder.")}
        self._model.load_state_dict(encoder, strict=False)
        self._head = {n.removeprefix("head."): t for n, t in weights.items() if n.startswith("head.")}

    @torch.no_grad()
    def probabilities(self, text: str) -> np.ndarray:
        """(5,), in the order of the checkpoint's labels."""
        inputs = self.tokenizer([text], return_tensors="pt", truncation=True, max_length=self.max_length)
        inputs.pop("token_type_ids", None)
        if self._own is None:
            return torch.sigmoid(self._model(**inputs).logits.float())[0].numpy()
        x = self._model(**inputs).last_hidden_state[0]
        x = x[0] if self._own["pooling"] == "cls" else x.mean(0)
        layers = sorted({int(name.split(".")[0]) for name in self._head})
        for layer in layers:
            x = self._head[f"{layer}.weight"] @ x + self._head[f"{layer}.bias"]
            x = torch.relu(x) if layer != layers[-1] else x
        return torch.sigmoid(x).numpy()

    def n_tokens(self, text: str) -> int:
        return len(self.tokenizer(text, add_special_tokens=False)["input_ids"])
