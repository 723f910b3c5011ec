"""Adversarial fine-tuning of an extractor: discriminators, their optimiser, and detection of a collapse.

The discriminators of 48 kHz speech are HiFi-GAN's multi-period and multi-scale ones, and one of complex spectra at several resolutions.
Each returns the feature maps of all its layers. The last map of each part is its score, high for audio that it judges to be real.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from hifitse import SAMPLE_RATE, HifitseError
from hifitse.files import load_weights
from hifitse.losses import Loss
from hifitse.losses.formulas import Maps, adversarial_loss, discriminator_loss, feature_loss, share_told
from hifitse.metrics import si_sdri
from hifitse.params import Params
from hifitse.training.checkpoint import flatten_optimizers, means, restore_optimizers
from hifitse.training.group import Group

PERIODS, SCALES = (2, 3, 5, 7, 11), 3
WINDOWS = (2048, 1024, 512)  # samples: window lengths of the spectral discriminator's STFTs, each with a hop of a quarter window
EDGES = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)  # edges of the spectral bands as fractions of 24 kHz; each band has its own weights
BETAS = (0.8, 0.99)  # of the discriminators' AdamW, as in HiFi-GAN
LOSS_FLOOR = 0.02  # discriminator loss (0.5 at chance, 0 at best) below which the discriminators have won
FALL_DB = 2.0  # dB: largest tolerated loss of SI-SDRi on the training mixtures
PREFIX = "adversary."


# ---- networks


class _Stack(nn.Module):
    """Convolutions with leaky ReLUs, followed by a convolution that computes the score."""

    def __init__(self, layers: list[nn.Module], score: nn.Module) -> None:
        super().__init__()
        self.layers, self.score = nn.ModuleList(layers), score

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.1)
            maps.append(x)
        return [*maps, self.score(x)]


def _period(c: int) -> _Stack:
    """Build a period discriminator: kernel 5 and stride 3 along the folded time; ``c`` times 1, 4, 16, 32, 32 channels."""
    widths = (1, c, 4 * c, 16 * c, 32 * c)
    layers = [weight_norm(nn.Conv2d(a, b, (5, 1), (3, 1), (2, 0))) for a, b in zip(widths, widths[1:], strict=False)]
    layers.append(weight_norm(nn.Conv2d(32 * c, 32 * c, (5, 1), 1, (2, 0))))
    return _Stack(layers, weight_norm(nn.Conv2d(32 * c, 1, (3, 1), 1, (1, 0))))


def _scale(c: int, first: bool) -> _Stack:
    """Build a scale discriminator: grouped convolutions, most with kernel 41; spectral norm if ``first``, else weight norm."""
    norm = spectral_norm if first else weight_norm
    table = ((1, 4, 15, 1, 1), (4, 4, 41, 2, 4), (4, 8, 41, 2, 16), (8, 16, 41, 4, 16), (16, 32, 41, 4, 16), (32, 32, 41, 1, 16))
    layers = []
    for number, (a, b, kernel, stride, groups) in enumerate((*table, (32, 32, 5, 1, 1))):
        inside, outside = (a * c if number else 1), b * c
        groups = math.gcd(groups, inside, outside)  # those of the paper at the paper's width
        layers.append(norm(nn.Conv1d(inside, outside, kernel, stride, kernel // 2, groups=groups)))
    return _Stack(layers, norm(nn.Conv1d(32 * c, 1, 3, 1, 1)))


class HiFiGAN(nn.Module):
    """Multi-period (2, 3, 5, 7, 11) and multi-scale (1, 1/2, 1/4) discriminators: audio (B, T), T at least 11 -> maps of 8 parts.
    The paper uses ``channels`` 32: Kong et al., "HiFi-GAN", NeurIPS 2020, section 2.3 and appendix A."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.periods = nn.ModuleList(_period(channels) for _ in PERIODS)
        self.scales = nn.ModuleList(_scale(channels, first=number == 0) for number in range(SCALES))

    def forward(self, audio: Tensor) -> Maps:
        maps = []
        for period, stack in zip(PERIODS, self.periods, strict=True):
            padded = F.pad(audio[:, None], (0, -audio.shape[-1] % period), "reflect")
            maps.append(stack(padded.unflatten(-1, (-1, period))))  # (B, 1, T / period, period)
        x = audio[:, None]  # (B, 1, T)
        for number, stack in enumerate(self.scales):
            x = F.avg_pool1d(x, 4, 2, 2) if number else x
            maps.append(stack(x))
        return maps


