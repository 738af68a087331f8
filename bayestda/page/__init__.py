"""Write a page to look at: anyone's scores in one HTML file that needs no network.

:func:`bayestda.page.from_scores.write_page` makes a page from scores and examples. It fills a
``Report`` (``model``), which ``rendering`` writes with the files of ``templates/``. ``pairs``,
``plan``, ``pictures`` and ``encoding`` bring scores and examples into few bytes, and ``payload``
puts them together. ``sections``, ``tables`` and ``drawings`` make what stands around the explorer.
"""
