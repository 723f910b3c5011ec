"""Save and load trained models as folders: weights, configuration and metadata. No pickle, no code.

``model.safetensors`` (weights), ``config.json`` (:class:`hifitse.config.ExtractorConfig`), ``params.json`` (all training
parameters), ``metrics.json`` (measured results), ``README.md`` (model card) and ``LICENSE``. Only the first two are required.
"""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from huggingface_hub import PyTorchModelHubMixin, snapshot_download
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from hifitse.config import ExtractorConfig
from hifitse.files import CheckpointError, load_weights, write_atomic, write_text

DEFAULT = Path(__file__).resolve().parent.parent / "pretrained_model"  # the bundled model
FILES = WEIGHTS, CONFIG, PARAMS, METRICS, CARD, LICENSE = (
    "model.safetensors", "config.json", "params.json", "metrics.json", "README.md", "LICENSE",
)  # fmt: skip
FORMATS = (torch.float32, torch.float16, torch.bfloat16)
EIGHT_BITS = re.compile(r"verifier\.lstm\.weight_[ih]h_l[12]")
"""Weights that 16-bit files store in 8 bits, with one scale per row, which saves 1 MB. Embeddings before and after have a cosine of 0.9998.
The first layer's weights are excluded, because their rows span too wide a range."""
SCALE = ".scale"


class Origin(NamedTuple):
    """Metadata of a model's weights. Unknown parts are empty."""

    params: dict[str, Any] = {}
    metrics: dict[str, Any] = {}
    card: str = ""
    license: str = ""


CODERS = {ExtractorConfig: (lambda config: config.model_dump(mode="json"), lambda values: ExtractorConfig(**values))}
"""How huggingface_hub writes and reads a configuration. Subclasses must pass it again, because coders are not inherited."""


