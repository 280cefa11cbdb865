"""A process that loads a model as a Spark worker does, says what that cost in private memory, and holds it.

    hold_model.py DIGEST WEIGHTS

DIGEST names an unpacked bundle, WEIGHTS is shared or own. Prints three numbers: private bytes before load, after the
first forward pass, and the size of the weights; then waits for a line of input.
"""

import sys

from bigfive_udf.model import bundle, hardware, node_cache
from bigfive_udf.model.scorer import Scorer
from bigfive_udf.model.scores import ScoringOptions


def private_bytes() -> int:
    """Memory that would be free if this process ended; pages shared with others do not count."""
    with open("/proc/self/smaps_rollup") as lines:
        return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Private_"))


def main() -> None:
    digest, where = sys.argv[1:]
    hardware.use_threads(1)
    directory = node_cache.unpacked(digest, lambda: {})
    options = ScoringOptions(max_length=512, weights=where)
    before = private_bytes()
    scorer = Scorer.open(directory, options)
    scorer.score(["a short text", "and a longer one, with rather more words in it than the first " * 4] * 3)
    after = private_bytes()
    weights = (directory / bundle.WEIGHTS).stat().st_size
    print(before, after, weights, flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main()
