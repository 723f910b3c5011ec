"""What training hides from the network: an enrolment, some of several, parts of the mixture's spectrum.

All are functions of (seed, step, part), where ``part`` counts the batches of an accumulated step, so that a resumed run hides the same.
"""

import torch
from torch import Tensor

from hifitse.data.specaug import masks
from hifitse.params import Params


def _seed(params: Params, step: int, part: int) -> int:
    return hash((params.seed, step, part)) & (2**63 - 1)


def hide_enrollments(enroll: Tensor, params: Params, step: int, part: int) -> Tensor:
    """Silence for a share ``enroll_dropout`` of the enrolments; with ``enrollments_min`` only the first few of all items' recordings.

    Shape:
        (B, N, T') -> (B, N', T') with N' from ``enrollments_min`` to N, all N where that is 0
    """
    generator = torch.Generator().manual_seed(_seed(params, step, part))
    keep = torch.rand(len(enroll), generator=generator) >= params.enroll_dropout
    if params.enrollments_min:
        enroll = enroll[:, : int(torch.randint(params.enrollments_min, enroll.shape[1] + 1, (), generator=generator))]
    return enroll * keep.to(enroll)[:, None, None] if params.enroll_dropout else enroll


def spectrum_mask(mix: Tensor, params: Params, step: int, part: int) -> Tensor | None:
    """SpecAugment on what the network sees of the mixture: (B, T) -> (B, F, L) of ones and zeros, ``None`` without ``specaug``."""
    if not params.specaug:
        return None
    shape = (len(mix), params.n_fft // 2 + 1, mix.shape[-1] // params.hop_length + 2)  # as model.bands.Spectrum pads and frames
    return masks(shape, params.specaug, params.specaug_masks, _seed(params, step, part)).to(mix)
