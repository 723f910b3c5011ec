"""Formulas of the loss terms: signal distances, voice contrasts, and adversarial losses."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import cross_entropy, normalize

from hifitse import HifitseError
from hifitse.metrics import SI_SDR_LIMIT_DB, SILENCE_MEAN_SQUARE, si_sdr

ABSENT_FLOOR_DBFS = -30.0  # level below which :func:`absent_floor` is constant
N_FFT, HOP, POWER = 2048, 480, 0.3
RESOLUTIONS = (512, 1024, 2048)  # samples: 10.7, 21.3 and 42.7 ms at 48 kHz; frames overlap by half
FLOOR = 1e-4  # added to squared magnitudes of signals at level 1, so that the gradient of the root stays finite in empty bins
Maps = list[list[Tensor]]
"""Feature maps of each part of a discriminator by layer, the score last; the first axis is the batch."""

# ---- signals


class _Sums(torch.autograd.Function):
    """Compute the sums that SI-SDR and SNR depend on: energies of estimate and target, their inner product, and the energy of the estimate
    minus its projection on the target: (B, T), (B, T) float32 -> (B,) each. Gradients flow to the estimate only.

    Computed separately, the two losses read the signals two dozen times and keep more copies in memory. In float32 the gradient of
    the residual is accurate to 0.1 % up to an SI-SDR of 60 dB, which no extraction reaches.
    """

    @staticmethod
    def forward(ctx: Any, est: Tensor, target: Tensor) -> tuple[Tensor, ...]:
        target_energy, product = torch.linalg.vecdot(target, target), torch.linalg.vecdot(est, target)
        scale = product / target_energy.clamp_min(SILENCE_MEAN_SQUARE * est.shape[-1])
        rest = torch.addcmul(est, target, scale[:, None], value=-1)  # E - A^2 / T would lose all digits where the two are nearly equal
        ctx.save_for_backward(est, target, scale)
        ctx.mark_non_differentiable(target_energy)
        return torch.linalg.vecdot(est, est), target_energy, product, torch.linalg.vecdot(rest, rest)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_est: Tensor, _: Tensor, to_product: Tensor, to_residual: Tensor) -> tuple[Tensor, None]:
        est, target, scale = ctx.saved_tensors
        # this scale minimises the residual, so no gradient flows through the scale
        gradient = target * (to_product - 2 * scale * to_residual)[:, None]
        return gradient.addcmul_(est, 2 * (to_est + to_residual)[:, None]), None


def waveform_terms(est: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the negative SI-SDR of :func:`hifitse.metrics.si_sdr`, and the negative SNR, above -60 dB, which also fixes the level.

    Shape: est (B, T), target (B, T) -> (B,), (B,), in dB; the first is nan for a silent target
    """
    est_energy, target_energy, product, residual = _Sums.apply(est, target)
    samples, silence = est.shape[-1], SILENCE_MEAN_SQUARE * est.shape[-1]
    present = target_energy.clamp_min(silence)
    floor = 10 ** (-SI_SDR_LIMIT_DB / 10) * est_energy.clamp_min(silence)
    distortion = residual + floor + (silence - est_energy).clamp_min(0)
    si_sdr_db = 10 * torch.log10((product.square() / present + floor) / distortion)
    along = torch.where(target_energy > 0, (product - target_energy).square() / present, 0.0)  # the error along the target
    snr = 10 * torch.log10((residual + along) / samples / (target_energy / samples + 1e-10) + 1e-6)
    return torch.where(target_energy <= silence, torch.nan, -si_sdr_db), snr


def absent_level(est: Tensor, mix: Tensor) -> Tensor:
    """Return the output level relative to the mixture in dB, above -60, however quiet the mixture: (B, T), (B, T) -> (B,)."""
    energy = mix.square().mean(-1) + 1e-10
    return 10 * torch.log10(est.square().mean(-1) / energy + 1e-6)


def absent_floor(est: Tensor) -> Tensor:
    """Return the output level in dBFS, at least -30: (B, T) -> (B,). As far as known, this is the published baseline's term.
    It has no gradient below -30 dBFS, so quiet mixtures may pass unchanged. :func:`absent_level` fixes that."""
    return (10 * torch.log10(est.square().mean(-1) + 1e-10)).clamp(min=ABSENT_FLOOR_DBFS)


