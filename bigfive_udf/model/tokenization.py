"""Text to token ids: no padding, no truncation, no special tokens; those belong to the window, not to the text."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Sequence

import tokenizers

from bigfive_udf.errors import ArtifactError

# The tokenizer's objects of one call are alive together, some 100 bytes for every character: so a call is bounded,
# whatever the caller's batch and the longest text are.
_TEXTS_PER_CALL = 512
_CHARACTERS_PER_CALL = 1 << 18
_LONGEST_WORD = 1 << 12
"""A longer text is cut at white space among the last so many characters of a piece."""
_BETWEEN_WORDS = re.compile(r"(?<=\S)\s(?=\S)")


class TextTokenizer:
    """A fast tokenizer that answers with bare token ids.

    `prefix` and `suffix` are the special tokens that the model wants around every window ([CLS] and [SEP] for BERT).
    `definition` is the content of a tokenizer.json; its truncation and padding are switched off.
    """

    def __init__(self, definition: str) -> None:
        self._tokenizer = tokenizers.Tokenizer.from_str(definition)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.prefix, self.suffix = self._special_tokens()

    def _special_tokens(self) -> tuple[list[int], list[int]]:
        bare = self._tokenizer.encode("a", add_special_tokens=False).ids
        dressed = self._tokenizer.encode("a", add_special_tokens=True)
        for start in range(len(dressed.ids) - len(bare) + 1):
            if bare and dressed.ids[start : start + len(bare)] == bare:
                if any(dressed.type_ids):
                    break  # segment ids other than 0: no model that we know wants them for a single text
                return dressed.ids[:start], dressed.ids[start + len(bare) :]
        raise ArtifactError(
            "the tokenizer's special tokens do not stand before and after the text: "
            "use a tokenizer of the BERT, DistilBERT or RoBERTa kind"
        )

    @property
    def n_special(self) -> int:
        """Special tokens that each window carries."""
        return len(self.prefix) + len(self.suffix)

    def encode(self, texts: list[str]) -> list[Sequence[int] | Exception]:
        """Token ids of each text, or the exception that it raised; one text's failure is never another's."""
        return [ids for some in _calls(texts) for ids in self._encode_some(some)]

    def _encode_some(self, texts: list[str]) -> list[Sequence[int] | Exception]:
        if len(texts[0]) > _CHARACTERS_PER_CALL:
            return [self._encode_long(texts[0])]  # it is alone in its call
        try:
            return [e.ids for e in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
        # The tokenizer raises bare Exception for most of what it refuses.
        except Exception as error:
            if len(texts) == 1:
                return [error]
            return [ids for text in texts for ids in self._encode_some([text])]

    def _encode_long(self, text: str) -> Sequence[int] | Exception:
        ids = array("i")  # a list of millions would take nine times the memory
        for piece in _pieces(text, _CHARACTERS_PER_CALL):
            found = self._encode_some([piece])[0]
            if isinstance(found, Exception):
                return found
            ids.extend(found)
        return ids


def _calls(texts: list[str]) -> Iterator[list[str]]:
    """The texts in order, as many at a time as the bounds of a call allow, but at least one."""
    start = characters = 0
    for i, text in enumerate(texts):
        if i > start and (i - start == _TEXTS_PER_CALL or characters + len(text) > _CHARACTERS_PER_CALL):
            yield texts[start:i]
            start, characters = i, 0
        characters += len(text)
    if start < len(texts):
        yield texts[start:]


def _pieces(text: str, limit: int) -> Iterator[str]:
    """The text in pieces of at most `limit` characters, whose tokens are together those of the text.

    A piece begins with a space between two words, where hardly any tokenizer's token reaches across, or else with
    another white space. Where there is none for thousands of characters (in Chinese, or in an encoded file) a token may
    be cut in two, one in some hundred thousand characters.
    """
    start = 0
    while len(text) - start > limit:
        least = max(start + 1, start + limit - _LONGEST_WORD)
        tail = text[least - 1 : start + limit + 1]
        places = [(m[0] == " ", least - 1 + m.start()) for m in _BETWEEN_WORDS.finditer(tail)]
        _, stop = max(places, default=(False, start + limit))
        yield text[start:stop]
        start = stop
    yield text[start:]
