"""Figures of data loading: where the time goes, which resampler, which convolution, memory."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from hifitse.report.figures import BLUE, CURVES, DPI, STYLE, WIDTH


@matplotlib.rc_context(STYLE)
def stages(seconds: Mapping[str, Mapping[str, float]]) -> Figure:
    """Milliseconds of a mixture, path by path, as a bar of its stages.

    Args:
        seconds: path -> stage -> s.
    """
    figure = Figure(figsize=(WIDTH, 0.75 * len(seconds) + 1.3), dpi=DPI, layout="constrained")
    axis = figure.subplots()
    left = np.zeros(len(seconds))
    for colour, stage in zip(CURVES, next(iter(seconds.values())), strict=False):
        width = 1e3 * np.array([each[stage] for each in seconds.values()])
        axis.barh(list(seconds), width, left=left, color=colour, label=stage, height=0.6)
        left += width
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    axis.set_xlabel("CPU time of a mixture, ms")
    figure.legend(loc="outside upper center", ncols=5)
    return figure


@matplotlib.rc_context(STYLE)
def resamplers(found: Mapping[str, tuple[float, float]]) -> Figure:
    """Error against time, one point a resampler: best is to the left and below.

    Args:
        found: name -> ms, dB.
    """
    figure = Figure(figsize=(WIDTH, 3.2), dpi=DPI, layout="constrained")
    axis = figure.subplots()
    for colour, (name, (ms, error)) in zip(CURVES, found.items(), strict=False):
        axis.plot(ms, error, "o", color=colour, ms=8, label=name)
    axis.margins(0.15)
    axis.set_xlim(0)
    axis.set_xlabel("CPU time, ms")
    axis.set_ylabel("error re signal, dB")
    figure.legend(loc="outside upper center", ncols=2)
    return figure


@matplotlib.rc_context(STYLE)
def convolutions(found: Mapping[str, Mapping[float, float]]) -> Figure:
    """Time to convolve against the response's length, one curve a way.

    Args:
        found: name -> length in s -> ms.
    """
    figure = Figure(figsize=(WIDTH, 3.4), dpi=DPI, layout="constrained")
    axis = figure.subplots()
    for colour, marker, (name, each) in zip(CURVES, "osD^v", found.items(), strict=False):
        axis.plot(list(each), list(each.values()), marker=marker, color=colour, label=name)
    axis.set_xscale("log")
    lengths = list(next(iter(found.values())))
    axis.set_xticks(lengths, [f"{length:g}" for length in lengths])
    axis.minorticks_off()
    axis.set_ylim(0)
    axis.set_xlabel("length of the room response, s")
    axis.set_ylabel("CPU time of a mixture, ms")
    figure.legend(loc="outside upper center", ncols=2)
    return figure


@matplotlib.rc_context(STYLE)
def memory(curve: Sequence[tuple[float, float]]) -> Figure:
    """Resident memory against the audio made.

    Args:
        curve: minutes, MB.
    """
    figure = Figure(figsize=(WIDTH, 2.6), dpi=DPI, layout="constrained")
    axis = figure.subplots()
    axis.plot(*zip(*curve, strict=True), color=BLUE, marker=".")
    highest = max((abs(value) for _, value in curve if np.isfinite(value)), default=0)
    axis.set_ylim(-max(50, 1.2 * highest), max(50, 1.2 * highest))
    axis.set_xlim(0)
    axis.set_xlabel("mixtures made, minutes of audio")
    axis.set_ylabel("memory added, MB")
    return figure
