"""Code that only one notebook uses: one module per notebook measures and displays its results. Small helpers of several share a module.

In: runs and rows.
Out: the displays and numbers of one notebook.
May not import: prepare or commands.

gan_finetune.py   01: fine-tuning a finished baseline, and which weights to keep
levers.py         05, 06, 07, 09: curricula, gradients of the loss terms, similar voices, combining what helped
data_loading.py   08: old against present data path, batched rendering, GPU rendering, waiting during training
performance.py    11: fast paths against plain formulas, mixture length, busy machines
diagnosis.py      12: faults of the plan's baseline, put back one by one, and faults of its test protocol
default_model.py  14: the default model under 21 conditions, against its aims
scaling.py        15: variants of the default recipe, each trained for the same time, and predictions for more hours
"""
