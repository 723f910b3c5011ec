"""What the items of a batch share, and blocks and inputs that go with it."""

import numpy as np
import pytest
import torch
from sounds import folders, small

from hifitse.data.dataset import training_loader
from hifitse.data.mixing import Mixer
from hifitse.model import Extractor, ExtractorConfig
from hifitse.params import ParameterError

SMALL = {
    "n_fft": 512, "win_length": 480, "hop_length": 240, "bands_fine": 2, "bands_medium": 3, "bands_coarse": 2, "features": 8, "blocks": 2,
    "lstm_hidden": 8, "heads": 2, "band_layer": "mixer", "frame_layer": "conv", "frame_attention": False, "usef": "full",
    "reinject": "none", "speaker_blocks": 1, "speaker_features": 8,
}  # fmt: skip


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    dry = {"seconds": 0.5, "enroll_seconds": 0.5, "both_talkers": True, "interferers_max": [1]}
    return folders(tmp_path_factory.mktemp("sources")) | dry


def batch_of(sources, **changes):
    params = small(sources, **({"batch_size": 6} | changes))
    return params, next(iter(training_loader(params, Mixer(params, "train"), 6, 6)))


@pytest.mark.parametrize(
    "changes", [{}, {"mixture_blocks": 1}, {"adaln": True}, {"usef": "band", "reinject": "full"}, {"enroll_scales": 2}], ids=str
)
def test_what_is_shared_is_encoded_once_with_the_same_estimates_and_gradients(sources, changes):
    _, batch = batch_of(sources)
    shared = batch["shared"]
    assert (len(shared.unique_mix), len(shared.unique_enroll)) == (3, 6)
    batch["enroll"] = batch["enroll"][[0, 1, 0, 3, 4, 3]]  # two voices that are asked for twice
    shared = shared._replace(unique_enroll=torch.tensor([0, 1, 3, 4]), enroll_index=torch.tensor([0, 1, 0, 2, 3, 2]))
    torch.manual_seed(0)
    model = Extractor(ExtractorConfig(**(SMALL | changes)))
    for parameter in model.parameters():  # a fresh model's mask is 1, whatever goes in
        torch.nn.init.normal_(parameter, std=0.1)
    ests, grads = [], []
    for given in (None, shared):
        model.zero_grad()
        est = model(batch["mix"], batch["enroll"], shared=given)
        (est - batch["target"]).square().mean().backward()
        ests.append(est.detach())
        grads.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None]))
    assert (ests[0] - batch["mix"]).abs().max() > 1e-3
    torch.testing.assert_close(ests[1], ests[0], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(grads[1], grads[0], rtol=1e-3, atol=1e-7)


def test_the_first_blocks_see_the_mixture_alone():
    torch.manual_seed(0)
    model = Extractor(ExtractorConfig(**(SMALL | {"mixture_blocks": 1})))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    seen = []
    model.blocks[0].register_forward_hook(lambda module, given, out: seen.append(out.detach()))
    mix = torch.randn(1, 9600) * 0.1
    with torch.no_grad():
        ests = [model(mix, torch.randn(1, 9600) * 0.1) for _ in range(2)]
    assert torch.equal(*seen) and not torch.allclose(*ests)
    with pytest.raises(ParameterError, match="mixture_blocks is 2, expected fewer than blocks = 2"):
        ExtractorConfig(**(SMALL | {"mixture_blocks": 2}))


def test_without_phases_the_network_hears_magnitudes_alone():
    torch.manual_seed(0)
    model = Extractor(ExtractorConfig(**(SMALL | {"phase_input": False, "input_power": 0.3})))
    spec = model.spectrum(torch.randn(1, 4800) * 0.1)
    turned = spec * torch.exp(torch.tensor(1.3j))
    torch.testing.assert_close(model.split(turned), model.split(spec), rtol=1e-4, atol=1e-4)
    # the one input: the magnitude to the power 0.3, normalised over a band's bins and frames
    region = model.split.regions[0]
    assert region.channels == 1
    with torch.no_grad():
        region.weight.fill_(0)
        region.weight[0, 0, 0] = 1  # the first place of the first band
        out = model.split(spec)[0, 0, :, 0] - region.bias[0, 0]
    power = spec[0].abs().numpy()[slice(*region.bands[0])] ** 2
    band = (power + 1e-12) ** 0.15  # the floor counts where a frame is silent
    np.testing.assert_allclose(out.numpy(), (band[0] - band.mean()) / np.sqrt(band.var() + 1e-5), rtol=1e-3, atol=1e-3)
    both = Extractor(ExtractorConfig(**(SMALL | {"phase_input": False, "magnitude_input": True})))
    assert [region.channels for region in both.split.regions] == [2, 2, 2]
