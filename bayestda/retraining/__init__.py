"""Ground truths: leave-one-out, one more step, further training, replay, unrolling."""
