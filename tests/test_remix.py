"""Batches mixed anew, what their items share, and blocks and inputs that go with them."""

import numpy as np
import pytest
import torch
from sounds import folders, small

from hifitse.data.dataset import training_loader
from hifitse.data.mixing import PEAK, Mixer
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
    params = small(sources, **({"batch_size": 12, "remix": 2} | changes))
    return params, next(iter(training_loader(params, Mixer(params, "train"), 12, 12)))


def same(signals):
    """Numbers that are equal where rows are."""
    return [next(i for i, other in enumerate(signals) if torch.equal(row, other)) for row in signals]


def test_each_voice_is_heard_in_as_many_mixtures_as_asked_for(sources):
    _, batch = batch_of(sources, seed=2)  # where nobody would meet himself
    mixtures, voices = same(batch["mix"]), same(batch["enroll"])
    assert mixtures == [0, 0, 2, 2, 4, 4, 6, 6, 8, 8, 10, 10], "each mixture for both of its talkers"
    assert sorted(voices.count(voice) for voice in set(voices)) == [2] * 6
    assert len({frozenset(voices[i : i + 2]) for i in range(0, 12, 2)}) == 6, "never the same two together"


def test_a_new_interferer_is_as_loud_as_the_one_before_and_somebody_else(sources):
    _, batch = batch_of(sources)
    remixed = [i for i, meta in enumerate(batch["metadata"]) if "remix" in meta["id"] and "swapped" not in meta["id"]]
    assert len(remixed) == 3
    for i in remixed:
        meta = batch["metadata"][i]
        assert meta["target_speaker"] != meta["interferer_speakers"][0]
        target, interferer = batch["target"][i], batch["target"][i + 1]
        ratio = 10 * float(torch.log10(target.square().mean() / interferer.square().mean()))
        assert ratio == pytest.approx(meta["sir_db"][0], abs=0.01), "the ratio that was drawn"
        assert batch["mix"][i].abs().max() <= PEAK + 1e-6
        noise = batch["mix"][i] - target - interferer
        assert noise.square().mean() < 0.5 * batch["mix"][i].square().mean()


def test_an_item_is_a_function_of_its_index(sources):
    params, batch = batch_of(sources)
    for workers in (0, 1):
        given = params.model_copy(update={"workers": workers})
        late = next(iter(training_loader(given, Mixer(given, "train"), 17, 7)))  # from the middle of the same group on
        for name in ("mix", "target", "enroll"):
            assert torch.equal(late[name], batch[name][5:])


def test_absent_targets_stay_absent(sources):
    _, batch = batch_of(sources, absent_prob=[0.6])
    assert not batch["present"].all() and batch["present"].any()
    for target, present in zip(batch["target"], batch["present"], strict=True):
        assert bool(target.any()) == bool(present)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"both_talkers": False, "batch_size": 8}, ["remix is 2", "both_talkers = True"]),
        ({"batch_size": 6}, ["batch_size is 6", "multiples of 2 * remix"]),
        ({"batch_size": 18, "remix": 3}, None),
        ({"batch_size": 12, "remix": 3}, ["batch_size is 12"]),
    ],
)
def test_batches_that_cannot_be_mixed_anew_are_refused(sources, changes, words):
    given = {"remix": 2} | changes
    if words is None:
        assert small(sources, **given).remix == 3
        return
    with pytest.raises(ParameterError) as error:
        small(sources, **given)
    assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize(
    "changes", [{}, {"mixture_blocks": 1}, {"adaln": True}, {"usef": "band", "reinject": "full"}, {"enroll_scales": 2}], ids=str
)
def test_what_is_shared_is_encoded_once_with_the_same_estimates_and_gradients(sources, changes):
    _, batch = batch_of(sources)
    shared = batch["shared"]
    assert len(shared.mix_rows) == len(shared.enroll_rows) == 6
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
    with pytest.raises(ParameterError, match="mixture_blocks is 2, allowed are fewer than blocks = 2"):
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
