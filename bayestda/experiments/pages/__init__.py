"""Fill the pages of the papers' experiments from their results.

:mod:`bayestda.page` says what a page shows and writes it. ``images`` and ``final`` read it for the
two kinds of experiments; ``readable`` and ``runs`` say what is not there. ``sections``, ``tables``,
``drawings`` and ``words`` make what stands around the explorer.
"""
