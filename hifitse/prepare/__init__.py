"""From a folder of recordings to a manifest and its audit page.

In: a folder of recordings.
Out: a manifest and its audit page.
May not import: studies or commands.

    recording.py  one recording -> measurements and true bandwidth, or the reason why it cannot be used
    layouts.py    how corpora are laid out on disk
    prepare.py    a folder of recordings -> a manifest
    audit.py      the audit page of a manifest
    pack.py       recordings packed for transport, and unpacked
"""
