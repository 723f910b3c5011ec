"""How near the spectrum of an estimate is to the target's, below and above 8 kHz, where PESQ and STOI hear nothing.

Measured beside the evaluation, whose rows stay as they are: once for all arms of a comparison, on the same mixtures.
"""

from collections.abc import Mapping
from typing import Any, Literal

from hifitse.evaluation.evaluate import conditions_of, listed_items, measured
from hifitse.evaluation.experiment import Arm
from hifitse.machine import pick_device, progress_bar
from hifitse.metrics import log_spectral_distance
from hifitse.params import Params
from hifitse.training.validation import batched, estimate

BANDS_HZ = {"lsd_low_db": (0.0, 8_000.0), "lsd_high_db": (8_000.0, 24_000.0)}
"""Column -> the band's limits in Hz."""
Fidelity = dict[str, list[dict[str, Any]]]
"""Arm -> a row per mixture and seed, as of an evaluation, and in dB the columns of ``BANDS_HZ``."""


def fidelity(arms: Mapping[str, Arm], params: Params, split: Literal["test", "valid"] = "test", *, progress: bool = True) -> Fidelity:
    """:func:`hifitse.metrics.log_spectral_distance` of each arm's estimates in two bands, with the SI-SDRi of the same estimates.

    Args:
        arms: trained, by name.
        params: decide the mixtures: those of the list "test" with the target present.
        split: "test", or "valid" to choose between weights.
        progress: show a progress bar.
    """
    device = pick_device(params.device)
    runs = [(name, run.params.seed, run.extractor().to(device)) for name, arm in arms.items() for run in (arm.run, *arm.others)]
    items = (item for item in listed_items(params, split, conditions_of(params, ("test",))) if item.present)
    found: Fidelity = {name: [] for name in arms}
    bar = progress_bar(items, desc=f"spectra, {split}", unit="mixture", disable=not progress)
    for batch in batched(bar, lambda item: item.shape):
        for name, seed, extractor in runs:
            ests = estimate(extractor, [item.mixture for item in batch], "right", device)  # (B, T)
            for item, est in zip(batch, ests, strict=True):
                lsd = {key: log_spectral_distance(est.numpy(), item.mixture.target, *band) for key, band in BANDS_HZ.items()}
                found[name].append(measured(item, {"right": est}) | lsd | {"seed": seed})
    return found
