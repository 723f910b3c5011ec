"""From a folder of recordings to a manifest and its audit page.

In: a folder of recordings.
Out: a manifest and its audit page.
May not import: studies or commands.

    recording.py  what one recording is, up to which frequency it holds sound, and why it cannot be used
    layouts.py    how corpora lie on disk
    prepare.py    a folder of recordings -> a manifest
    audit.py      the audit page of a manifest
    pack.py       recordings made small to travel, and back
"""
