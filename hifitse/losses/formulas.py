"""The formula of every term: sounds against sounds, voices against voices, and what discriminators take for a target."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import cross_entropy, normalize

from hifitse import HifitseError
from hifitse.metrics import SI_SDR_LIMIT_DB, SILENCE_MEAN_SQUARE, si_sdr

ABSENT_FLOOR_DBFS = -30.0  # level below which :func:`absent_floor` asks for nothing more
N_FFT, HOP, POWER = 2048, 480, 0.3
RESOLUTIONS = (512, 1024, 2048)  # samples: 10.7, 21.3 and 42.7 ms at 48 kHz; frames overlap by half
FLOOR = 1e-4  # added to squared magnitudes of sounds at a level of 1: it keeps the slope of the root finite where a bin is empty
Maps = list[list[Tensor]]
"""Of each part of a discriminator the feature maps by layer, the last of them the score; each has a batch axis in front."""

# ---- sounds


class _Sums(torch.autograd.Function):
    """Energies of estimate and target, their inner product, and the energy of the estimate without its projection on the target, of which
    SI-SDR and SNR are functions: (B, T), (B, T) float32 -> (B,) each. Gradients flow to the estimate alone.

    By themselves, with their gradients, the two went through the signals two dozen times, and kept more of them in memory. In float32
    the gradient of the residual is right to 0.1 % up to an SI-SDR of 60 dB, which is more than any extraction reaches.
    """

    @staticmethod
    def forward(ctx: Any, est: Tensor, target: Tensor) -> tuple[Tensor, ...]:
        target_energy, product = torch.linalg.vecdot(target, target), torch.linalg.vecdot(est, target)
        scale = product / target_energy.clamp_min(SILENCE_MEAN_SQUARE * est.shape[-1])
        rest = torch.addcmul(est, target, scale[:, None], value=-1)  # not E - A^2 / T, which loses all digits where the two are alike
        ctx.save_for_backward(est, target, scale)
        ctx.mark_non_differentiable(target_energy)
        return torch.linalg.vecdot(est, est), target_energy, product, torch.linalg.vecdot(rest, rest)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_est: Tensor, _: Tensor, to_product: Tensor, to_residual: Tensor) -> tuple[Tensor, None]:
        est, target, scale = ctx.saved_tensors
        # the residual is least at this scale, so that it has no gradient by way of it
        gradient = target * (to_product - 2 * scale * to_residual)[:, None]
        return gradient.addcmul_(est, 2 * (to_est + to_residual)[:, None]), None


def waveform_terms(est: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Negative SI-SDR, that of :func:`hifitse.metrics.si_sdr`, and negative SNR, above -60 dB, which holds the level too.

    Shape: est (B, T), target (B, T) -> (B,), (B,), in dB; of a silent target the first is nan
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
    """Level of the output relative to the mixture in dB, (B, T), (B, T) -> (B,), above -60: quiet mixtures ask for as much."""
    energy = mix.square().mean(-1) + 1e-10
    return 10 * torch.log10(est.square().mean(-1) / energy + 1e-6)


def absent_floor(est: Tensor) -> Tensor:
    """Level of the output in dBFS, never below -30: (B, T) -> (B,): the published baseline's term, as far as it is known.
    Below -30 dBFS it has no gradient, so that a quiet mixture may come out as it went in: :func:`absent_level` mends that."""
    return (10 * torch.log10(est.square().mean(-1) + 1e-10)).clamp(min=ABSENT_FLOOR_DBFS)


def audible(target: Tensor) -> Tensor:
    """Which targets are not silent, so that their SI-SDR is defined: (B, T) -> (B,) bool."""
    return target.square().sum(-1) > SILENCE_MEAN_SQUARE * target.shape[-1]


def _spectrum(audio: Tensor, level: Tensor, n_fft: int, hop: int) -> tuple[Tensor, Tensor]:
    """Spectrum of ``audio / level`` and its magnitude: (B, T), (B, 1) -> (B, F, L) each."""
    window = torch.hann_window(n_fft, dtype=audio.dtype, device=audio.device)
    spec = torch.stft(audio / level, n_fft, hop, window=window, pad_mode="constant", return_complex=True)
    return spec, (spec.real.square() + spec.imag.square() + FLOOR).sqrt()


def _level(audio: Tensor) -> Tensor:
    return (audio.square().mean(-1, keepdim=True) + 1e-10).sqrt()


def spectral_distances(est: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Phase-sensitive and amplitude distance of spectra compressed by 0.3 (Ephrat et al. 2018), relative to the target's level.

    Args:
        est, target: (B, T), 48 kHz; the target is not silent.

    Returns:
        ``(phase, amplitude)``, (B,) each: mean |E^c - T^c| of the complex and of the magnitude spectra.
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
    """Negative SI-SDR in dB between magnitude spectrograms, each as one vector, mean over :data:`RESOLUTIONS`. Lower is better.

    Magnitudes, because the SI-SDR of complex coefficients is by Parseval's theorem nearly that of the waveform. They do not see
    the phase: the term is no substitute for one that does. Two unrelated sounds have some -3 dB instead of -30.

    Shape: est (B, T), target (B, T), 48 kHz, not silent -> (B,), at least -100
    """

    def magnitudes(audio: Tensor, n_fft: int) -> Tensor:
        return _spectrum(audio, _level(audio.detach()), n_fft, n_fft // 2)[1].flatten(1)

    return torch.stack([-si_sdr(magnitudes(est, n_fft), magnitudes(target, n_fft)) for n_fft in RESOLUTIONS]).mean(0)


# ---- voices


def voices(metadata: Mapping[str, Any]) -> tuple[str, str | None]:
    """Speaker of ``enroll`` and of ``wrong_enroll``, ``None`` without interferer. A swapped mixture has the metadata of the one drawn."""
    target, first = metadata["target_speaker"], next(iter(metadata["interferer_speakers"]), None)
    return (first, target) if metadata.get("swapped") else (target, first)


def voice(metadata: Mapping[str, Any]) -> tuple[str, float]:
    """Who is asked for, and the speed factor of their speech: another factor is another voice."""
    if metadata.get("swapped"):
        return metadata["interferer_speakers"][0], metadata["interferer_speeds"][0]
    return metadata["target_speaker"], metadata["target_speed"]


def speaker_contrast(embed: Callable[[Tensor], Tensor], est: Tensor, batch: Mapping[str, Any], temperature: float) -> Tensor:
    """InfoNCE (van den Oord et al. 2018, eq. 4): ``-log(exp(c_ii / t) / sum_j exp(c_ij / t))``, cosines of estimates and recordings.

    Recordings are the batch's enrolments and one of each interferer who is not asked for elsewhere in it. One of the item's own
    speaker is never a negative, even at another speed. An item without any negative has 0.

    Args:
        embed: (M, T) or (M, N, T') -> (M, E); the gradient reaches the estimate and whatever embeds.
        est: (B, T); silent ones have a value too: leave items without their target out.
        batch: as :data:`hifitse.data.dataset.Batch`, with ``enroll``, ``wrong_enroll`` and ``metadata``.
        temperature: above 0; lower ones ask for a wider margin.

    Returns (B,), 0 or more. Raises HifitseError: there are interferers and no recordings of them.
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
    same[own, own] = False  # the item's own enrolment is what is to be found
    return cross_entropy((queries @ keys.T / temperature).masked_fill(same, -torch.inf), own, reduction="none")


def identity_contrast(enrolled: Tensor, spoken: Tensor, voices: Sequence[Hashable], present: Tensor, temperature: float) -> Tensor:
    """NT-Xent (Chen et al. 2020, SimCLR, eq. 1): enrolment and clean target of an item are two views of one voice, all recordings of
    other voices negatives. No estimate is needed: the term teaches the embedding, not what is done with it.

    Args:
        enrolled, spoken: (B, E) embeddings of each item's enrolment and of its clean target.
        voices: of each item, equal where the voice is.
        present: (B,) bool, whether the target is there; absent ones are no negatives.
        temperature: above 0.

    Returns (B,), mean over the two views, 0 without any other voice; meaningless where the target is absent.
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


# ---- discriminators: means over their parts, where HiFi-GAN has sums


def discriminator_loss(fake: Maps, real: Maps) -> Tensor:
    r"""What the discriminators minimise: :math:`E[(D(s) - 1)^2] + E[D(\hat s)^2]`. Scalar, 0.5 at chance.
    Source: Mao et al., "Least squares generative adversarial networks", ICCV 2017, equation 9."""
    each = [real_maps[-1].sub(1).square().mean() + fake_maps[-1].square().mean() for fake_maps, real_maps in zip(fake, real, strict=True)]
    return torch.stack(each).mean()


def adversarial_loss(fake: Maps) -> Tensor:
    r"""What the extractor minimises: :math:`E[(D(\hat s) - 1)^2]`. Scalar, 0 or more. Source as above."""
    return torch.stack([maps[-1].sub(1).square().mean() for maps in fake]).mean()


def feature_loss(fake: Maps, real: Maps) -> Tensor:
    """Mean absolute difference of the feature maps, scores left out; the mean over layers, then over parts. Scalar, 0 or more.
    Source: Larsen et al., "Autoencoding beyond pixels using a learned similarity metric", ICML 2016, as in HiFi-GAN, equation 4."""
    parts = []
    for fake_maps, real_maps in zip(fake, real, strict=True):
        layers = zip(fake_maps[:-1], real_maps[:-1], strict=True)
        parts.append(torch.stack([(mine - other.detach()).abs().mean() for mine, other in layers]).mean())
    return torch.stack(parts).mean()


def share_told(fake: Maps, real: Maps) -> float:
    """Share of judgements that are right: a part's mean score of one sound is above 0.5 for a target, below for an estimate."""
    right = [maps[-1].detach().flatten(1).mean(1) < 0.5 for maps in fake] + [maps[-1].detach().flatten(1).mean(1) > 0.5 for maps in real]
    return float(torch.cat(right).float().mean())
