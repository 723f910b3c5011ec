"""The extractor, which returns the enrolled speaker's voice from a mixture, and wrappers that use several enrolments."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hifitse import HifitseError
from hifitse.config import ExtractorConfig
from hifitse.model import extraction
from hifitse.model.bands import BandMerge, BandSplit, Spectrum
from hifitse.model.gridnet import CROSS_ATTENTION, FiLM, GridBlock, Resolutions, SpeakerPooling, VerifiedVoice
from hifitse.model.pretrained import CODERS, Pretrained
from hifitse.model.verifier import Verifier

if TYPE_CHECKING:
    from hifitse.data.dataset import Shared


class Speaker(NamedTuple):
    """An encoded enrolment, computed once and usable with any number of mixtures."""

    frames: Tensor  # (B, K, S, D) frame features of all enrolments, concatenated
    embedding: Tensor | None  # (B, E) embedding pooled over bands and frames, if the configuration has one
    context: Tensor  # (B, K, S', D) input of cross-attention: ``frames``, or several levels and time scales of them
    voice: Tensor | None = None  # (B, 256) embedding of the verifier, if the configuration has one


class Extractor(nn.Module, Pretrained, coders=CODERS):
    """Band-split TF-GridNet with USEF conditioning that estimates a complex ratio mask at 48 kHz. Default: the plan's 11.79 M baseline.

    Shape: mix (B, T), enroll (B, T') or (B, N, T') -> est (B, T). T and T' are at least one sample.

    A silent mixture gives a silent estimate. Scaling the mixture scales the estimate.

    ``Extractor.from_pretrained()`` loads a trained extractor. :meth:`extract` accepts recordings of any sample rate and length.
    """

    extract = extraction.extract

    def __init__(self, config: ExtractorConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or ExtractorConfig()
        self.checkpointing = False
        D = config.features
        self.spectrum = Spectrum(config.n_fft, config.win_length, config.hop_length)
        self.split = BandSplit(config)
        bands = self.split.n_bands
        self.usef = CROSS_ATTENTION[config.usef](D, config.heads) if config.usef != "none" else None
        self.film = FiLM(D, D)
        size = config.speaker_features if config.speaker_blocks else 0
        self.speaker_blocks = nn.ModuleList(GridBlock(config, bands, i) for i in range(config.speaker_blocks))
        self.pooling = SpeakerPooling(bands, D, size) if size else None
        self.verifier = Verifier() if config.verifier else None
        self.verified = VerifiedVoice(size) if config.verifier else None
        told = [(size, config.reinject) if i >= config.mixture_blocks else () for i in range(config.blocks)]
        self.blocks = nn.ModuleList(GridBlock(config, bands, i, *each) for i, each in enumerate(told))
        self.merge = BandMerge(config)
        several = config.enroll_scales > 1 or config.enroll_levels
        levels = 1 + config.speaker_blocks if config.enroll_levels else 1
        self.resolutions = Resolutions(D, levels, config.enroll_scales) if several else None

    def forward(self, mix: Tensor, enroll: Tensor, seen: Tensor | None = None, shared: "Shared | None" = None) -> Tensor:
        """Extract the enrolled speaker from each mixture.

        The network's input is the mixture's spectrum times ``seen`` (B, F, L); its mask is applied to the unchanged spectrum. ``shared``
        tells which items share a mixture or enrolment, so that each is encoded once, with the same result; ``seen`` is then ignored.
        """
        if shared is None:
            return self.extract_speaker(mix, self.encode(enroll), seen)
        speaker = self.encode(enroll[shared.unique_enroll])
        speaker = Speaker(*(part if part is None else part[shared.enroll_index] for part in speaker))
        return self.extract_speaker(mix[shared.unique_mix], speaker, mix_index=shared.mix_index)

    def encode(self, enroll: Tensor) -> Speaker:
        """Encode the enrolment: (B, T') or (B, N, T') -> :class:`Speaker`."""
        if enroll.dim() not in (2, 3):
            raise HifitseError(f"enroll has shape {tuple(enroll.shape)}, expected (B, T') or (B, N, T')")
        enroll = enroll[:, None] if enroll.dim() == 2 else enroll
        levels = [self._features(enroll.flatten(0, 1))[1]]  # (B*N, K, S, D)
        for block in self.speaker_blocks:
            levels.append(self._run(block, levels[-1]))
        frames = _in_a_row(levels[-1], len(enroll))
        voice = self.verifier(enroll) if self.verifier is not None else None
        if self.resolutions is None:
            return self._speaker(frames, frames, voice)
        seen = levels if self.config.enroll_levels else levels[-1:]
        return self._speaker(frames, _in_a_row(self.resolutions(seen), len(enroll)), voice)  # no average spans two recordings

    def encode_each(self, recordings: Sequence[Tensor]) -> Speaker:
        """Encode recordings (T',) of any lengths as one speaker. For equal lengths the result is that of :meth:`encode` on (1, N, T'),
        except that each recording counts the same for the verifier, whether or not its pieces are alike."""
        encoded = [self.encode(recording[None]) for recording in recordings]
        frames, context = (torch.cat([getattr(each, part) for each in encoded], 2) for part in ("frames", "context"))
        voice = None
        if self.verifier is not None:
            voice = F.normalize(torch.stack([each.voice for each in encoded]).mean(0), dim=-1)
        return self._speaker(frames, context, voice)

    def _speaker(self, frames: Tensor, context: Tensor, voice: Tensor | None = None) -> Speaker:
        embedding = self.pooling(frames) if self.pooling is not None else None
        if self.verified is not None:
            embedding = self.verified(embedding, voice)
        return Speaker(frames, embedding, context, voice)

    def extract_speaker(
        self, mix: Tensor, speaker: Speaker, seen: Tensor | None = None, mix_index: Tensor | None = None, channels: Tensor | None = None
    ) -> Tensor:
        """Extract an encoded speaker: mix (B, T) -> est (B, T); ``seen`` as in :meth:`forward`.

        ``mix_index`` (B,) gives the mixture of each of the B speakers; ``mix`` then has shape (M, T).
        With ``channels`` (C, T) and a single mixture, the mask is applied to each channel: -> est (C, T).

        In evaluation mode the estimate is the mean over ``config.shifts`` time offsets of the frames, so that part of the errors
        cancels (the "shift trick" of Demucs, Défossez et al. 2019, section 4.5).
        """
        total, shifts = self._extract(mix, speaker, seen, mix_index, channels), 1 if self.training else self.config.shifts
        for samples in (number * self.config.hop_length // shifts for number in range(1, shifts)):
            later = [x if x is None else F.pad(x, (samples, 0)) for x in (mix, channels)]
            total = total + self._extract(later[0], speaker, seen, mix_index, later[1])[:, samples:]
        return total if shifts == 1 else total / shifts

    def _extract(
        self, mix: Tensor, speaker: Speaker, seen: Tensor | None, mix_index: Tensor | None, channels: Tensor | None
    ) -> Tensor:
        """Return one estimate, with the first frame at the mixture's first sample."""
        if mix.dim() != 2 or len(mix if mix_index is None else mix_index) != speaker.frames.shape[0]:
            items = speaker.frames.shape[0]
            raise HifitseError(f"mix has shape {tuple(mix.shape)}, expected (B, T) with B = {items} as in the enrolment")
        spec, z = self._features(mix, seen)  # (B, F, L), (B, K, L, D)
        for block in self.blocks[: self.config.mixture_blocks]:
            z = self._run(block, z)
        if mix_index is not None:
            z = z[mix_index]
        if self.usef is not None:
            z = self.usef(z, speaker.context)
        z = self.film(z, speaker.frames.mean(2, keepdim=True))
        for block in self.blocks[self.config.mixture_blocks :]:
            z = self._run(block, z, speaker.context, speaker.embedding)
        mask = torch.view_as_complex(self.merge(z).to(spec.real.dtype))
        if channels is not None:
            spec, mask = self.spectrum(channels), mask.expand(len(channels), -1, -1)
        return self.spectrum.inverse(spec, mix.shape[-1], mask, mix_index)

    def _run(self, block: nn.Module, *inputs: Tensor | None) -> Tensor:
        if self.checkpointing and self.training and torch.is_grad_enabled():
            return checkpoint(block, *inputs, use_reentrant=False)
        return block(*inputs)

    def _features(self, audio: Tensor, seen: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the spectrum (B, F, L) of (B, T), and its features (B, K, L, D), computed at an RMS level of 1 unless silent."""
        spec = self.spectrum(audio)
        scale = (audio.square().mean(-1) + 1e-10).rsqrt()
        return spec, self.split(spec if seen is None else spec * seen, scale)


def _in_a_row(frames: Tensor, items: int) -> Tensor:
    """Concatenate the recordings of each item along time: (B*N, K, S, D) -> (B, K, N*S, D)."""
    return frames.unflatten(0, (items, -1)).transpose(1, 2).flatten(2, 3)


class AveragedEstimates(nn.Module):
    """Extract with each enrolment separately and average the estimates: mix (B, T), enroll (B, N, T') -> est (B, T)."""

    def __init__(self, extractor: Extractor) -> None:
        super().__init__()
        self.extractor = extractor

    def forward(self, mix: Tensor, enroll: Tensor) -> Tensor:
        ests = [self.extractor(mix, enroll[:, number]) for number in range(enroll.shape[1])]
        return sum(ests[1:], ests[0]) / len(ests)


class SecondPass(AveragedEstimates):
    """Extract twice, with the first estimate, at the first enrolment's length and level, as one more enrolment. Shapes as above."""

    def forward(self, mix: Tensor, enroll: Tensor) -> Tensor:
        first, samples = self.extractor(mix, enroll), enroll.shape[-1]
        heard = first.repeat(1, -(-samples // first.shape[-1]))[:, :samples]
        level = enroll[:, 0].square().mean(-1, keepdim=True) / heard.square().mean(-1, keepdim=True).clamp_min(1e-12)
        return self.extractor(mix, torch.cat([enroll, (heard * level.sqrt())[:, None]], 1))
