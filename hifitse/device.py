"""The device that a training or an evaluation uses."""

import platform

import torch

from hifitse import HifitseError


class TrainingError(HifitseError):
    """Training cannot go on: the loss is not finite, or the device asked for is not there."""


def pick_device(name: str) -> torch.device:
    """The device of parameter ``device``; auto takes CUDA, then MPS, then the CPU."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    name = next(n for n, ok in there.items() if ok) if name == "auto" else name
    if not there[name]:
        raise TrainingError(f"parameter 'device' is {name!r}, allowed here are: auto, {', '.join(n for n, ok in there.items() if ok)}")
    return torch.device(name)


def device_name(device: torch.device) -> str:
    """For reports: the GPU's name, or processor architecture and number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    count = torch.get_num_threads()
    return f"{platform.machine()} {device.type}, {count} thread{'s' if count != 1 else ''}"
