"""Least-squares adversarial terms and feature matching: means over the parts of a discriminator, where HiFi-GAN has sums."""

import torch
from torch import Tensor

Maps = list[list[Tensor]]
"""Of each part of a discriminator the feature maps by layer, the last of them the score; each has a batch axis in front."""


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