class Pretrained(PyTorchModelHubMixin, library_name="hifitse", tags=["target-speaker-extraction", "speech", "48kHz"], coders=CODERS):
    """Mixin for modules whose only argument is ``config``: save, load, and share them on the Hugging Face Hub.

    huggingface_hub's ``push_to_hub(repo_id)`` uploads the files that :meth:`save_pretrained` writes.
    """

    origin: Origin = Origin()

    @classmethod
    def from_pretrained(cls, path_or_hub_id: str | Path | None = None, **options: Any) -> Self:
        """Load a trained model in evaluation mode, as float32 on the CPU.

        Args:
            path_or_hub_id: a folder written by :meth:`save_pretrained`, or a model ``owner/model`` on the Hugging Face Hub. An existing
                folder takes precedence. ``None`` loads the bundled model.
            options: passed to ``huggingface_hub.snapshot_download``: revision, cache_dir, token, local_files_only.

        Raises CheckpointError: no such model, missing or damaged files, or weights that do not fit the configuration.
        """
        folder = DEFAULT if path_or_hub_id is None else _folder(path_or_hub_id, options)
        try:
            texts = [(folder / name).read_text(encoding="utf-8") if (folder / name).is_file() else "" for name in FILES[2:]]
            known = [json.loads(text or "{}") for text in ((folder / CONFIG).read_text(encoding="utf-8"), *texts[:2])]
            if wrong := [name for name, each in zip(FILES[1:], known, strict=False) if not isinstance(each, dict)]:
                raise ValueError(f"{wrong[0]} is not a JSON object")
            model = super().from_pretrained(folder)
        except CheckpointError:
            raise
        except (OSError, ValueError, SafetensorError) as error:
            reason = " ".join(str(error).split())[:300]
            expected = f"expected a folder with {WEIGHTS} and {CONFIG}"
            raise CheckpointError(f"cannot read the model in {folder} ({reason}), {expected}") from None
        model.origin = Origin(*known[1:], *texts[2:])
        return model

    @classmethod
    def _from_pretrained(cls, *, model_id: str, config: ExtractorConfig, **_: Any) -> Self:
        """Replace the mixin's loader: accept only safetensors files with finite weights."""
        path, model = Path(model_id) / WEIGHTS, cls(config)
        tensors = load_file(path)
        for name, tensor in tensors.items():
            if tensor.dtype not in FORMATS and not (tensor.dtype == torch.int8 and name + SCALE in tensors):
                raise CheckpointError(f"weight {name!r} in {path} is {tensor.dtype}, expected one of {', '.join(map(str, FORMATS))}")
        tensors = unpacked(tensors)
        _refuse_infinite(tensors, str(path))
        load_weights(model, tensors, str(path))
        return model.eval()

    def save_pretrained(
        self, folder: str | Path, params: dict[str, Any] | None = None, metrics: dict[str, Any] | None = None,
        card: str | None = None, license: str | None = None, *, dtype: torch.dtype = torch.float32, **_: object,
    ) -> None:  # fmt: skip
        """Write the model's folder. Each file is written atomically, the weights last.

        Args:
            params: all training parameters. ``None``, here and for the next three, keeps what the model was loaded with.
            metrics, card, license: measured results, and the texts of README.md and LICENSE.
            dtype: of the weights: float32, float16 or bfloat16 (see also EIGHT_BITS). Other arguments from ``push_to_hub`` are ignored.

        Raises CheckpointError: the folder cannot be written, weights are not finite in ``dtype``, or ``dtype`` is not supported.
        """
        if dtype not in FORMATS:
            raise CheckpointError(f"dtype is {dtype}, expected one of {', '.join(map(str, FORMATS))}")
        given = zip(self.origin, (params, metrics, card, license), strict=True)
        self.origin = Origin(*(old if new is None else new for old, new in given))
        weights = packed(self.state_dict(), dtype)
        _refuse_infinite(weights, f"the model in {dtype}")
        folder = Path(folder)
        for name, content in ((CONFIG, self.config.model_dump(mode="json")), (PARAMS, self.origin.params), (METRICS, self.origin.metrics)):
            write_text(folder / name, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
        for name, text in ((CARD, self.origin.card), (LICENSE, self.origin.license)):
            if text:
                write_text(folder / name, text)
        write_atomic(folder / WEIGHTS, lambda temporary: save_file(weights, temporary, metadata={"format": "pt"}))


def packed(weights: Mapping[str, torch.Tensor], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Convert weights to ``dtype`` on the CPU; in 16-bit formats, convert those of ``EIGHT_BITS`` to int8 with one scale per row."""
    tensors = {}
    for name, weight in weights.items():
        tensors[name] = weight.detach().cpu().to(dtype).contiguous().clone()
        if dtype != torch.float32 and EIGHT_BITS.fullmatch(name):
            scale = tensors[name + SCALE] = (tensors[name].abs().amax(1, keepdim=True) / 127).clamp_min(1e-6)
            tensors[name] = (tensors[name].float() / scale.float()).round().clamp(-127, 127).to(torch.int8)
    return tensors


def unpacked(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Undo :func:`packed`: return the weights in float32, without scales."""
    scales = {name + SCALE for name, tensor in tensors.items() if tensor.dtype == torch.int8}
    whole = {name: tensor.float() for name, tensor in tensors.items() if name not in scales}
    return {name: each * tensors[name + SCALE].float() if name + SCALE in scales else each for name, each in whole.items()}


def _folder(path_or_hub_id: str | Path, options: dict[str, Any]) -> Path:
    """Return the model's folder, downloading it first if it is a name on the Hub."""
    name = str(path_or_hub_id)
    path = os.path.expanduser(name)  # unlike pathlib, os.path accepts unknown users and names that are too long
    if os.path.isdir(path):
        return Path(path)
    if isinstance(path_or_hub_id, Path) or os.path.exists(path) or not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name):
        allowed = f"a folder with {WEIGHTS} and {CONFIG}, or a name owner/model on the Hugging Face Hub"
        raise CheckpointError(f"model is {name!r}, which is not a folder, expected {allowed}")
    try:
        return Path(snapshot_download(name, allow_patterns=list(FILES), **options))
    except Exception as error:  # errors of the Hub, of its network library, and of the disk
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise CheckpointError(f"model {name!r} is not a local folder and cannot be fetched from the Hugging Face Hub ({reason})") from None


def _refuse_infinite(weights: dict[str, torch.Tensor], where: str) -> None:
    for name, tensor in weights.items():
        if not tensor.isfinite().all():
            raise CheckpointError(f"weight {name!r} in {where} holds NaN or infinity, expected finite values")
