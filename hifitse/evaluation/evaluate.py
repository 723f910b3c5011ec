"""The fixed evaluation: an extractor and four lists of mixtures -> one row of metrics and metadata per mixture.

Each mixture with the target present is extracted three times: with the target's enrolment, with that of an interferer in
the same mixture, and with silence. An extractor that ignores the enrolment does no target extraction, whatever its SI-SDRi.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hifitse import SAMPLE_RATE
from hifitse.data.lists import ListMixer, list_mixer
from hifitse.data.manifest import by_content
from hifitse.data.mixing import Mixer, Mixture
from hifitse.data.scene import LISTS, Conditions, evaluation_conditions
from hifitse.evaluation.perceptual import PerceptualPool, unmeasured
from hifitse.files import write_text
from hifitse.machine import progress_bar
from hifitse.metrics import level_db, si_sdr, si_sdri, suppression_db
from hifitse.model import AveragedEstimates, Extractor
from hifitse.params import NOT_EVALUATION, Params
from hifitse.training.validation import Enrolment, EvaluationError, Extract, batched, device_of, estimate, evaluation_mode, valid_seed

PERCEPTUAL_LISTS = ("test", "long")
"""Lists with PESQ and STOI. In the others the target is silent about half of the time, which makes it an unsuitable reference."""
ROWS_VERSION = 2  # increase this when the meaning of a row changes, so that cached rows are recomputed
NOT_APPLICABLE = dict.fromkeys(
    ("si_sdr_db", "si_sdr_mix_db", "si_sdri_db", "si_sdri_wrong_enroll_db", "si_sdri_zero_enroll_db", "swap_si_sdri_db", "confused")
    + ("absent_level_db", "absent_suppression_db", "inside_db", "outside_db", "inside_si_sdr_db", "inside_si_sdri_db")
)


class Item(NamedTuple):
    """One mixture of a list."""

    list: str
    index: int
    conditions: Conditions
    mixture: Mixture

    @property
    def present(self) -> bool:
        return bool(self.mixture.metadata["present"])

    @property
    def enrolments(self) -> tuple[Enrolment, ...]:
        """Enrolments to extract with: the right one, and if the target is present also silence and, if available, a wrong one."""
        more = ("zero", "wrong") if self.mixture.wrong_enroll is not None else ("zero",)
        return ("right", *more) if self.present else ("right",)

    @property
    def shape(self) -> tuple:
        """Batching key: items with the same value can be extracted in one batch."""
        return self.list, self.mixture.mix.shape, self.mixture.enroll.shape, np.shape(self.mixture.wrong_enroll), self.present


def evaluate(
    extractor: Extract,
    params: Params,
    folder: Path | None = None,
    progress: bool = True,
    *,
    split: Literal["test", "valid", "train"] = "test",
    lists: Sequence[str] = LISTS,
    change: Callable[[Mixture], Mixture] | None = None,
    silent: bool = True,
) -> list[dict[str, Any]]:
    """Evaluate an extractor on the fixed lists.

    Args:
        extractor: any callable ``(mix (B, T), enroll (B, N, T')) -> est (B, T)``; runs on the device of its weights, in evaluation mode.
        params: parameters of the run; the data and ``eval_*`` parameters determine the mixtures.
        folder: cache for rows, which are reused if the weights and everything else that matters are unchanged. Those of a custom model
            are computed every time.
        progress: show a progress bar.
        split: "test"; "valid" for model selection; "train" for new mixtures of the training speakers, rooms and noises.
        lists: some of ``LISTS``.
        change: applied to each mixture before extraction; its ``repr`` is part of the cache key. Plain functions are never cached.
        silent: also extract with silence as the enrolment; without it ``si_sdri_zero_enroll_db`` is ``None``.

    Returns:
        One row per mixture: list, id, index, the mixture's metadata, and in dB ``si_sdr_db, si_sdr_mix_db, si_sdri_db,
        si_sdri_wrong_enroll_db, si_sdri_zero_enroll_db``; ``swap_si_sdri_db`` (the first interferer as both enrolment and target);
        ``confused`` (nearer to an interferer than to the target); ``sir_db`` (the lowest) and ``sirs_db`` (all, ascending);
        ``pesq, pesq_mix, stoi, stoi_mix`` and, if they failed, ``pesq_error, stoi_error``; ``absent_level_db`` (dBFS),
        ``absent_suppression_db``; for partial presence ``inside_db, outside_db`` (level relative to the mixture while the target
        is present and absent), ``inside_si_sdr_db, inside_si_sdri_db``. ``None`` means not applicable or undefined.

    Raises:
        EvaluationError: an estimate is not finite or has the wrong shape, or a list is unknown.
    """
    conditions = conditions_of(params, lists)
    filled = [name for name, entries in conditions.items() if entries]  # empty lists change no row, so they are not part of the cache key
    options: dict[str, Any] = {"split": split, "lists": filled, "perceptual": params.eval_pesq}
    options |= ({"change": repr(change)} if change else {}) | ({} if silent else {"silent": False})
    path = _cache_path(extractor, params, folder, options)
    expected = [(name, index) for name, entries in conditions.items() for index in range(len(entries))]
    if path and (kept := _read_rows(path, expected)) is not None:
        return kept
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    bar = progress_bar(total=len(expected), desc="evaluation", unit="mixture", disable=not progress)
    with bar, evaluation_mode(extractor), PerceptualPool() as pool:
        for batch in batched(listed_items(params, split, conditions, change), lambda item: item.shape):
            kinds = [kind for kind in batch[0].enrolments if silent or kind != "zero"]
            ests = {kind: estimate(extractor, [item.mixture for item in batch], kind, device_of(extractor)) for kind in kinds}
            for place, item in enumerate(batch):
                mine = {kind: values[place] for kind, values in ests.items()}
                rows[item.list, item.index] = measured(item, mine, pool if params.eval_pesq else None)
            bar.update(len(batch))
    ordered = [plain(rows[place]) for place in expected]
    if path and not pool.gave_up:  # do not cache missing scores: a later call may be able to measure them
        write_text(path, "".join(json.dumps(row, allow_nan=False) + "\n" for row in ordered))
    return ordered


def conditions_of(params: Params, lists: Sequence[str]) -> dict[str, list[Conditions]]:
    """Return list -> conditions of its mixtures. Raises EvaluationError: a list is unknown."""
    for name in lists:
        if name not in LISTS:
            raise EvaluationError(f"list is {name!r}, expected one of {', '.join(LISTS)}")
    known = evaluation_conditions(params)
    return {name: known[name] for name in lists}


def listed_items(
    params: Params, split: str, conditions: dict[str, list[Conditions]], change: Callable[[Mixture], Mixture] | None = None
) -> Iterator[Item]:
    """Yield the mixtures of some lists in order; arguments as in :func:`evaluate`, ``conditions`` from :func:`conditions_of`."""
    mixer = list_mixer(params, split)
    seed = params.eval_seed if split == "test" else valid_seed(params)
    for name, entries in conditions.items():
        for index, entry in enumerate(entries):
            mixture = listed_mixture(mixer, seed, index, entry)
            yield Item(name, index, entry, change(mixture) if change else mixture)


def listed_mixture(mixer: Mixer | ListMixer, seed: int, index: int, conditions: Conditions) -> Mixture:
    """Make a mixture as the evaluation uses it: with a wrong enrolment if the target is present."""
    return mixer.mixture(seed, index, conditions, wrong_enroll=not conditions.absent)


def measured(item: Item, ests: dict[str, Tensor], pool: PerceptualPool | None = None) -> dict[str, Any]:
    """Compute the row of a mixture from its estimates ``(T,)`` with the "right" and optionally the "wrong" and "zero" enrolment. A ``pool``
    adds PESQ and STOI to the row, at the latest when it closes."""
    mix = torch.from_numpy(item.mixture.mix).double()
    mine = {name: est.double() for name, est in ests.items()}
    ratios = item.mixture.metadata["sir_db"]
    # drop the mixture's seed, which is part of its id: in a row, "seed" is the seed of the training
    row = {"list": item.list, "index": item.index} | {key: value for key, value in item.mixture.metadata.items() if key != "seed"}
    row |= {"sir_db": min(ratios, default=None), "sirs_db": ratios} | NOT_APPLICABLE | unmeasured()
    if not item.present:
        level, less = level_db(mine["right"]).item(), suppression_db(mine["right"], mix).item()
        return row | {"absent_level_db": level, "absent_suppression_db": less}
    row |= _present(item, mine, mix)
    if pool and item.list in PERCEPTUAL_LISTS:
        pool.submit(row, ests["right"].numpy(), item.mixture.mix, item.mixture.target)
    return row


def _present(item: Item, ests: dict[str, Tensor], mix: Tensor) -> dict[str, Any]:
    target = torch.from_numpy(item.mixture.target).double()
    baseline = si_sdr(mix, target).item()
    ratios = {name: si_sdr(est, target).item() for name, est in ests.items()}
    interferers = [torch.from_numpy(signal).double() for signal in item.mixture.interferers]
    row = {
        "si_sdr_db": ratios["right"],
        "si_sdr_mix_db": baseline,
        "si_sdri_db": ratios["right"] - baseline,
        "si_sdri_zero_enroll_db": ratios["zero"] - baseline if "zero" in ratios else None,
        "si_sdri_wrong_enroll_db": ratios["wrong"] - baseline if "wrong" in ratios else None,
        "swap_si_sdri_db": si_sdri(ests["wrong"], mix, interferers[0]).item() if "wrong" in ratios else None,
        "confused": any(si_sdr(ests["right"], interferer).item() > ratios["right"] for interferer in interferers),
    }
    return row | (_partial(item.conditions, ests["right"], mix, target) if item.list == "partial" else {})


def _partial(conditions: Conditions, est: Tensor, mix: Tensor, target: Tensor) -> dict[str, float]:
    """Measure levels relative to the mixture while the target is present and absent, and SI-SDR while it is present."""
    start, stop = (round(seconds * SAMPLE_RATE) for seconds in (conditions.active_from_s, conditions.active_to_s))
    inside = torch.zeros(len(mix), dtype=torch.bool)
    inside[start:stop] = True
    ratio = si_sdr(est[inside], target[inside]).item()
    return {
        "inside_db": -suppression_db(est[inside], mix[inside]).item(),
        "outside_db": -suppression_db(est[~inside], mix[~inside]).item(),
        "inside_si_sdr_db": ratio,
        "inside_si_sdri_db": ratio - si_sdr(mix[inside], target[inside]).item(),
    }


def plain(row: dict[str, Any]) -> dict[str, Any]:
    """Make a row valid in strict JSON: convert NumPy numbers to Python numbers, and values that are not finite to ``None``."""
    own = {key: value.item() if isinstance(value, np.generic) else value for key, value in row.items()}
    return {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in own.items()}


def _cache_path(extractor: Extract, params: Params, folder: Path | None, options: dict[str, Any]) -> Path | None:
    """Return the cache file, named by a SHA-256 of all weights (name, type, shape, values) and everything else that affects the rows."""
    if folder is None or not isinstance(extractor, Extractor | AveragedEstimates) or " at 0x" in options.get("change", ""):
        return None  # neither a custom module's weights nor a function's address tell what they do
    digest = hashlib.sha256()
    for name, tensor in sorted(extractor.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    values = {name: value for name, value in by_content(params).changed().items() if name not in NOT_EVALUATION}
    kind = type(extractor).__name__  # different wrappers may have the same weights under the same names
    options = options if kind == "Extractor" else options | {"module": kind}
    shifts = [each.config.shifts for each in extractor.modules() if isinstance(each, Extractor)]  # the run's own, which no weight shows
    options = options | {"shifts": shifts} if set(shifts) - {params.shifts} else options
    key = json.dumps([ROWS_VERSION, values, options, digest.hexdigest()], sort_keys=True)
    return folder / f"rows-{hashlib.sha256(key.encode()).hexdigest()[:12]}.jsonl"


def _read_rows(path: Path, expected: list[tuple[str, int]]) -> list[dict[str, Any]] | None:
    """Read the rows of a complete cache file; ``None`` if it is missing or damaged."""
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return rows if [(row["list"], row["index"]) for row in rows] == expected else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
