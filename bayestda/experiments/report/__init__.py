"""A page to look at: everything about one experiment in one HTML file that needs no network.

``model`` says what a page shows; ``images`` and ``final`` read it for the two kinds of experiments,
``readable`` and ``runs`` say what is not there; ``pairs``, ``plan`` and ``encoding`` bring the
scores of its explorer into few bytes; ``sections``, ``tables``, ``drawings`` and ``page`` write it,
with the files of ``templates/``.
"""
