"""Drawing: tables and arrays become matplotlib figures; nothing here computes a statistic."""