class _Resolution(nn.Module):
    """One resolution of :class:`Spectral`: five bands with separate weights, then one score over all of them."""

    def __init__(self, n_fft: int, channels: int) -> None:
        super().__init__()
        self.n_fft = n_fft
        self.cuts = [round(edge * (n_fft // 2 + 1)) for edge in EDGES]
        self.bands = nn.ModuleList(self._band(channels) for _ in EDGES[1:])
        self.score = weight_norm(nn.Conv2d(channels, 1, 3, 1, 1))
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    @staticmethod
    def _band(c: int) -> nn.ModuleList:
        halving = [nn.Conv2d(c, c, (3, 9), (1, 2), (1, 4)) for _ in range(3)]
        layers = [nn.Conv2d(2, c, (3, 9), 1, (1, 4)), *halving, nn.Conv2d(c, c, 3, 1, 1)]
        return nn.ModuleList(weight_norm(layer) for layer in layers)

    def forward(self, audio: Tensor) -> list[Tensor]:
        spec = torch.stft(audio, self.n_fft, self.n_fft // 4, window=self.window, pad_mode="constant", return_complex=True)
        x = torch.view_as_real(spec * self.window.square().sum().rsqrt()).permute(0, 3, 2, 1)  # (B, F, L, 2) -> (B, 2, L, F)
        maps, ends = [], []
        for low, high, band in zip(self.cuts, self.cuts[1:], self.bands, strict=False):
            y = x[..., low:high]
            for layer in band:
                y = F.leaky_relu(layer(y), 0.1)
                maps.append(y)
            ends.append(y)
        return [*maps, self.score(torch.cat(ends, -1))]


class Spectral(nn.Module):
    """Discriminators of complex spectra at three resolutions, in five frequency bands each: audio (B, T) -> maps of 3 parts. The paper
    uses ``channels`` 32: Kumar et al., "High-fidelity audio compression with improved RVQGAN", NeurIPS 2023, section 3.4."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.resolutions = nn.ModuleList(_Resolution(n_fft, channels) for n_fft in WINDOWS)

    def forward(self, audio: Tensor) -> Maps:
        return [resolution(audio) for resolution in self.resolutions]


def discriminators(params: Params) -> nn.Module:
    """Build the discriminators that ``gan`` names, ``disc_channels`` wide."""
    return {"hifigan": HiFiGAN, "stft": Spectral}[params.gan](params.disc_channels)


# ---- adversarial training


class Collapse(HifitseError):
    """The adversarial training has collapsed; the run ends with its initial weights."""


def held_steps(params: Params) -> int:
    """Return the number of warm-up steps, in which only the discriminators learn; 0 without discriminators."""
    return round(params.gan_warmup * params.steps) if params.gan != "none" else 0


def ramp(params: Params, step: int) -> float:
    """Return the factor on the weights of the adversarial terms: 0 in the warm-up, then rising linearly to 1 over ``gan_ramp``."""
    length = params.gan_ramp * params.steps
    return min(1.0, max(0.0, (step - held_steps(params) + 1) / length if length else float(step >= held_steps(params))))


def window(audio: Tensor, params: Params, step: int, part: int) -> slice:
    """Draw the part of the segment that the discriminators hear, ``gan_seconds`` long; deterministic in (seed, step, part)."""
    length = min(audio.shape[-1], round(params.gan_seconds * SAMPLE_RATE))
    generator = torch.Generator().manual_seed(hash((params.seed, step, part, length)) & (2**63 - 1))
    start = int(torch.randint(audio.shape[-1] - length + 1, (), generator=generator))
    return slice(start, start + length)


class Adversary:
    """Discriminators on ``device``, trained alongside the extractor; the parameter ``gan`` must not be "none"."""

    def __init__(self, params: Params, device: torch.device) -> None:
        self.params = params
        self.model = discriminators(params).to(device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=params.disc_lr, betas=BETAS)
        self.watch = Watch(params)
        self.parts: list[dict[str, float]] = []  # statistics of each batch since the last update

    def join(self, loss: Loss, sounds: tuple[Tensor, Tensor, Tensor], present: Tensor, step: int, part: int, parts: int) -> Loss:
        """Add the adversarial terms of batch ``part`` of an update's ``parts`` to its loss, and accumulate the discriminators' gradients.
        Items where the target is not ``present`` ((B,) bool) are left out. ``sounds`` are est, target and mix, (B, T) float32 each.
        Raises Collapse: a term is not finite."""
        if not present.any():
            return loss
        est, target, mix = (sound[present] for sound in sounds)
        gain = float(si_sdri(est.detach(), mix, target).nanmean())
        # normalise by the target's level over the whole segment, so that a pause in the window stays quiet
        level = (target.square().mean(-1, keepdim=True) + 1e-10).sqrt()
        heard = window(target, self.params, step, part)
        est, target = (est / level)[:, heard], (target / level)[:, heard]
        fake, real = self.model(est.detach()), self.model(target)
        told = discriminator_loss(fake, real)
        (told / parts).backward()
        terms = {"disc": float(told.detach()), "disc_told": share_told(fake, real)}
        weight, total = ramp(self.params, step), loss.total
        if weight:
            adversarial, feature = self.terms(est, target)
            more = self.params.loss_adversarial * adversarial + self.params.loss_feature * feature
            total = total + weight * present.float().mean() * more
            terms |= {"adversarial": float(adversarial.detach()), "feature": float(feature.detach())}
        if not all(map(math.isfinite, terms.values())):
            raise Collapse(f"the adversarial training collapsed at step {step + 1}: its terms are {terms}, expected finite numbers")
        self.parts.append(terms | ({} if math.isnan(gain) else {"si_sdri": gain}))  # nan: the targets are silent
        return Loss(total, loss.terms | terms)

    def terms(self, est: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the adversarial and feature-matching terms, scalars, of (B, T) audio. Gradients reach ``est`` but no discriminator."""
        self.model.requires_grad_(False)
        with torch.no_grad():
            real = self.model(target)
        fake = self.model(est)
        self.model.requires_grad_(True)
        return adversarial_loss(fake), feature_loss(fake, real)

    def update(self, step: int, group: Group) -> None:
        """Update the discriminators with the gradients that :meth:`join` accumulated, if any.
        Raises Collapse: detected by :class:`Watch`, or the gradient is not finite."""
        parts = sum(group.gather(self.parts), [])
        if not parts:
            return
        group.add_gradients(self.model.parameters())
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.params.clip_norm)
        if not torch.isfinite(norm):
            raise Collapse(f"the adversarial training collapsed at step {step + 1}: the gradient of its discriminators is not finite")
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.parts.clear()
        self.watch.look(means(parts), step)

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors to save in a checkpoint."""
        own = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        own |= flatten_optimizers([self.optimizer]) | {"watch": self.watch.numbers}
        return {PREFIX + name: tensor for name, tensor in own.items()}

    def load(self, tensors: Mapping[str, Tensor], origin: str) -> None:
        """Restore the state from the tensors of a checkpoint. Raises CheckpointError: they belong to other discriminators."""
        own = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items() if name.startswith(PREFIX)}
        load_weights(self.model, own, origin, "model.")
        if any(name.startswith("optimizer.") for name in own):  # absent while no update had a target
            restore_optimizers([self.optimizer], own)
        self.watch.numbers.copy_(own["watch"])


class Watch:
    """Detects a collapse of adversarial training over ``gan_patience`` updates: in each of them the discriminator loss was below
    ``LOSS_FLOOR`` and every judgement was right, or their mean SI-SDRi is more than ``FALL_DB`` below that of the warm-up."""

    def __init__(self, params: Params) -> None:
        self.params = params
        self.numbers = torch.zeros(3 + params.gan_patience, dtype=torch.float64)
        """Consecutive updates that the discriminators won; sum and count of SI-SDRi in the warm-up; ring buffer of the latest SI-SDRi,
        0 where there is none yet."""

    def look(self, seen: Mapping[str, float], step: int) -> None:
        """Record ``disc, disc_told`` and, if known, ``si_sdri`` of an update. Raises Collapse: one of the two conditions is met."""
        patience, several = self.params.gan_patience, self.params.accumulation
        update, held = step // several, -(-held_steps(self.params) // several)
        self.numbers[0] = self.numbers[0] + 1 if seen["disc"] < LOSS_FLOOR and seen["disc_told"] == 1 else 0
        latest = self.numbers[3:]
        if "si_sdri" in seen:
            latest[update % patience] = seen["si_sdri"]
            if update < max(1, held):
                self.numbers[1:3] += torch.tensor([seen["si_sdri"], 1.0], dtype=torch.float64)
        where = f"the adversarial training collapsed at step {step + 1}"
        if self.numbers[0] >= patience and update >= held + patience:
            won = f"the discriminators' loss was below {LOSS_FLOOR:g} and no estimate passed for a target"
            raise Collapse(f"{where}: for {patience} updates {won}")
        before, now = float(self.numbers[1] / self.numbers[2].clamp(min=1)), float(latest[latest != 0].mean())
        if update >= held + patience and now < before - FALL_DB:
            allowed = f"expected at most {FALL_DB:g} dB below the {before:.2f} dB of the warm-up"
            raise Collapse(f"{where}: SI-SDRi of the last {patience} updates is {now:.2f} dB, {allowed}")
