"""Test exploring by hand: scenes, own files, one extraction per change, and the panel in a real JupyterLab in a real browser."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import browser
import nbformat
import numpy as np
import pytest
import soundfile
import torch
from arms import SMOKE, made_up_arm
from headless import ROOT
from test_listening import decoded, made_up_mixture

from hifitse import HifitseError
from hifitse.audio import level_db
from hifitse.commands import explore, trial
from hifitse.commands.trial import Scene, Scenes
from hifitse.metrics import si_sdr
from hifitse.model import Extractor
from hifitse.report.listening import rebuild


def voice(path: Path, seconds: float = 1.0, rate: int = 44_100, channels: int = 2) -> Path:
    noise = np.random.default_rng(0).normal(size=(round(seconds * rate), channels)) * 0.1
    soundfile.write(path, noise, rate)
    return path


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return Scenes(SMOKE.model_copy(update={"reverb_prob": 0.5, "eval_list": "any.jsonl"}))  # the panel draws its own


@pytest.mark.parametrize("index", range(4))
def test_a_scene_without_changes_is_the_mixture_of_the_evaluation(index, scenes):
    made, listed = scenes.scene(Scene(index)), rebuild({"list": "test", "index": index}, scenes.params)
    assert np.array_equal(made.mix, listed.mix) and np.array_equal(made.enroll, listed.enroll) and made.metadata == listed.metadata
    data = listed.metadata
    named = scenes.scene(Scene(index, data["target_speaker"], tuple(data["interferer_speakers"])))
    assert np.array_equal(named.mix, listed.mix)


def test_a_scene_takes_the_ratios_and_speakers_that_are_asked_for(scenes):
    made = scenes.scene(Scene(1, sir_db=12.0, snr_db=-3.0))
    assert level_db(made.target) - level_db(made.noise) == pytest.approx(-3, abs=0.01)
    for each in made.interferers:
        assert level_db(made.target) - level_db(each) == pytest.approx(12, abs=0.01)
    assert not scenes.scene(Scene(1, snr_db=np.inf)).noise.any()
    target, *others = scenes.speakers[:3]
    made = scenes.scene(Scene(1, target, tuple(others)))
    assert (made.metadata["target_speaker"], made.metadata["interferer_speakers"]) == (target, others)
    alone = scenes.scene(Scene(1, target, ()))
    assert len(alone.interferers) == 0 and np.allclose(alone.mix, alone.target + alone.noise, atol=1e-6)
    with pytest.raises(HifitseError, match="9 interferers are asked for, expected 0 to 8"):
        scenes.scene(Scene(0, interferers=("nobody",) * 9))


def test_a_room_changes_the_mixture_and_not_its_enrolment(scenes):
    within, without = (scenes.scene(Scene(1, room=room)) for room in (True, False))
    assert within.metadata["room"] and without.metadata["room"] is None
    assert not np.allclose(within.target, without.target, atol=1e-3) and np.array_equal(within.enroll, without.enroll)


def test_a_dropped_file_is_read_as_any_other(tmp_path):
    path = voice(tmp_path / "me.wav")
    signal = trial.decode_upload({"name": "Ich (ä).WAV", "content": path.read_bytes()})
    assert signal.shape == (48_000,) and signal.dtype == np.float32
    content = voice(tmp_path / "long.wav", 31.0, 8000, 1).read_bytes()
    assert len(trial.decode_upload({"name": "long.wav", "content": content})) == 30 * 48_000


@pytest.mark.parametrize(("name", "content"), [("<b>../evil.wav", b"hello"), ("noending", b""), ("short.wav", 0.01), ("silent.wav", 0.0)])
def test_a_bad_file_gives_one_sentence_with_its_own_name(name, content, tmp_path):
    if isinstance(content, float):
        soundfile.write(tmp_path / "x.wav", np.full(480 if content else 48_000, content), 48_000)
        content = (tmp_path / "x.wav").read_bytes()
    with pytest.raises(HifitseError) as caught:
        trial.decode_upload({"name": name, "content": content})
    said = str(caught.value)
    assert repr(name) in said and "expected" in said and "\n" not in said and "hifitse-" not in said


@pytest.mark.parametrize("kind", ["right", "wrong", "zero", "own"])
def test_an_extraction_is_measured_seen_and_heard(kind):
    mixture = replace(made_up_mixture(), metadata={"id": "test-3", "index": 3})
    given = []

    def half(mix, enroll):
        given.append(enroll.numpy())
        return mix * 0.5

    heard = trial.extract(half, mixture, kind, np.ones(24_000, np.float32))
    wanted = {"right": mixture.enroll, "wrong": mixture.wrong_enroll, "zero": 0 * mixture.enroll, "own": np.ones((1, 24_000))}[kind]
    assert np.array_equal(given[0][0], wanted) and np.array_equal(heard.clips["enrolment"], wanted[0])
    before = si_sdr(*(torch.from_numpy(signal) for signal in (mixture.mix, mixture.target))).item()
    assert heard.said.startswith("SI-SDRi 0.0 dB") and f"{before:+.1f} dB before".replace("-", "−") in heard.said
    picture, listen = trial.shown(heard).data.split('<div class="players">')
    assert picture.count("<img") == 1 and "test mixture 3" in picture and f"{heard.said}\" src=" in picture
    assert len(decoded(listen)) == 4 == listen.count("aria-label=")


def test_of_a_model_with_a_verifier_the_likeness_is_seen_too():
    mixture = replace(made_up_mixture(), metadata={"id": "test-3", "index": 3})
    heard = trial.extract(Extractor.from_pretrained(), mixture, "wrong")
    assert len(heard.likeness) == len(heard.clips["estimate"]) // 4800 and 0 <= min(heard.likeness) <= max(heard.likeness) <= 1
    assert heard.threshold == Extractor.from_pretrained().origin.metrics["presence"]["threshold_likeness"]
    assert trial.shown(heard).data.count("<img") == 2
    assert trial.extract(Extractor.from_pretrained(), mixture, "zero").likeness is None, "nobody is enrolled"


def test_an_own_mixture_is_extracted_but_not_measured():
    mixture = trial.own_mixture(np.full(48_000, 0.1, np.float32))
    heard = trial.extract(lambda mix, enroll: mix, mixture, "own", np.ones(24_000, np.float32))
    assert list(heard.clips) == ["mixture", "estimate", "enrolment"] and "not known" in heard.said
    for kind in ("right", "wrong", "own"):
        with pytest.raises(HifitseError, match="own"):
            trial.extract(lambda mix, enroll: mix, mixture, kind)


@pytest.fixture
def panel(monkeypatch):
    """Return a panel that records what it would extract."""
    asked = []

    def extract(extractor, mixture, kind, own=None):
        asked.append((mixture.metadata, kind, own))
        return trial.Heard({}, "", "")

    monkeypatch.setattr(trial, "extract", extract)
    monkeypatch.setattr(trial, "shown", lambda heard: None)
    made = explore.Panel(made_up_arm())
    made.asked = asked
    return made


def test_each_change_is_one_extraction(panel):
    panel.button.click()
    panel.index.value = 99  # beyond the end of the list
    assert [metadata["index"] for metadata, _, _ in panel.asked] == [0, SMOKE.eval_mixtures - 1]
    assert panel.target.value == panel.asked[-1][0]["target_speaker"]
    assert set(panel.interferers.value) == set(panel.asked[-1][0]["interferer_speakers"])
    panel.sir.value, panel.snr.value, panel.room.value = 20.0, -10.0, False
    assert len(panel.asked) == 5 and set(panel.asked[-1][0]["sir_db"]) == {20.0} and panel.asked[-1][0]["snr_db"] == -10.0
    other = next(name for name in panel.target.options if name != panel.target.value)
    panel.target.value = other
    assert len(panel.asked) == 6 and panel.asked[-1][0]["target_speaker"] == other and not panel.button.disabled


def test_what_goes_wrong_is_said_and_nothing_is_lost(panel, tmp_path):
    good = voice(tmp_path / "me.wav").read_bytes()
    drop = partial(panel._do, partial(panel._dropped, "enrolment"))
    drop({"new": ({"name": "me.wav", "content": memoryview(good)},)})
    assert panel.kind.value == "own" and len(panel.asked) == 1 and panel.asked[0][2].shape == (48_000,)
    drop({"new": ({"name": "<i>bad.wav", "content": memoryview(b"x")},)})
    assert "&lt;i&gt;bad.wav" in panel.message.value and len(panel.asked) == 1 and panel.files["enrolment"].shape == (48_000,)
    assert not panel.button.disabled
    panel.button.click()
    assert panel.message.value == "" and len(panel.asked) == 2


def test_a_result_of_other_settings_is_greyed_and_what_is_not_loaded_cannot_be_chosen(panel, tmp_path):
    assert not panel.room.disabled and not panel.snr.disabled
    panel.room.value, panel.scenes.acoustics.rooms = True, None
    panel._speakers()
    assert panel.room.disabled and panel.room.value == "drawn" and "reverb_prob is 0" in panel.reasons.value and not panel.snr.disabled
    panel.button.click()
    assert explore.STALE not in panel.output._dom_classes
    panel.source.value = "own file"  # there is none
    assert explore.STALE in panel.output._dom_classes and "belongs to other settings" in panel.message.value
    panel.paths["mixture"].value = str(voice(tmp_path / "long.wav"))
    assert explore.STALE not in panel.output._dom_classes and panel.asked[-1][0]["id"] == "own mixture" and panel.message.value == ""
    panel.paths["mixture"].value = "/nowhere.wav"
    assert "/nowhere.wav" in panel.message.value and "does not exist" in panel.message.value
    assert explore.STALE not in panel.output._dom_classes


CELLS = ("from arms import made_up_arm\nfrom hifitse.commands import explore", "explore.panel(made_up_arm())")
"""A panel with untrained weights: the quality of its output does not matter."""
PICTURE = "document.querySelector('.jp-OutputArea img[alt*=\"{}\"]')"
SOUND = "document.querySelector('.jp-OutputArea audio[aria-label*=\"{}\"]')"


@pytest.fixture(scope="module")
def lab(tmp_path_factory, chromium):
    """Yield the address of a JupyterLab that serves one small notebook; end it and its kernels afterwards."""
    root = tmp_path_factory.mktemp("lab")
    spec = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS], metadata=spec), root / "panel.ipynb")
    config = root / "config/labconfig/page_config.json"
    config.parent.mkdir(parents=True)
    config.write_text(json.dumps({"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}))  # uses the network
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    folders = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime"}
    folders |= {"JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces", "IPYTHONDIR": "ipython"}
    environment = os.environ | {name: str(root / folder) for name, folder in folders.items()}
    environment |= {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    options = [f"--ServerApp.port={port}", "--ServerApp.port_retries=0", "--ServerApp.ip=127.0.0.1", f"--ServerApp.root_dir={root}"]
    options += ["--no-browser", "--allow-root", "--IdentityProvider.token=made-up", "--LabApp.expose_app_in_browser=True"]
    options += ["--LabApp.extension_manager=readonly"]
    with open(root / "log", "w") as log:
        command = [sys.executable, "-m", "jupyterlab", *options]
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=root, start_new_session=True)
    with browser.ended(process):
        browser.listening(port, process, root / "log")
        yield f"http://127.0.0.1:{port}/lab/tree/panel.ipynb?token=made-up"


def choose(tab: browser.Tab, file: Path) -> None:
    """Click the upload button for an own enrolment and choose a file."""
    with tab.page.expect_file_chooser() as asked:
        tab.page.locator(".widget-upload", has_text="own enrolment").click()
    asked.value.set_files(file)


def test_the_panel_works_in_jupyterlab(lab, chromium, tmp_path):
    with chromium.tab(height=1400) as tab:
        tab.page.goto(lab.partition("?")[0].rpartition("/lab")[0] + "/api/status?token=made-up")  # sets the cookie
        tab.page.goto(lab.partition("?")[0])
        tab.until("window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'")
        tab.page.evaluate("void jupyterapp.commands.execute('notebook:run-all-cells')")
        tab.page.get_by_role("button", name="extract", exact=True).click()
        tab.until(f"{PICTURE.format('enrolment: of the target')}?.naturalWidth > 400")
        labels = ("mixture", "target", "estimate", "enrolment")
        for name in labels:
            seconds = tab.until(f"{SOUND.format(name + ', test mixture 0')}?.duration")
            assert 0.9 < seconds < 1.3
        tab.page.get_by_role("button", name="silence", exact=True).click()
        tab.until(f"{PICTURE.format('enrolment: silence')}?.naturalWidth > 400")
        assert tab.page.evaluate("document.querySelectorAll('.jp-OutputArea audio').length") == len(labels)
        (tmp_path / "bad.wav").write_text("no sound")
        choose(tab, tmp_path / "bad.wav")
        tab.until("document.querySelector('[role=alert]')?.innerText.includes(\"'bad.wav' is not readable\")")
        assert tab.page.evaluate(f"{PICTURE.format('enrolment: silence')}.naturalWidth > 400")  # the last result stays
        choose(tab, voice(tmp_path / "good.wav"))
        tab.until(f"{PICTURE.format('enrolment: own file')}?.naturalWidth > 400")
        ours = [text for text in tab.complaints if "widget" in text.lower() or "uncaught" in text.lower()]
        assert ours == [], tab.complaints
