"""What work will cost before it starts: measured costs, jobs, and their schedule."""
