"""What training hides from the network: an enrolment, some of several, parts of the mixture's spectrum, the top of the band.

All are functions of (seed, step, part), where ``part`` counts the batches of the update that begins at ``step``: a resumed run hides
the same.
"""

import torch
from torch import Tensor

from hifitse import SAMPLE_RATE
from hifitse.data.augment import RATES, ROLL_OFF, band_edge, specaug_mask
from hifitse.data.dataset import Shared
from hifitse.params import Params


def _seed(params: Params, step: int, part: int) -> int:
    return hash((params.seed, step, part)) & (2**63 - 1)


def hide_enrollments(enroll: Tensor, params: Params, step: int, part: int) -> Tensor:
    """Silence for a share ``enroll_dropout`` of the enrolments; with ``enrollments_min`` fewer of them, with ``enroll_seconds_min`` shorter
    ones, alike for all items: (B, N, T') -> (B, N', T'')."""
    generator = torch.Generator().manual_seed(_seed(params, step, part))
    keep = torch.rand(len(enroll), generator=generator) >= params.enroll_dropout
    if params.enrollments_min:
        enroll = enroll[:, : int(torch.randint(params.enrollments_min, enroll.shape[1] + 1, (), generator=generator))]
    if params.enroll_seconds_min:
        shortest = min(round(params.enroll_seconds_min * SAMPLE_RATE), enroll.shape[-1])
        share = torch.randint(0, 9, (), generator=generator).item() / 8  # few different lengths, for which kernels are prepared once
        enroll = enroll[..., : shortest + round(share * (enroll.shape[-1] - shortest))]
    return enroll * keep.to(enroll)[:, None, None] if params.enroll_dropout else enroll


def spectrum_mask(mix: Tensor, params: Params, step: int, part: int) -> Tensor | None:
    """SpecAugment on what the network sees of the mixture: (B, T) -> (B, F, L) of ones and zeros, ``None`` without ``specaug``."""
    if not params.specaug:
        return None
    shape = (len(mix), params.n_fft // 2 + 1, mix.shape[-1] // params.hop_length + 2)  # as model.bands.Spectrum pads and frames
    return specaug_mask(shape, params.specaug, params.specaug_masks, _seed(params, step, part)).to(mix)


def hide_bands(
    sounds: tuple[Tensor, Tensor, Tensor], shared: Shared | None, params: Params, step: int, part: int
) -> tuple[Tensor, Tensor, Tensor]:
    """A share ``band_limit_prob`` of the mixtures with their targets, and of the enrolments, as if recorded at one of ``elsewhere.RATES``.
    Both are drawn by themselves, items that share either alike. Shape: mix (B, T), target (B, T), enroll (B, N, T') -> the same"""
    mix, target, enroll = sounds
    if not params.band_limit_prob:
        return sounds
    generator = torch.Generator().manual_seed(_seed(params, step, part) ^ 1)  # not the numbers that decide which enrolments are hidden
    of_mix, of_enroll = (_edges(len(mix), params.band_limit_prob, generator) for _ in range(2))
    if shared is not None:
        of_mix, of_enroll = of_mix[shared.unique_mix][shared.mix_index], of_enroll[shared.unique_enroll][shared.enroll_index]
    return low_pass(mix, of_mix), low_pass(target, of_mix), low_pass(enroll, of_enroll)


def _edges(items: int, prob: float, generator: torch.Generator) -> Tensor:
    """Hz at which each item's band ends, (items,); infinite where it does not."""
    limited, rate, roll_off = torch.rand(3, items, generator=generator)
    low, high = ROLL_OFF
    edges = torch.tensor(RATES)[(rate * len(RATES)).long()] / 2 * (low + (high - low) * roll_off)
    return torch.where(limited < prob, edges, torch.inf)


def low_pass(audio: Tensor, edges_hz: Tensor) -> Tensor:
    """Each item without what lies above its edge, (B, ..., T), (B,) -> (B, ..., T); in phase, items with an infinite edge untouched."""
    audio = audio.clone()
    for item, edge in zip(audio, edges_hz.tolist(), strict=True):
        if edge < SAMPLE_RATE / 2:
            spec = torch.fft.rfft(item)
            hertz = torch.linspace(0, SAMPLE_RATE / 2, spec.shape[-1], device=audio.device)
            spec *= band_edge(hertz, edge)
            item.copy_(torch.fft.irfft(spec, audio.shape[-1]))
    return audio