def audible(target: Tensor) -> Tensor:
    """Return which targets are not silent, so that their SI-SDR is defined: (B, T) -> (B,) bool."""
    return target.square().sum(-1) > SILENCE_MEAN_SQUARE * target.shape[-1]


def _spectrum(audio: Tensor, level: Tensor, n_fft: int, hop: int) -> tuple[Tensor, Tensor]:
    """Return the spectrum of ``audio / level`` and its magnitude: (B, T), (B, 1) -> (B, F, L) each."""
    window = torch.hann_window(n_fft, dtype=audio.dtype, device=audio.device)
    spec = torch.stft(audio / level, n_fft, hop, window=window, pad_mode="constant", return_complex=True)
    return spec, (spec.real.square() + spec.imag.square() + FLOOR).sqrt()


def _level(audio: Tensor) -> Tensor:
    return (audio.square().mean(-1, keepdim=True) + 1e-10).sqrt()


def spectral_distances(est: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the phase-sensitive and amplitude distances of power-compressed spectra (Ephrat et al. 2018), relative to the target's level.

    Args:
        est, target: (B, T), 48 kHz; the target is not silent.

    Returns:
        ``(phase, amplitude)``, (B,) each: mean |E^0.3 - T^0.3| of the complex and of the magnitude spectra.
    """
    level, compressed = _level(target), []
    for audio in (est, target):
        spec, magnitude = _spectrum(audio, level, N_FFT, HOP)
        small = magnitude.pow(POWER)
        compressed.append((small, spec * (small / magnitude)))
    (est_magnitude, est_spec), (target_magnitude, target_spec) = compressed
    difference = est_spec - target_spec
    phase = (difference.real.square() + difference.imag.square() + 1e-8).sqrt().mean((1, 2))
    return phase, (est_magnitude - target_magnitude).abs().mean((1, 2))


def negative_multires_si_sdr(est: Tensor, target: Tensor) -> Tensor:
    """Return the negative SI-SDR in dB between flattened magnitude spectrograms, averaged over :data:`RESOLUTIONS`. Lower is better.

    It uses magnitudes because, by Parseval's theorem, the SI-SDR of complex spectra is nearly that of the waveform. Magnitudes ignore
    phase, so this term cannot replace one that does not. Two unrelated voices have an SI-SDR of about -12 dB here instead
    of -30, two white noises one of +2 dB.

    Shape: est (B, T), target (B, T), 48 kHz, not silent -> (B,), at least -100
    """

    def magnitudes(audio: Tensor, n_fft: int) -> Tensor:
        return _spectrum(audio, _level(audio.detach()), n_fft, n_fft // 2)[1].flatten(1)

    return torch.stack([-si_sdr(magnitudes(est, n_fft), magnitudes(target, n_fft)) for n_fft in RESOLUTIONS]).mean(0)


# ---- voices


def voices(metadata: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return the speakers of ``enroll`` and ``wrong_enroll`` (``None`` without interferer). Swapped mixtures keep the original metadata."""
    target, first = metadata["target_speaker"], next(iter(metadata["interferer_speakers"]), None)
    return (first, target) if metadata.get("swapped") else (target, first)


def voice(metadata: Mapping[str, Any]) -> tuple[str, float]:
    """Return the enrolled speaker and the speed factor of their speech. Another factor counts as another voice."""
    if metadata.get("swapped"):
        return metadata["interferer_speakers"][0], metadata["interferer_speeds"][0]
    return metadata["target_speaker"], metadata["target_speed"]


def speaker_contrast(embed: Callable[[Tensor], Tensor], est: Tensor, batch: Mapping[str, Any], temperature: float) -> Tensor:
    """InfoNCE (van den Oord et al. 2018, eq. 4): ``-log(exp(c_ii / t) / sum_j exp(c_ij / t))``, c: cosines of estimates and recordings.

    The recordings are the batch's enrolments, plus one of each interferer who is no item's enrolled speaker. Recordings of an
    item's own speaker are never negatives, even at another speed. Items without negatives have the value 0.

    Args:
        embed: (M, T) or (M, N, T') -> (M, E). Gradients flow to the estimate and to the embedding network.
        est: (B, T). Silent estimates have a value too: exclude items whose target is absent.
        batch: as :data:`hifitse.data.dataset.Batch`, with ``enroll``, ``wrong_enroll`` and ``metadata``.
        temperature: above 0. Lower values demand a wider margin.

    Returns (B,), 0 or more. Raises HifitseError: the batch has interferers but no recordings of them.
    """
    asked, others = zip(*map(voices, batch["metadata"]), strict=True)
    first_place = {name: place for place, name in reversed(list(enumerate(others))) if name is not None and name not in asked}
    recordings, names = batch["enroll"].to(est.device), list(asked)
    if first_place:
        if "wrong_enroll" not in batch:
            raise HifitseError("the batch has interferers and no wrong_enroll, expected a batch with both: see training_loader")
        chosen = batch["wrong_enroll"][list(first_place.values())].to(est.device)
        recordings, names = torch.cat([recordings, chosen]), [*asked, *first_place]
    queries, keys = normalize(embed(est).float(), dim=-1), normalize(embed(recordings).float(), dim=-1)  # (B, E), (M, E)
    same = torch.tensor([[name == mine for name in names] for mine in asked], device=est.device)  # (B, M)
    own = torch.arange(len(est), device=est.device)
    same[own, own] = False  # the item's own enrolment is the positive
    return cross_entropy((queries @ keys.T / temperature).masked_fill(same, -torch.inf), own, reduction="none")


def identity_contrast(enrolled: Tensor, spoken: Tensor, voices: Sequence[Hashable], present: Tensor, temperature: float) -> Tensor:
    """NT-Xent (Chen et al. 2020, SimCLR, eq. 1): an item's enrolment and clean target are two views of one voice; all recordings of
    other voices are negatives. It needs no estimate: it trains the embedding, not the use of it.

    Args:
        enrolled, spoken: (B, E) embeddings of each item's enrolment and clean target.
        voices: an identifier per item; equal identifiers mean the same voice.
        present: (B,) bool, whether the target is present. Absent targets are not negatives.
        temperature: above 0.

    Returns (B,), averaged over the two views: 0 without other voices, meaningless where the target is absent.
    """
    B = len(enrolled)
    x = normalize(torch.cat([enrolled, spoken]).float(), dim=-1)  # (2 B, E)
    other = torch.tensor([[mine != theirs for theirs in voices] for mine in voices], device=x.device).repeat(2, 2)  # (2 B, 2 B)
    other &= torch.cat([torch.ones_like(present), present])
    places = torch.arange(2 * B, device=x.device)
    pair = (places + B) % (2 * B)
    other[places, pair] = True
    values = cross_entropy((x @ x.T / temperature).masked_fill(~other, -torch.inf), pair, reduction="none")
    return values.view(2, B).mean(0)


# ---- discriminators: averaged over their parts, where HiFi-GAN sums


def discriminator_loss(fake: Maps, real: Maps) -> Tensor:
    r"""Discriminator loss :math:`E[(D(s) - 1)^2] + E[D(\hat s)^2]`. Scalar, 0.5 at chance.
    Source: Mao et al., "Least squares generative adversarial networks", ICCV 2017, equation 9."""
    each = [real_maps[-1].sub(1).square().mean() + fake_maps[-1].square().mean() for fake_maps, real_maps in zip(fake, real, strict=True)]
    return torch.stack(each).mean()


def adversarial_loss(fake: Maps) -> Tensor:
    r"""Adversarial loss of the extractor, :math:`E[(D(\hat s) - 1)^2]`. Scalar, 0 or more. Source as above."""
    return torch.stack([maps[-1].sub(1).square().mean() for maps in fake]).mean()


def feature_loss(fake: Maps, real: Maps) -> Tensor:
    """Mean absolute difference of the feature maps, without scores, averaged over layers, then over parts. Scalar, 0 or more.
    Source: Larsen et al., "Autoencoding beyond pixels using a learned similarity metric", ICML 2016, as in HiFi-GAN, equation 4."""
    parts = []
    for fake_maps, real_maps in zip(fake, real, strict=True):
        layers = zip(fake_maps[:-1], real_maps[:-1], strict=True)
        parts.append(torch.stack([(mine - other.detach()).abs().mean() for mine, other in layers]).mean())
    return torch.stack(parts).mean()


def share_told(fake: Maps, real: Maps) -> float:
    """Return the share of correct judgements: a part's mean score of a sound is above 0.5 for targets, below for estimates."""
    right = [maps[-1].detach().flatten(1).mean(1) < 0.5 for maps in fake] + [maps[-1].detach().flatten(1).mean(1) > 0.5 for maps in real]
    return float(torch.cat(right).float().mean())
