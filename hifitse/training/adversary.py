"""The adversary of an extractor that is fine-tuned: discriminators, their optimiser, and a watch that says when the game is lost."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from hifitse import SAMPLE_RATE, HifitseError
from hifitse.files import load_weights
from hifitse.losses import Loss
from hifitse.losses.formulas import adversarial_loss, discriminator_loss, feature_loss, share_told
from hifitse.metrics import si_sdri
from hifitse.model.discriminators import discriminators
from hifitse.params import Params
from hifitse.training.checkpoint import flatten_optimizers, restore_optimizers
from hifitse.training.group import Group

BETAS = (0.8, 0.99)  # decays of the discriminators' AdamW, as in HiFi-GAN
LOSS_FLOOR = 0.02  # loss of the discriminators, 0.5 at chance and 0 at best, below which they have won
FALL_DB = 2.0  # dB of SI-SDRi by which the extractor may get worse on its training mixtures
PREFIX = "adversary."


class Collapse(HifitseError):
    """The adversarial training has collapsed; the run ends with the weights that it started from."""


def held_steps(params: Params) -> int:
    """First steps in which only the discriminators learn; 0 without discriminators."""
    return round(params.gan_warmup * params.steps) if params.gan != "none" else 0


def ramp(params: Params, step: int) -> float:
    """Share of their weight that the adversarial terms have: 0 in the warm-up ``gan_warmup``, then a straight line to 1, ``gan_ramp``."""
    length = params.gan_ramp * params.steps
    return min(1.0, max(0.0, (step - held_steps(params) + 1) / length if length else float(step >= held_steps(params))))


def window(audio: Tensor, params: Params, step: int, part: int) -> slice:
    """Where the discriminators listen: ``gan_seconds`` of the segment, a function of (seed, step, part)."""
    length = min(audio.shape[-1], round(params.gan_seconds * SAMPLE_RATE))
    generator = torch.Generator().manual_seed(hash((params.seed, step, part, length)) & (2**63 - 1))
    start = int(torch.randint(audio.shape[-1] - length + 1, (), generator=generator))
    return slice(start, start + length)


class Adversary:
    """Discriminators on ``device`` that learn beside the extractor; the parameter ``gan`` is not "none"."""

    def __init__(self, params: Params, device: torch.device) -> None:
        self.params = params
        self.model = discriminators(params).to(device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=params.disc_lr, betas=BETAS)
        self.watch = Watch(params)
        self.parts: list[dict[str, float]] = []  # what was seen of each batch since the last step

    def join(self, loss: Loss, sounds: tuple[Tensor, Tensor, Tensor], present: Tensor, step: int, part: int) -> Loss:
        """Add the adversarial terms of batch ``part`` of a step to its loss, and the batch's gradient to the discriminators'; items
        without the target, ``present`` (B,) bool, are left out. Sounds are est, target and mix, (B, T) float32 each.
        Raises Collapse: a term is not finite."""
        if not present.any():
            return loss
        est, target, mix = (sound[present] for sound in sounds)
        gain = float(si_sdri(est.detach(), mix, target).nanmean())
        # relative to the target's level over the whole segment, so that a pause in the window stays quiet
        level = (target.square().mean(-1, keepdim=True) + 1e-10).sqrt()
        heard = window(target, self.params, step, part)
        est, target = (est / level)[:, heard], (target / level)[:, heard]
        fake, real = self.model(est.detach()), self.model(target)
        told = discriminator_loss(fake, real)
        (told / self.params.accumulation).backward()
        terms = {"disc": float(told.detach()), "disc_told": share_told(fake, real)}
        weight, total = ramp(self.params, step), loss.total
        if weight:
            adversarial, feature = self.terms(est, target)
            more = self.params.loss_adversarial * adversarial + self.params.loss_feature * feature
            total = total + weight * present.float().mean() * more
            terms |= {"adversarial": float(adversarial.detach()), "feature": float(feature.detach())}
        if not all(map(math.isfinite, terms.values())):
            raise Collapse(f"the adversarial training collapsed at step {step + 1}: its terms are {terms}, expected finite numbers")
        self.parts.append(terms | {"si_sdri": gain})
        return Loss(total, loss.terms | terms)

    def terms(self, est: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Adversarial and feature-matching term of sounds (B, T), scalars; their gradient reaches ``est`` and no discriminator."""
        self.model.requires_grad_(False)
        with torch.no_grad():
            real = self.model(target)
        fake = self.model(est)
        self.model.requires_grad_(True)
        return adversarial_loss(fake), feature_loss(fake, real)

    def update(self, step: int, group: Group | None = None) -> None:
        """One step of the discriminators from the gradients that :meth:`join` left, where it left any.
        Raises Collapse: as :class:`Watch`, or the gradient is not finite."""
        group = group or Group()
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
        self.watch.look({name: sum(part[name] for part in parts) / len(parts) for name in ("disc", "disc_told", "si_sdri")}, step)

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint holds of it."""
        own = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        own |= flatten_optimizers([self.optimizer]) | {"watch": self.watch.numbers}
        return {PREFIX + name: tensor for name, tensor in own.items()}

    def load(self, tensors: Mapping[str, Tensor], origin: str) -> None:
        """Put the tensors of a checkpoint back. Raises CheckpointError: they are of other discriminators."""
        own = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items() if name.startswith(PREFIX)}
        load_weights(self.model, own, origin, "model.")
        if any(name.startswith("optimizer.") for name in own):  # none in a first step without a target
            restore_optimizers([self.optimizer], own)
        self.watch.numbers.copy_(own["watch"])


class Watch:
    """Says when adversarial training has collapsed: in ``gan_patience`` updates in a row the discriminators' loss was below ``LOSS_FLOOR``
    and they judged everything right, or the mean SI-SDRi was more than ``FALL_DB`` below that of the warm-up."""

    def __init__(self, params: Params) -> None:
        self.params = params
        self.numbers = torch.zeros(3 + params.gan_patience, dtype=torch.float64)
        """Updates won in a row; sum and number of SI-SDRi in the warm-up; the newest SI-SDRi, by update modulo the patience."""

    def look(self, seen: Mapping[str, float], step: int) -> None:
        """Take in what a step showed: ``disc, disc_told, si_sdri``. Raises Collapse: one of the two rules holds."""
        patience, several = self.params.gan_patience, self.params.accumulation
        update, held = step // several, -(-held_steps(self.params) // several)
        self.numbers[0] = self.numbers[0] + 1 if seen["disc"] < LOSS_FLOOR and seen["disc_told"] == 1 else 0
        self.numbers[3 + update % patience] = seen["si_sdri"]
        if update < max(1, held):
            self.numbers[1:3] += torch.tensor([seen["si_sdri"], 1.0], dtype=torch.float64)
        where = f"the adversarial training collapsed at step {step + 1}"
        if self.numbers[0] >= patience and update >= held + patience:
            won = f"the discriminators' loss was below {LOSS_FLOOR:g} and no estimate passed for a target"
            raise Collapse(f"{where}: for {patience} updates {won}")
        before, now = float(self.numbers[1] / self.numbers[2].clamp(min=1)), float(self.numbers[3:].mean())
        if update >= held + patience and now < before - FALL_DB:
            allowed = f"expected at most {FALL_DB:g} dB below the {before:.2f} dB of the warm-up"
            raise Collapse(f"{where}: SI-SDRi of the last {patience} updates is {now:.2f} dB, {allowed}")
