"""What pre-training as an LVSM is worth to the Gaussian model: `python -m experiments.pretraining`.

Reads the records of runs that `configs/pretraining_lvsm.py` and `configs/pretraining_gaussians.py`
(with its two controls) have written; trains nothing. PSNR of the runs' own held-out evaluation (the
same objects and views in all of them, not clipped by scene), by steps of the Gaussian model and by
all steps, pre-training included; both curves are drawn into `--plot`. The gain is at the last
step that both runs of a comparison reached, and the mean over their curves. One run each: there is
no error bar, and a gain below `--margin` dB counts as none.
"""

import argparse
import json
import math
import sys
from pathlib import Path

import numpy as np

from tttlrm_jax.config.command_line import EXIT_BAD_INPUT
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.reports.plots import Panel, Plot, Series, line_charts
from tttlrm_jax.training.logs import METRICS_FILE

Curve = dict[int, float]  # PSNR in dB by step


def curve(run: Path) -> Curve:
    """Held-out PSNR of a run. Raises InputError where there are no records of it."""
    path = run / METRICS_FILE
    if not path.is_file():
        raise InputError.of("run", run, f"has no {METRICS_FILE}", "train it first")
    records = [json.loads(line) for line in path.read_text().splitlines()]
    found = {r["step"]: r["psnr"] for r in records if r["kind"] == "eval"}
    if not found:
        raise InputError.of("run", run, "has no evaluation yet", "let it run on")
    return found


def compared(pretrained: Curve, control: Curve, margin: float) -> dict:
    """Gains of the one over the other at their common steps. Raises InputError without any."""
    steps = sorted(set(pretrained) & set(control))
    if not steps:
        raise InputError("the runs share no step of evaluation; train them with one eval_every")
    gains = [pretrained[step] - control[step] for step in steps]
    last = gains[-1]
    answer = "yes" if last > margin else "no"
    return {"step": steps[-1], "gain": last, "mean_gain": float(np.mean(gains)), "answer": answer}


def measure(directory: Path, margin: float) -> dict:
    """Both comparisons of the runs in `directory`; the one by all steps where its run is there."""
    lvsm = curve(directory / "pretraining_lvsm")
    pretrained = curve(directory / "pretraining_gaussians")
    control = curve(directory / "pretraining_none")
    result = {
        "lvsm": lvsm,
        "pretrained": pretrained,
        "control": control,
        "equal_gaussian_steps": compared(pretrained, control, margin),
        "equal_steps_in_all": None,
    }
    long_run = directory / "pretraining_none_long"
    if (long_run / METRICS_FILE).is_file():
        shifted = {step + max(lvsm): psnr for step, psnr in pretrained.items()}
        longer = curve(long_run)
        result |= {
            "shifted": shifted,
            "long_control": longer,
            "equal_steps_in_all": compared(shifted, longer, margin),
        }
    return result


def picture(result: dict) -> Plot:
    """The curves."""
    pairs = [("steps of the Gaussian model", "pretrained", "control")]
    if result["equal_steps_in_all"]:
        pairs.append(("all steps, pre-training included", "shifted", "long_control"))
    steps = sorted({step for _, *names in pairs for name in names for step in result[name]})

    def line(label: str, name: str) -> Series:
        return Series(name=label, values=[result[name].get(step, math.nan) for step in steps])

    panels = [
        Panel(
            title=f"by {title}", unit="dB", from_zero=False,
            series=[line("LVSM first", ours), line("from scratch", theirs)],
        )
        for title, ours, theirs in pairs
    ]  # fmt: skip
    return line_charts(
        "Pre-training as an LVSM", "held-out PSNR of the Gaussian model", steps, "step", panels
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.pretraining", description="Does pre-training help?"
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="directory of the runs")
    parser.add_argument("--plot", type=Path, default=Path("pretraining.png"))
    parser.add_argument("--margin", type=float, default=0.2, help="dB that count as no gain")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    try:
        result = measure(options.runs, options.margin)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    options.plot.write_bytes(picture(result).png())
    if options.json:
        print(json.dumps(result, indent=2))
        return 0
    for name in ("equal_gaussian_steps", "equal_steps_in_all"):
        found = result[name]
        if found is None:
            print(f"{name.replace('_', ' ')}: not measured")
            continue
        print(
            f"{name.replace('_', ' ')}: {found['answer']}, {found['gain']:+.2f} dB at step "
            f"{found['step']}, {found['mean_gain']:+.2f} dB over the curve"
        )
    print(f"curves: {options.plot}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
