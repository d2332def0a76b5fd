"""One module for each group of rows that share a set-up: `measure` sets it up, measures, and checks."""
