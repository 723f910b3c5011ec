"""What the arms of a comparison cost, as a notebook displays it."""

from collections.abc import Mapping

from IPython.display import HTML, Image

from hifitse.config import ExtractorConfig
from hifitse.evaluation import cost
from hifitse.evaluation.comparison import Comparison
from hifitse.evaluation.cost import Cost
from hifitse.evaluation.rows import mean
from hifitse.report import comparison_figures, tables
from hifitse.report.show import picture

PLAN_SIZES = {
    "the plan's baseline": ({}, 11.79),
    "A: lstm_hidden 384": ({"lstm_hidden": 384}, 18.0),
    "B: 8 blocks": ({"blocks": 8}, 16.0),
    "C: both": ({"lstm_hidden": 384, "blocks": 8}, 24.0),
}
"""Model of the plan -> its changes, and millions of parameters as the plan has them."""


def cost_table(comparison: Comparison, costs: Mapping[str, Cost]) -> HTML:
    """Parameters, operations, memory and seconds per step of each arm beside its SI-SDRi."""
    rows = []
    for name, arm in comparison.all.items():
        each = costs[name]
        ratio = tables.measured(each.step_ratio, 2) if each.step_ratio is not None else "–"
        seconds = tables.number(each.step_seconds, 3)
        numbers = [tables.number(each.parameters / 1e6, 2), tables.number(each.gflops_per_second, 2)]
        memory = [tables.number(each.activation_mb, 0), tables.number(each.training_mb, 0)]
        rows.append([name, *numbers, *memory, ratio, seconds, tables.measured(mean(arm.rows), 2, True)])
    header = ["arm", "parameters, M", "GFLOP per second of audio", "kept for backward, MB", "training step, MB"]
    header += ["time per step, ratio to the baseline", "seconds per step here", "SI-SDRi, dB"]
    return HTML(tables.table(header, rows, "memory of activations is counted, but not with checkpointing; 1 MB is 10⁶ bytes"))


def pareto(comparison: Comparison, costs: Mapping[str, Cost]) -> Image:
    """SI-SDRi against operations."""
    points = {name: (costs[name].gflops_per_second, mean(arm.rows)) for name, arm in comparison.all.items()}
    shown = ", ".join(f"{name} {x:.2f} GFLOP, {tables.number(y.mean, 2, True)} dB" for name, (x, y) in points.items())
    return picture(comparison_figures.pareto(points, "GFLOP per second of audio, forward"), f"SI-SDRi against operations: {shown}")


def plan_sizes() -> HTML:
    """Counted parameters and operations of the plan's full models beside its guesses."""
    rows = []
    for name, (changes, guess) in PLAN_SIZES.items():
        config = ExtractorConfig(**changes)
        counted = tables.number(cost.parameters(config) / 1e6, 2)
        rows.append([name, counted, tables.number(guess, 2), tables.number(cost.gflops_per_second(config), 1)])
    return HTML(tables.table(["model", "parameters, M, counted", "parameters, M, in the plan", "GFLOP per second of audio"], rows))


def audio_a_step(comparison: Comparison) -> HTML:
    """Seconds of audio in one update of the weights, by arm: as equal as whole mixtures allow."""
    base, rows = None, []
    for name, arm in comparison.all.items():
        params = arm.params
        items = params.batch_size * params.accumulation
        seconds = items * params.seconds
        base = base or seconds
        share = f"{100 * (seconds / base - 1):+.1f} %".replace("-", "−")
        rows.append([name, f"{params.seconds:g}", str(items), f"{seconds:g}", share])
    return HTML(tables.table(["arm", "segment, s", "mixtures per update", "audio per update, s", "against the baseline"], rows))
