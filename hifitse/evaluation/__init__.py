"""From a run to one row per mixture, and from rows to means, paired differences and costs.

In: a run, or any callable (mix, enroll) -> est.
Out: rows, one per mixture, with their means and paired differences.
May not import: report or any later package.

perceptual.py  PESQ and STOI, in parallel processes
evaluate.py    run + fixed evaluation lists -> one row per mixture
score.py       the same rows, from the audio files of any system
rows.py        rows -> means and paired differences with confidence intervals
experiment.py  arms: train, evaluate, measure spectra below and above 8 kHz
comparison.py  a baseline and its variants, defined by declared changes
cost.py        the cost of a model: parameters, operations, memory, time
"""
