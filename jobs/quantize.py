"""Quantize an fp32 model: matrix products in 8-bit integers, as far as the labels of a sample stay the same.

python jobs/quantize.py --config conf/quantize.yaml --set model.path=... --set data.path=... --set output.path=...
"""

from __future__ import annotations

from argparse import Namespace

from bigfive_udf.command_line import main, parser
from bigfive_udf.errors import ArtifactError
from bigfive_udf.model.artifact import check_new, load_artifact
from bigfive_udf.quantizing.search import Search, activation_bits, tensors_of
from bigfive_udf.quantizing.writing import (
    RUNS_ON,
    about_variant,
    check_source,
    curve_lines,
    read_sample,
    write_quantized,
)
from bigfive_udf.runs import Run
from bigfive_udf.settings.loading import load_settings
from bigfive_udf.settings.quantize import QuantizeSettings

FLAGS = parser(__doc__ or "")


def quantize(args: Namespace, run: Run) -> str:
    settings = load_settings(QuantizeSettings, args.config, args.set)
    output, limit = settings.output.path, settings.max_label_flips
    run.result |= {"settings": settings.model_dump()}
    bits = activation_bits(settings.int8)
    check_new(output)
    artifact = load_artifact(settings.model.path)
    check_source(artifact, settings.model.path)
    calibration, measured = read_sample(settings.data)
    print(f"quantize: {artifact.path} ({artifact.model_id}) -> {output}")
    print(f"  {len(calibration):,} texts to calibrate on, {len(measured):,} to measure", flush=True)
    search = Search(artifact, artifact.options())
    print(f"  putting each of {len(search.names)} products in int8 by itself, activations of {bits} bits", flush=True)
    products = search.quantized(calibration, settings.int8.exact_columns, bits)
    by_sensitivity = search.by_sensitivity(products, calibration)
    print(f"  {by_sensitivity[0]} moves the scores most, {by_sensitivity[-1]} least; measuring variants", flush=True)
    curve = search.curve(products, by_sensitivity, measured)
    run.result |= {"curve": [about_variant(variant) for variant in curve]}
    print(*curve_lines(curve, len(search.names)), sep="\n")
    chosen = next((v for v in curve if v.products and v.most_flips <= limit), None)
    if chosen is None or chosen.fidelity is None:
        raise ArtifactError(
            f"{artifact.path}: with half of its products in int8 or more, up to {100 * curve[-1].most_flips:.2g} % of "
            f"the labels turn over, more than max_label_flips {limit:g} allows; nothing was written: allow more, give "
            "more texts (data.documents), or score in another precision"
        )
    write_quantized(artifact, output, tensors_of(products, chosen.products), chosen, curve, bits)
    made = load_artifact(output)
    run.result |= {"model_id": made.model_id, "int8": made.description["int8"]}
    print(
        f"done: {output}, model {made.model_id}: {len(chosen.products)} of {len(search.names)} products in int8, "
        f"{100 * chosen.fidelity.label_flips:.2g} % of labels turned over; activations of {bits} bits, {RUNS_ON[bits]}"
    )
    if bits > 7:
        print("  for others: --set int8.activation_bits=7")
    for other in curve:
        if (
            not other.products
            and other.tokens_per_second >= chosen.tokens_per_second
            and (other.most_flips <= chosen.most_flips)
        ):
            print(f"  note: on this machine {other.precision} is as fast, and more exact")
    print(f"  python jobs/score.py --set model.path={output} --set model.precision=int8 ...")
    return ""


if __name__ == "__main__":
    main("quantize", FLAGS, quantize)
