"""How near the spectrum of an estimate is to the target's, below and above 8 kHz, where PESQ and STOI hear nothing.

Measured beside the evaluation, whose rows stay as they are: once for all arms of a comparison, on the same mixtures.
"""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from tqdm import tqdm

from hifitse.data.conditions import evaluation_conditions
from hifitse.data.lists import list_mixer
from hifitse.data.mixing import Mixture
from hifitse.evaluation.evaluate import listed_mixture
from hifitse.evaluation.experiment import Arm
from hifitse.machine import pick_device
from hifitse.metrics import log_spectral_distance, si_sdr
from hifitse.params import Params
from hifitse.training.validation import batched, estimate, valid_seed

BANDS_HZ = {"lsd_low_db": (0.0, 8_000.0), "lsd_high_db": (8_000.0, 24_000.0)}
"""Column -> the band's limits in Hz."""
Fidelity = dict[str, list[dict[str, Any]]]
"""Arm -> a row per mixture and seed: list, index, seed, present, si_sdr_mix_db, si_sdri_db, and in dB the columns of ``BANDS_HZ``."""


def fidelity(arms: Mapping[str, Arm], params: Params, split: Literal["test", "valid"] = "test", *, progress: bool = True) -> Fidelity:
    r"""Log-spectral distance of each arm's estimates in two bands, with the SI-SDRi of the same estimates.

    .. math:: \frac{1}{L} \sum_l \sqrt{\frac{1}{F} \sum_f (S_{fl} - \hat S_{fl})^2}

    with S the power in dB of the F bins of a band in L frames; see :func:`hifitse.metrics.log_spectral_distance`. A wrong level counts.

    Args:
        arms: trained, by name.
        params: decide the mixtures: those of the list "test" with the target present.
        split: "test", or "valid" to choose between weights.
        progress: show a progress bar.
    """
    conditions = [(index, each) for index, each in enumerate(evaluation_conditions(params)["test"]) if not each.absent]
    mixer, seed = list_mixer(params, split), params.eval_seed if split == "test" else valid_seed(params)
    device = pick_device(params.device)
    runs = [(name, run.params.seed, run.extractor().to(device)) for name, arm in arms.items() for run in (arm.run, *arm.others)]
    found: Fidelity = {name: [] for name in arms}
    numbered = ((index, listed_mixture(mixer, seed, index, each)) for index, each in conditions)
    with tqdm(total=len(conditions), desc=f"spectra, {split}", unit="mixture", disable=not progress, dynamic_ncols=True) as bar:
        for batch in batched(numbered, lambda item: (item[1].mix.shape, item[1].enroll.shape)):
            for name, training, extractor in runs:
                ests = estimate(extractor, [mixture for _, mixture in batch], "right", device)  # (B, T)
                for (index, mixture), est in zip(batch, ests, strict=True):
                    if mixture.metadata["present"]:
                        found[name].append({"list": "test", "index": index, "seed": training} | _row(est, mixture))
            bar.update(len(batch))
    return found


def _row(est: torch.Tensor, mixture: Mixture) -> dict[str, Any]:
    target = torch.from_numpy(mixture.target).double()
    before, after = si_sdr(torch.from_numpy(mixture.mix).double(), target).item(), si_sdr(est.double(), target).item()
    distances = {name: log_spectral_distance(est.numpy(), mixture.target, *band) for name, band in BANDS_HZ.items()}
    return {"present": True, "si_sdr_mix_db": before, "si_sdri_db": after - before} | distances
