"""Notebooks 05, 06, 07 and 09: what each shows in addition to the common displays of a comparison.

05: the difficulty of the mixtures over the training. 06: each loss term's share of the gradient, which its weight hardly tells.
07: results by similarity of the voices. 09: what helped in the other notebooks' reports on the same preset.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from IPython.display import HTML, Image
from matplotlib.figure import Figure

from hifitse import HifitseError
from hifitse import params as parameters
from hifitse.data.dataset import training_loader
from hifitse.data.mixing import Mixer
from hifitse.data.scene import training_conditions
from hifitse.data.similarity import Voices
from hifitse.evaluation.comparison import Comparison, Declared, declare_only
from hifitse.evaluation.experiment import Arm, OwnModel, declared_diff
from hifitse.evaluation.rows import BASELINE, of_list
from hifitse.losses.objective import Objective
from hifitse.model import Extractor
from hifitse.params import Params
from hifitse.report import report, tables
from hifitse.report.contract import complete
from hifitse.report.figures import BLUE, GREY, lines, series
from hifitse.report.page import piece
from hifitse.report.show import picture, table
from hifitse.training.run import Run
from hifitse.training.validation import evaluation_mode, valid_seed

# ---- 05: the curriculum

PANELS = {
    "target-to-noise ratio, dB: lowest and highest": ("snr_min_db", "snr_max_db"),
    "interferers: fewest and most": ("interferers_min", "interferers_max"),
    "target absent, share of mixtures": ("absent_prob",),
    "noisy enrolment, share of mixtures": ("noisy_enroll_prob",),
    "similarity of interferers": ("similarity",),
}
"""Panel title -> its parameters."""
COLOURS = {"this curriculum": BLUE, "baseline": GREY}


def schedule(arm: Arm, baseline: Arm) -> list[HTML | Image]:
    """Return a heading and a plot of a variant's curriculum next to the baseline's, to be displayed in this order."""
    starts = ", ".join(f"{100 * start:.0f} %" for start in arm.params.phase_starts)
    about = f"phases from {starts} of the steps"
    return [HTML(piece("heading", arm.name, about)), picture(course(arm.params, baseline.params), f"Curriculum of {arm.name}: {about}")]


def course(params: Params, baseline: Params) -> Figure:
    """Plot two curricula over the steps, as the training uses them, without panels in which both are constant and equal."""
    panels, varying = {}, {}
    for title, names in PANELS.items():
        curves = {label: [_curve(each, name) for name in names] for label, each in zip(COLOURS, (params, baseline), strict=True)}
        panels[title] = {label: [point for one in mine for point in (*one, (np.nan, np.nan))] for label, mine in curves.items()}
        if any(len({value for one in of_both for _, value in one}) > 1 for of_both in zip(*curves.values(), strict=True)):
            varying[title] = panels[title]
    return lines(varying or panels, "step", colours=COLOURS)


def _curve(params: Params, name: str) -> list[tuple[float, float]]:
    """Return (step, value) pairs of a parameter at 400 points of the training."""
    shares = np.linspace(0, 1, 401)[:-1]
    drawn = [training_conditions(params, share * params.steps * params.batch_size) for share in shares]
    values = [params.at_phase(name, each.phase) if name == "similarity" else getattr(each, name) for each in drawn]
    return list(zip(shares * params.steps, values, strict=True))


# ---- 06: the terms of a loss

BATCHES = 8
"""Number of batches over which gradient norms are summed."""


def gradient_norms(objective: Objective, model: Extractor, batch: dict[str, Any]) -> dict[str, float]:
    """Return the norm of the gradient of each weighted loss term with respect to the estimate.

    Each item's gradient (T,) is scaled by the RMS level of its mixture. The network's mask is applied to the mixture, so this is the
    gradient that reaches the network; unscaled, the quietest items would dominate. The norm covers all items of the batch. It is 0 for
    a term that applies to no item. Gradients may oppose each other, so the norms need not add up to that of the total loss.
    """
    mix, target, present = batch["mix"], batch["target"], batch["present"]
    with torch.no_grad():
        est = model(mix, batch["enroll"]).float()
    est.requires_grad_()
    level, found = mix.square().mean(-1, keepdim=True).sqrt(), {}  # (B, 1)
    for name, (values, applies) in objective.terms(est, target, mix, present, batch, model).items():
        value, gradient = objective.weighted(name, values, applies), None
        if value.requires_grad:  # the graph is kept, because the terms share parts of it
            gradient = torch.autograd.grad(value, est, retain_graph=True, allow_unused=True)[0]  # (B, T)
        found[name] = 0.0 if gradient is None else float((gradient * level).norm())
    return found


def gradient_shares(run: Run) -> dict[str, float]:
    """Return each weighted term's share of the summed gradient norms at the end of a training; the shares add up to 1.

    The norms are summed over up to ``BATCHES`` batches of validation speakers, with the curriculum of the end of the training and its
    averaged (EMA) weights. Raises HifitseError: the run has no checkpoint, or no term has a gradient.
    """
    model, objective = run.extractor(), run.objective()
    total = dict.fromkeys(objective.weights, 0.0)
    params = run.params.model_copy(update={"seed": valid_seed(run.params), "workers": 0})
    every, wanted = params.steps * params.batch_size, min(params.steps, BATCHES) * params.batch_size
    with evaluation_mode(model):
        for batch in training_loader(params, Mixer(params, "valid"), every - wanted, wanted):
            for name, norm in gradient_norms(objective, model, batch).items():
                total[name] += norm
    whole = sum(total.values())
    if not whole:
        raise HifitseError(f"run {run.folder.name} has no term with a gradient, expected a loss with a weight above 0")
    return {name: norm / whole for name, norm in total.items()}


def share_table(comparison: Comparison, shares: Mapping[str, Mapping[str, float]]) -> HTML:
    """Return a table of each arm's loss terms: initial weight, final weight if it is learned, and share of the gradient."""
    rows = []
    terms = dict.fromkeys(term for of_terms in shares.values() for term in of_terms)
    for name in shares:
        objective, row = comparison.all[name].run.objective(), {"arm": name}
        learned = objective.learned_weights()
        for term in terms:
            weight = objective.weights.get(term)
            last = f" → {tables.number(learned[f'weight_{term}'], 3)}" if learned and weight else ""
            row[term] = f"{weight:g}{last}; {100 * shares[name][term]:.0f} %" if weight else "–"
        rows.append(row)
    return table(rows, "weight → last weight, where it is learned; share of the gradient")


