"""The table of `experiments.quality`, and what its rows say of the paper's claims."""

import numpy as np

from experiments.quality.methods import (
    ATTENTION,
    CAUSAL,
    CONTROL,
    ELASTIC,
    FEWER,
    FULL,
    NEAREST,
    NOTHING,
)
from experiments.statistics import standard_error, with_error

WITHIN = 0.2  # dB that quality "kept" may lose
CLEARLY = 4.0  # dB that a model worth its training is ahead of copying a view
FEW_SCENES = 5  # fewer answer nothing


def claims(rows: list[dict]) -> list[dict]:
    """Claims that can be judged, each with the gain in dB, its standard error and the answer:
    the paper's, and ours over simpler ways.

    A gain is the mean of paired differences over the scenes of the first group. The answer is yes
    or no where the gain is beyond two standard errors of where it would change and there are five
    scenes or more, else open. It is about these weights: how another training run of the same kind
    would answer is not in it.
    """
    group = [row for row in rows if row["group"] == rows[0]["group"]]
    fewest, most = min(row["views"] for row in group), max(row["views"] for row in group)
    found = []

    def judge(claim: str, better: tuple[str, int], worse: tuple[str, int], above: float = 0.0):
        pair = [_scores(group, *which) for which in (better, worse)]
        if any(scores is None for scores in pair):
            return
        covered = min(len(scores) for scores in pair)  # type: ignore[arg-type]
        gain = pair[0][:covered] - pair[1][:covered]  # type: ignore[index]
        found.append(_verdict(claim, gain, above))

    if fewest < most:
        judge(f"more views help ({most} against {fewest})", (FULL, most), (FULL, fewest))
    for steps in _methods(group, f"{FULL}, +"):
        judge(f"post-optimisation helps ({steps}, {most} views)", (steps, most), (FULL, most))
    judge(
        f"half the virtual views keep quality within {WITHIN} dB ({most} views)",
        (FEWER, most), (FULL, most), -WITHIN,
    )  # fmt: skip
    judge(f"elastic update helps streams ({most} views)", (ELASTIC, most), (CAUSAL, most))
    for views in sorted({row["views"] for row in group}):
        judge(
            f"TTT better than softmax attention, trained alike ({views} views)",
            (CONTROL, views), (ATTENTION, views),
        )  # fmt: skip
        for margin in (0.0, CLEARLY):
            judge(
                f"better than the nearest view{f' by {margin:g} dB' if margin else ''} "
                f"({views} views)",
                (FULL, views), (NEAREST, views), margin,
            )  # fmt: skip
        for ours in _methods(group, FULL):
            fit = _no_quicker_fit(group, ours, views)
            if fit is not None:
                judge(
                    f"{ours} better than the shortest fit that takes as long "
                    f"({fit}, {views} views)",
                    (ours, views), (fit, views),
                )  # fmt: skip
    return found


def _methods(group: list[dict], start: str) -> list[str]:
    """Names of the methods that begin so, in order and once."""
    return list(dict.fromkeys(r["method"] for r in group if r["method"].startswith(start)))


def _no_quicker_fit(group: list[dict], ours: str, views: int) -> str | None:
    """The fit from nothing with the fewest seconds that are no fewer than ours; None: there is
    none."""
    rows = {row["method"]: row for row in group if row["views"] == views}
    if ours not in rows:
        return None
    fits = [name for name in _methods(group, NOTHING) if name in rows]
    slow = [name for name in fits if rows[name]["seconds"] >= rows[ours]["seconds"]]
    return min(slow, key=lambda name: rows[name]["seconds"], default=None)


def _scores(group: list[dict], method: str, views: int) -> np.ndarray | None:
    for row in group:
        if row["method"] == method and row["views"] == views:
            return np.array(row["psnr_by_scene"])
    return None


def _verdict(claim: str, gain: np.ndarray, above: float) -> dict:
    mean = float(gain.mean())
    error = standard_error(gain)
    sure = error is not None and len(gain) >= FEW_SCENES and abs(mean - above) > 2 * error
    answer = ("yes" if mean > above else "no") if sure else "open"
    return {
        "claim": claim, "gain": mean, "standard_error": error, "scenes": len(gain), "answer": answer
    }  # fmt: skip


def table(result: dict) -> str:
    """Head, a table per group and number of views, and the claims, as text."""
    height, width = result["resolution"]
    lines = [
        f"{result['checkpoint']}, {width}x{height} pixels, streams in chunks of "
        f"{result['chunk_views']} views, {result['device']}",
        result["lpips"],
    ]
    seen = None
    for row in result["rows"]:
        place = (row["group"], row["views"])
        if place != seen:
            seen = place
            lines += ["", f"{row['group']}, {row['views']} input views"]
            lines += [f"{'':<34}{'PSNR dB':>16}{'SSIM':>8}{'LPIPS':>8}{'seconds':>9}  scenes"]
        lines.append(_line(row))
    lines += ["", "claims at this scale (gain in dB, paired by scene)"]
    for claim in result["claims"]:
        gain = with_error(claim["gain"], claim["standard_error"])
        lines.append(
            f"  {claim['answer']:<5}{gain:>16}{claim['scenes']:>5} scenes  {claim['claim']}"
        )
    return "\n".join(lines)


def _line(row: dict) -> str:
    psnr = with_error(row["psnr"], row["psnr_standard_error"])
    lpips = "absent" if row["lpips"] is None else f"{row['lpips']:.3f}"
    seconds = "" if row["seconds"] is None else f"{row['seconds']:.2f}"
    return (
        f"{row['method']:<34}{psnr:>16}{row['ssim']:>8.3f}{lpips:>8}{seconds:>9}{row['scenes']:>8}"
    )
