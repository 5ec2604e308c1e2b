"""The work: counts words, and reports how far it is."""

from __future__ import annotations

from collections import Counter

from nuvom import current_job, task

REPORT_EVERY = 1000  # words


@task(retries=2, timeout_secs=600)
def count_words(text: str, most: int = 10) -> dict[str, int]:
    """Return the most frequent words of a text, the most frequent one first."""
    job, words = current_job(), text.lower().split()
    counts: Counter[str] = Counter()
    for done in range(0, len(words), REPORT_EVERY):
        counts.update(words[done : done + REPORT_EVERY])
        job.progress(min(done + REPORT_EVERY, len(words)), len(words), "counting")
    return dict(counts.most_common(most))