def weights(comparison: Comparison) -> Image:
    """Plot the learned weights over the steps on a logarithmic axis, one panel per arm that learns them."""
    panels: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for name, arm in comparison.all.items():
        if not isinstance(arm.run, OwnModel) and arm.run.objective().uncertainty is not None:
            terms = dict.fromkeys(key for row in arm.run.history for key in row if key.startswith("weight_"))
            panels[name] = {term.removeprefix("weight_"): series(arm.run.history, term) for term in terms}
    return picture(lines(panels, "step", "weight of the term", log="y"), f"Learned weights over the training steps of {', '.join(panels)}")


# ---- 07: similar voices, measured on the speakers' recordings, because corpora do not state the speakers' sex

THIRDS = ("least alike", "in between", "most alike")


def voices_of(params: Params) -> Voices:
    """Return the voices of the test speakers."""
    return Voices.of(Mixer(params, "test").corpus)


def likeness(row: Mapping[str, Any], voices: Voices) -> float:
    """Return the cosine similarity, -1 to 1, of the target's voice and the most similar interferer's, ignoring changes of speed."""
    return max(voices.similarity(row["target_speaker"], name) for name in row["interferer_speakers"])


def by_likeness(arms: Mapping[str, Arm], voices: Voices) -> dict[str, dict[str, pd.DataFrame]]:
    """Split the test mixtures with target and interferer into thirds of similar size, by :func:`likeness`: third -> arm -> rows. Empty
    thirds are left out. One arm is the baseline."""
    tests = {name: of_list(arm.rows, "test") for name, arm in arms.items()}
    tests = {name: rows[rows["present"].astype(bool) & (rows["n_interferers"] > 0)] for name, rows in tests.items()}
    values = {row["index"]: likeness(row, voices) for row in tests[BASELINE].to_dict("records")}
    edges = np.quantile(list(values.values()), (1 / 3, 2 / 3)) if values else []
    third = {index: THIRDS[int(np.searchsorted(edges, value, side="left"))] for index, value in values.items()}
    filled = [label for label in THIRDS if label in third.values()]
    return {label: {name: rows[rows["index"].map(third) == label] for name, rows in tests.items()} for label in filled}


# ---- 09: combining what helped in other notebooks

FROM = ("02", "03", "04", "05", "06", "07")
"""Notebooks whose arms can be combined."""


def declared(notebook: str, params: Params) -> dict[str, Params]:
    """Return the parameters of a notebook's baseline and arms by name. Its cells are executed up to ``run_all``; nothing is trained.
    Raises HifitseError: the notebook compares no arms, or ``run_all`` refuses their changes."""
    cells = json.loads((report.CHECKOUT / "notebooks" / f"{notebook}.ipynb").read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code" and not cell["metadata"].get("tags")]
    if not any("run_all(" in source for source in sources):
        raise HifitseError(f"notebook {notebook} compares no arms, expected one of those that call run_all")
    namespace: dict[str, Any] = {"p": params, "params": parameters}
    token = declare_only.set(True)
    try:
        for source in (source for source in sources if "from_notebook" not in source):
            exec(compile(source, notebook, "exec"), namespace)  # noqa: S102 (a notebook of this checkout)
    except Declared as declared:
        return declared.args[0]
    finally:
        declare_only.reset(token)


def helped(params: Params) -> dict[str, dict[str, Any]]:
    """Return the changes of the arm that helped most in each notebook of ``FROM``, according to its complete report on this preset."""
    found = {}
    for notebook in sorted(path.stem for path in (report.CHECKOUT / "notebooks").glob("[0-9][0-9]_*.ipynb") if path.stem[:2] in FROM):
        places = [root / report.top(params.preset, params.corpus) / notebook / report.FILES[2] for root in reversed(report.roots())]
        kept = next(filter(None, map(complete, places)), None)  # the user's own report takes precedence
        told = [c for c in kept.comparisons if (c.metric, c.list, c.baseline) == ("si_sdri_db", "test", BASELINE)] if kept else []
        best = max((c for c in told if c.verdict == "helped"), key=lambda c: c.difference, default=None)
        arms = declared(notebook, params) if best else {}
        if best and best.arm in arms:
            changes = declared_diff(arms[best.arm], arms[BASELINE])
            found[f"{notebook[:2]} {best.arm}"] = {name: value for name, (_, value) in changes.items()}
    return found


def union(changes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Merge all changes; if several change a parameter, the last one wins."""
    return {name: value for each in changes.values() for name, value in each.items()}
