"""What providers tell of their tasks: who really said it, and what it means. Moves no credits.

A scheme (`schemes`, `fal`) proves a delivery, a provider's own file reads it into an `Event`, and `providers`
is the list of them. `stripe` stands apart: it tells of payments, not of tasks.
"""
