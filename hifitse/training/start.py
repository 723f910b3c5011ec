"""What a fine-tuning starts from: the averaged weights of a finished run, with what does not learn taken out."""

from torch import nn

from hifitse.files import load_weights
from hifitse.params import Params
from hifitse.training.run import Run


def take_over(model: nn.Module, params: Params) -> None:
    """Load the weights of ``start_from``, and with ``freeze_norms`` take the layer norms out of learning; nothing without either.

    The averaged weights, not the newest: they are what the run was judged by, so a fine-tuning of no steps changes nothing.

    Raises:
        HifitseError: there is no such finished run.
        CheckpointError: its extractor has another shape.
    """
    if params.start_from:
        load_weights(model, Run.named(params.start_from).extractor().state_dict(), params.start_from)
    if params.freeze_norms:
        for module in model.modules():
            if isinstance(module, nn.LayerNorm):
                module.requires_grad_(False)
