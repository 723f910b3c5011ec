"""Names in any script inside figures."""

import logging

import pytest
from matplotlib.figure import Figure

from hifitse.report import lettering
from hifitse.report.figures import png
from hifitse.report.lettering import legible, make_legible


@pytest.fixture
def dejavu_only(monkeypatch):
    monkeypatch.setattr(lettering, "families", lambda: (lettering.USUAL,))
    lettering._shown.cache_clear()
    yield
    lettering._shown.cache_clear()


def named(name: str) -> Figure:
    figure = Figure()
    axes = figure.subplots()
    axes.bar([0], [1], label=name)
    axes.set_xticks([0], [name])
    axes.set_title(name)
    axes.annotate(name, (0, 0.5))
    axes.set_yscale("log")
    axes.legend()
    return figure


def test_what_no_font_has_is_spelled_as_its_code_point(dejavu_only):
    assert legible("Łódź 東京\n2") == "Łódź \\u6771\\u4eac\n2"
    assert legible("caf\udce9 \0") == "caf\\udce9 \\x00"


@pytest.mark.parametrize("name", ["東京", "caf\udce9", "$5 and $6", "$\\broken{$", "\0"])
def test_a_figure_with_any_name_is_drawn_without_a_missing_letter(name, dejavu_only, recwarn, caplog):
    figure = named(name)
    with caplog.at_level(logging.WARNING):
        png(figure)
    said = [str(each.message) for each in recwarn] + caplog.messages
    assert not [each for each in said if "missing" in each.lower() or "not found" in each]
    axes = figure.axes[0]
    shown = {axes.get_title(), axes.get_xticklabels()[0].get_text(), axes.texts[0].get_text(), axes.get_legend().get_texts()[0].get_text()}
    assert shown == {legible(name)}


def test_an_installed_font_is_taken(monkeypatch):
    """DejaVu Serif stands for a font of another script: it comes with matplotlib, and so is always there."""
    lettering.families.cache_clear()
    monkeypatch.setattr(lettering, "OTHERS", ("No Such Font", "DejaVu Serif"))
    assert lettering.families() == ("DejaVu Sans", "DejaVu Serif")
    figure = named("東京")
    make_legible(figure)
    assert figure.axes[0].title.get_fontfamily() == ["DejaVu Sans", "DejaVu Serif"]
    lettering.families.cache_clear()


def test_formulas_of_a_logarithmic_axis_stay():
    figure = named("plain")
    png(figure)
    assert any("mathdefault" in label.get_text() and label.get_parse_math() for label in figure.axes[0].get_yticklabels())
