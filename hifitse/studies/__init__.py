"""What exactly one notebook needs.

gradient_shares.py      how much of the gradient each term of a loss has
diagnosis.py            the published baseline's faults as changes, and its way of testing
voice_pairs.py          test mixtures by how alike their voices are
finetune.py             a finished baseline trained on, and which weights are kept
loss_figures.py         shares of the gradient, learned weights -> figures
gan_figure.py           discriminators' and extractor's losses -> a figure
show_losses.py          what a notebook displays of loss terms
show_diagnosis.py       what a notebook displays of the faults
large_corpus.py         a corpus of millions of utterances, simulated
loading.py              how fast mixtures are made, stage by stage
loading_choices.py      which resampler, which convolution
loading_figures.py      these -> figures
show_loading.py         what a notebook displays of them
plain.py                the extractor written the obvious way, with the same weights
performance.py          forward passes against the machine's peak, length, batch and threads
versions.py             one training step in several ways, and its memory
step_parts.py           where the time of a training step goes
long_recordings.py      memory and time of extraction from long recordings
performance_figures.py  these -> figures
show_performance.py     what a notebook displays of them
show_conditioning.py    what a notebook displays of the use that arms make of the enrolment
show_gan.py             what a notebook displays of a fine-tuning against discriminators
old_path.py             the same mixtures in the ways that the plan replaces, to be compared with
"""
