"""HiFi-TSE workbook: 48 kHz target speaker extraction as a thin, tested library.

Data goes one way, and no module imports from one further right or below::

    corpus -> mixture -> batch -> model -> loss -> run -> rows -> report

    presets.py      the files in params/, and the words of a refused parameter
    config.py       the parameters that decide the extractor's shape
    command_line.py parameters on a command line
    params.py       every parameter, typed, with unit and range
    audio.py        48 kHz mono audio in and out, resampling, levels
    threads.py      how many CPU threads torch computes with
    heap.py         memory that was freed stays with the process
    shared.py       which items of a batch have a mixture or an enrolment in common
    chunks.py       long signals in cross-faded chunks
    extraction.py   one voice out of a recording in memory
    checkpoint.py   atomic files, safetensors weights
    pretrained.py   a trained model as a folder to keep and to share
    extract_files.py       one voice out of recordings on disk, piece by piece
    data/           corpus, synthetic voices, rooms, noise -> mixtures -> batches
    bandwidth.py    up to which frequency a recording holds sound
    recording.py    what one recording is, and why it cannot be used
    layouts.py      how corpora lie on disk
    partial.py      what a scan has found so far, kept on disk
    readers.py      processes that look at files
    model/          the extractor: (mix, enroll) -> est
    perceptual.py   PESQ and STOI, in parallel processes
    metrics.py      SI-SDR, levels, suppression, bootstrap intervals
    losses/         loss terms by the name they are logged under
    run.py          the folder that a training leaves: parameters, history, weights
    device.py       the device that a training or an evaluation uses
    muon.py         the optimiser that learns most in a given time
    group.py        the processes that train together
    adversary.py    discriminators that learn beside the extractor, and when to stop
    optimizers.py   the optimisers of a training, and their learning rate
    hide.py         what training hides from the network: enrolments, parts of the spectrum
    start.py        the weights that a fine-tuning starts from
    validation.py   a quick look at unseen voices while training goes on
    stopping.py     a stop that comes after a whole step
    journal.py      what a training tells while it goes on
    train.py        the main path: parameters -> finished run
    evaluate.py     run + fixed evaluation lists -> one row a mixture
    rows.py         rows -> means, paired differences, bins
    gradient_shares.py     how much of the gradient each term of a loss has
    experiment.py   arms, shared cached runs
    comparison.py   a baseline and its variants, by declared changes
    diagnosis.py    the published baseline's faults as changes, and its way of testing
    voice_pairs.py  test mixtures by how alike their voices are
    fidelity.py     spectra of estimates and targets, below and above 8 kHz
    finetune.py     a finished baseline trained on, and which weights are kept
    counting.py     parameters, operations and activations of a model
    memory.py       resident memory of this process
    cost.py         what a model costs: these, and time
    style.py        colours and sizes that all figures and pages share
    document.py     the frame of every HTML page
    lettering.py    names in any script inside figures
    figures.py      rows and audio -> figures
    labels.py       where the names of points and curves stand in a figure
    curriculum_figure.py   a curriculum over the steps -> a figure
    comparison_figures.py  arms side by side -> figures
    loss_figures.py        shares of the gradient, learned weights -> figures
    gan_figure.py   discriminators' and extractor's losses -> a figure
    players.py      audio -> players inside a page
    tables.py       rows -> tables
    listening.py    which test mixtures to listen to, and their sound
    report.py       folders, verdicts, metrics.json
    show.py         what a notebook displays
    show_arms.py    what a notebook displays of a comparison
    show_losses.py  what a notebook displays of loss terms
    show_cost.py    what a notebook displays of its costs
    show_diagnosis.py      what a notebook displays of the faults
    large_corpus.py a corpus of millions of utterances, simulated
    loading.py      how fast mixtures are made, stage by stage
    loading_choices.py     which resampler, which convolution
    loading_figures.py     these -> figures
    show_loading.py what a notebook displays of them
    plain.py        the extractor written the obvious way, with the same weights
    performance.py  forward passes against the machine's peak, length, batch and threads
    versions.py     one training step in several ways, and its memory
    step_parts.py   where the time of a training step goes
    long_recordings.py     memory and time of extraction from long recordings
    performance_figures.py these -> figures
    show_performance.py    what a notebook displays of them
    show_conditioning.py   what a notebook displays of the use that arms make of the enrolment
    show_gan.py     what a notebook displays of a fine-tuning against discriminators
    collect.py      every report's metrics.json, read with suspicion
    summary.py      the plan's claims and what was measured
    ranking.py      the summary as tables, verdict and forest plot
    gallery.py      the index of all reports
    side.py         one of two runs to compare, as its folder has it
    side_by_side.py two runs on one page
    drop_in.py      files that a reader drops in -> audio
    scene.py        a test mixture with other speakers, ratios, room
    trial.py        one extraction by hand
    explore.py      the interactive panel
    page.py         executed notebook -> one HTML page that works offline
    model_card.py   the text that goes with a model
    exporting.py    a finished run -> a model's folder
    extract_command.py     the commands ``hifitse extract`` and ``hifitse export``
    audit.py        the audit page of a manifest
    prepare.py      a folder of recordings -> a manifest
    prepare_command.py     the command ``hifitse prepare``
    cli.py          the command ``hifitse``

Axis letters in shape comments:
B batch, T samples, F frequency bins, L frames, K bands, D features, N enrolments, S sources.
"""

SAMPLE_RATE = 48_000
"""Hz. The one rate inside the library; files at other rates are resampled when they are read."""


class HifitseError(Exception):
    """Bad input, said in one sentence: what is wrong, the value received, what is allowed.

    Notebooks show the sentence alone, without the stack above it.
    """

    def _render_traceback_(self) -> list[str]:  # the hook by which IPython asks for an exception's text
        return [f"{type(self).__name__}: {self}"]
